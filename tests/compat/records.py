"""Records as an orchestrator without faults would leave them, made from the expectation of a case itself.

They show that the judges accept what they should, and, changed a little, that they refuse what they should.
"""

import json
from collections.abc import Mapping
from typing import Any

from openaperture.codecs.etf import Term, encode
from tests.compat.cases import Case, read_meta
from tests.compat.elapsed import elapsed_text
from tests.compat.journal import Call, Journal, Published, published
from tests.compat.manager import LOGIN_PATH, Tables
from tests.compat.notation import atom_map, plain_of
from tests.compat.saves import FIELDS, sum_of
from tests.compat.trial import Stage, Trial
from tests.compat.verdict import REQUEST_KEYS

SENTENCES: Mapping[str, str] = {
    "workflow_started": "The workflow starts",
    "milestone_started": "The milestone {step} starts",
    "milestone_completed": "The milestone {step} ended after {elapsed}",
    "workflow_completed": "The workflow completed after {elapsed}",
    "build_exchange_overridden": "The build goes to exchange {exchange} instead",
    "deploy_exchange_overridden": "The deploy goes to exchange {exchange} instead",
    "build_dispatched": "{step} was sent to exchange {exchange}, cluster {etcd_token}",
    "deploy_dispatched": "It was sent to exchange {exchange}, cluster {etcd_token}",
    "ecs_deploy_dispatched": "It was sent to exchange {exchange}",
    "milestone_failed": "The milestone {step} failed: {reason} {exchange} {etcd_token}",
    "workflow_failed": "The workflow failed after {elapsed}",
    "schedule_waiting": "It waits for {remaining} s",
    "schedule_due": "The schedule is due",
    "email_sent": "An e-mail goes to people",
}
REASONS: Mapping[str, str] = {
    "worker_reported_failure": "its worker said so",
    "no_build_clusters": "there is no cluster",
    "no_builders": "no builder there",
    "invalid_etcd_token": "etcd_token is empty",
    "cluster_without_exchange": "no exchange for the cluster",
    "no_deployers": "no deployer there",
    "no_ecs_deployers": "no deployer there",
}


class Nowhere:
    """Nothing is delivered when records are made."""

    def deliver(self, body: bytes) -> None:
        raise AssertionError(f"{body!r} was to be delivered")

    def bind_observer(self, exchange: str) -> None:
        raise AssertionError(f"{exchange} was to be bound")


def blank_trial(case: Case) -> Trial:
    """Of an orchestrator that did nothing."""
    tables = Tables(read_meta()["std"], token_seconds=33 if "token_requests" in case.expect else 3600)
    stage = Stage(group=case.group, tables=tables, journal=Journal(), post=Nowhere())
    return Trial(case=case, stage=stage, incoming=case.incoming)


def fulfilled(case: Case) -> Trial:
    """Of an orchestrator that did all that the case expects."""
    trial = blank_trial(case)
    trial.is_dead = case.expect.get("final", "").startswith("reject")
    for record in records_of(trial):
        trial.stage.journal.add(record)
    return trial


def records_of(trial: Trial) -> list[Call | Published]:
    notes = [_note(trial, entry) for entry in _note_entries(trial.case)]
    return [*start_up(trial), *notes, save(trial, notes), *_messages(trial)]


def save(trial: Trial, notes: list[Published], **changes: Any) -> Call:
    """One PUT that says what all expected ones add up to."""
    row = {name: plain_of(trial.incoming.get(name), trial.start) for name in FIELDS}
    body = row | {"current_step": row["current_step"] or "", **sum_of(trial.case.expect.get("puts", []))}
    if "elapsed_seconds" in trial.case.given:
        body["elapsed_workflow_time"] = elapsed_text(trial.case.given["elapsed_seconds"])
    entries = [f"{note.fields['prefix']} {note.fields['message']}" for note in notes]
    body["event_log"] = [*(trial.incoming.get("event_log") or []), *entries, *["more"] * 9]
    return call(trial, "PUT", f"/workflows/{trial.case.workflow_id}", body | changes, status=204)


def call(
    trial: Trial, method: str, path: str, body: Any, *, status: int = 201, at: float = 0.0, token: int = 1
) -> Call:
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "openaperture-manager-api",
        "Authorization": f"Bearer access_token=TOKEN{token}",
    }
    return Call(
        at=trial.start + at,
        group=trial.stage.group,
        method=method,
        path=path,
        query="",
        headers=headers,
        body=json.dumps(body).encode(),
        status=status,
    )


def start_up(trial: Trial) -> list[Call | Published]:
    login = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}
    module = {"hostname": "orc-1", "type": "workflow_orchestrator", "status": "active", "workload": []}
    found: list[Call | Published] = [call(trial, "POST", LOGIN_PATH, login, status=200)]
    found.append(call(trial, "POST", "/messaging/exchanges/1/modules", module))
    if "token_requests" in trial.case.expect:
        found.append(call(trial, "POST", LOGIN_PATH, login, status=200, at=3.0))
        found.append(call(trial, "GET", "/clusters", None, at=3.1, token=2))
    return found


def message(trial: Trial, entry: Mapping[str, Any], payload: Mapping[Any, Term]) -> Published:
    """Through the codec, as from the wire."""
    return published(
        broker=entry.get("broker", "1"),
        exchange=entry["exchange"],
        routing_key=entry["routing_key"],
        properties={"delivery_mode": 2},
        body=encode(dict(payload)),
    )


def request_fields(trial: Trial, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The 35 keys of a request, in the notation of the cases."""
    fields: dict[str, Any] = {key: trial.incoming.get(key) for key in REQUEST_KEYS} | dict(expected)
    fields["milestones"] = plain_of(fields["milestones"], trial.start)
    return {**fields, "event_log": ["an entry"] * 9}


def _messages(trial: Trial) -> list[Published]:
    expect = trial.case.expect
    entries = [*expect.get("published", []), *expect.get("later", {}).get("published", [])]
    if "amqp_properties" in expect:
        entries.append({"queue": "builder", "exchange": "AWS", "routing_key": "aws.us-east-1.builder"})
    made: list[Published] = []
    for entry in entries:
        payload = dict(entry.get("payload", {}))
        if entry["queue"] not in {"notifications_email", "system_modules"}:
            payload = request_fields(trial, payload)
        if entry["queue"] == "notifications_email":
            payload["message"] = _email_text(trial.case)
        made.append(message(trial, entry, atom_map(payload, trial.start)))
    if "email" in expect and expect["email"] and not made:
        where = {"exchange": "AWS", "routing_key": "aws.us-east-1.notifications_email"}
        made.append(
            message(trial, where, atom_map({"message": _email_text(trial.case), "prefix": ""} | _id(trial), 0))
        )
    return made


def _id(trial: Trial) -> dict[str, str]:
    return {"prefix": trial.case.workflow_id}


def _email_text(case: Case) -> str:
    return "\n".join(["Source:", *(case.expect.get("email") or {}).get("message_contains", []), case.workflow_id])


def _note_entries(case: Case) -> list[dict[str, Any]]:
    """A case that names no kinds and looks at notes all the same gets one."""
    given = case.expect.get("hipchat")
    if given is None and case.incoming:
        return [{"kind": "workflow_started", "is_success": True}]
    return list(given or [])


def _note(trial: Trial, entry: Mapping[str, Any]) -> Published:
    case = trial.case
    blank = dict.fromkeys(("step", "exchange", "etcd_token", "remaining"), "")
    reason = REASONS.get(entry.get("reason", ""), "")
    words = {**blank, "elapsed": "0 second(s)", **entry, "reason": reason}
    prefix = f"[OA][{case.workflow_id}][{case.incoming['deployment_repo'] or 'Unknown'}]"
    rooms = ((case.incoming.get("notifications_config") or {}).get("hipchat") or {}).get("room_names")
    where = {"exchange": "AWS", "routing_key": "aws.us-east-1.notifications_hipchat"}
    fields = {
        "is_success": entry["is_success"],
        "prefix": prefix,
        "message": SENTENCES[entry["kind"]].format(**words),
        "room_names": rooms,
    }
    return message(trial, where, atom_map(fields, trial.start))
