"""What decisions leave to be done: which rows, in which order, and what waits for the Manager."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openaperture.codecs import etf, terms
from openaperture.codecs import json as json_codec
from openaperture.codecs.etf import Atom, Term
from openaperture.codecs.notices import JsonNotices, TermNotices
from openaperture.domain import events as e
from openaperture.domain.decide import decide
from openaperture.domain.errors import BadMessage
from openaperture.domain.messages import OriginalMessage
from openaperture.domain.milestones import table_of
from openaperture.domain.releases import Release
from openaperture.domain.routes import Route
from openaperture.domain.workflow import State, Wire, Workflow
from openaperture.engine.intake import item_of
from openaperture.engine.originals import recorded_fields
from openaperture.engine.outbox import EMAIL_QUEUE, NOTES_QUEUE, OutboxWriter
from openaperture.engine.ports import NoticeWriter
from openaperture.engine.requests import Identity, RequestBuilder
from openaperture.engine.tokens import TokenMint
from openaperture.ports import Address, Change, OutboxRow, RowKind
from openaperture.stores.commit import rows_of
from tests.property.test_etf import terms as any_term

NOW = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
KINDS = table_of()
MINT = TokenMint("a key of these tests")
ID = "0b1c6b34-6fa3-4f0e-9f6b-0c6d1d1f2a3b"
EMAIL = {"email": {"events": {"on_workflow_completed": ["ann@example.test"]}}}
ROUTE = Route(broker_id="1", exchange_id="1", exchange="AWS", routing_key="aws.builder")


def writer(
    *, notices: NoticeWriter | None = None, records: bool = False, ui_url: str | None = None
) -> OutboxWriter:
    identity = Identity(callback=Address(routing_key="ours"), exchange_id="1", broker_id="1")
    requests = RequestBuilder(
        identity, MINT, KINDS, json_codec.encode, terms.encode_workflow, looks_up_routes=records
    )
    return OutboxWriter(requests, notices=notices, records=records, ui_url=ui_url)


def written(writing: OutboxWriter, workflow: Workflow, *events: e.Event) -> tuple[Workflow, list[OutboxRow]]:
    """The workflow after these events, and all rows as they are committed."""
    rows: list[OutboxRow] = []
    for event in events:
        decision, new = writing.write(workflow, decide(workflow, event, NOW, KINDS), NOW)
        workflow, rows = decision.workflow, rows + new
    return workflow, writing.complete(workflow, rows, workflow.version + 1)


def asked(*milestones: str, **fields: Any) -> Workflow:
    return Workflow(id=ID, release=Release(milestones=milestones, deployment_repo="team/shop"), **fields)


def kinds_of(rows: list[OutboxRow]) -> list[str]:
    return [row.kind.value for row in rows]


def test_without_a_manager_elsewhere_a_workflow_of_ours_leaves_its_request_and_no_log() -> None:
    workflow, rows = written(writer(), asked("build"), e.StartRequested())
    assert kinds_of(rows) == ["request"]
    assert (rows[0].id, rows[0].version, rows[0].held) == (f"{ID}.0.0.1", 1, False)
    assert workflow.event_log == ()


def test_a_manager_elsewhere_is_asked_for_the_way_first_and_not_yet_told() -> None:
    _, rows = written(writer(records=True), asked("build"), e.StartRequested())
    assert kinds_of(rows) == ["route"]
    assert not rows[0].held


def test_a_request_is_held_until_its_version_is_recorded() -> None:
    running, _ = written(writer(records=True), asked("build"), e.StartRequested())
    key = running.live[0].key
    workflow, rows = written(writer(records=True), replace(running, version=4), e.Routed(key=key, route=ROUTE))
    assert kinds_of(rows) == ["request", "record"]
    assert [(row.version, row.held) for row in rows] == [(5, True), (5, False)]
    assert rows[1].id == f"{ID}.record"
    assert json_codec.decode_request(rows[0].body).current_step == "build"
    assert workflow.event_log[-1].endswith("sent to exchange 1")


def test_notes_go_out_at_once_and_the_e_mail_waits_for_the_record() -> None:
    writing = writer(notices=JsonNotices(), records=True)
    workflow, rows = written(writing, asked(notifications_config=EMAIL), e.StartRequested())
    assert workflow.state is State.COMPLETED
    held = {row.queue: row.held for row in rows}
    assert held == {NOTES_QUEUE: False, EMAIL_QUEUE: True, "": False}
    assert len({row.id for row in rows}) == len(rows)
    assert workflow.event_log[-1].endswith("e-mail sent to ann@example.test")


def test_the_e_mail_is_sent_once_whatever_comes_after_the_end() -> None:
    writing = writer(notices=TermNotices())
    ended, rows = written(writing, asked(notifications_config=EMAIL), e.StartRequested())
    assert [row.queue for row in rows].count(EMAIL_QUEUE) == 1
    _, rows = written(writing, ended, e.StartRequested(), e.CancelRequested(by="ann"))
    assert rows == []


@pytest.mark.parametrize("notices", [JsonNotices(), TermNotices()])
def test_a_note_for_every_entry_that_people_are_told_of(notices: NoticeWriter) -> None:
    workflow, rows = written(writer(notices=notices), asked("build"), e.StartRequested())
    assert kinds_of(rows) == ["notice", "notice", "request"]
    assert {row.content_type for row in rows[:2]} == {notices.content_type}
    assert [line.partition("] ")[2] for line in workflow.event_log] == [
        "workflow started",
        "milestone build started",
    ]


def test_a_workflow_that_fails_to_be_found_by_a_route_is_recorded_with_nothing_to_do() -> None:
    running, _ = written(writer(records=True), asked("build"), e.StartRequested())
    refused = e.RouteRefused(key=running.live[0].key, condition="no_builders", reason="there is no builder")
    workflow, rows = written(writer(records=True), running, refused)
    assert workflow.state is State.FAILED
    assert kinds_of(rows) == ["record"]


# ------------------------------------------------------------------------------- whatever a message holds

likely: st.SearchStrategy[Term] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["config", "build", "deploy", "scheduled", "nobody", ""]).map(str.encode),
    st.sampled_from(["build", "deploy", "nobody"]).map(Atom),
    st.lists(st.sampled_from([b"config", b"build", b"scheduled", b"nobody"]), max_size=4),
    st.tuples(st.integers(0, 300_000), st.integers(0, 999_999), st.integers(0, 999_999)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(str.encode),
    st.dictionaries(st.sampled_from([b"hipchat", b"email", b"force_build"]), any_term, max_size=3),
)


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(OriginalMessage.__struct_fields__), likely, max_size=8),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_is_taken_as_a_message_can_be_decided_and_written(chain: list[Mapping[str, Term]]) -> None:
    """One message after another to one workflow; none of them stops the loop."""
    writing = writer(notices=TermNotices(), records=True, ui_url="https://ui.test")
    workflow: Workflow | None = None
    for fields in chain:
        body = etf.encode({Atom(key): value for key, value in {**fields, "id": ID.encode()}.items()})
        try:
            item = item_of(terms.decode(body), None, MINT)
        except BadMessage:
            continue
        assert item.seed is not None
        workflow, rows = written(writing, workflow or item.seed, item.event)
        for attempt in workflow.live:
            workflow, rows = written(writing, workflow, e.Routed(key=attempt.key, route=ROUTE))
        workflow = replace(workflow, version=workflow.version + 1)
        assert workflow.wire is Wire.TERMS
        assert msgspec.json.decode(msgspec.json.encode(recorded_fields(workflow, NOW)))["id"] == ID
        assert (
            rows_of(Change(workflow=workflow, expected_version=workflow.version - 1, outbox=rows), "") is not None
        )
        assert all(row.kind is not RowKind.REQUEST or terms.decode(row.body).id == ID for row in rows)
