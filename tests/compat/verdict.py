"""What a `compat` case has to show. Every rule gives a line per fault: what was expected, and what was seen."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from tests.compat.elapsed import texts_within
from tests.compat.journal import NOTES_QUEUE, Published
from tests.compat.notation import differences, plain_of, shortened
from tests.compat.notes import is_of, missing_notes
from tests.compat.saves import FIELDS, steps_back, wrong_last, wrong_shapes
from tests.compat.trial import Trial

PASSED_ON = (
    *("id", "workflow_id", "deployment_repo", "deployment_repo_git_ref", "source_repo", "source_repo_git_ref"),
    *("source_commit_hash", "scheduled_start_time", "execute_options", "force_build"),
    *("build_messaging_exchange_id", "deploy_messaging_exchange_id", "etcd_token", "deployable_units"),
    *("notifications_config", "fleet_config", "aws_config", "ecs_task_definition"),
)
"""Fields of a request that the orchestrator does not touch."""
REQUEST_KEYS = FIELDS.union(
    PASSED_ON,
    ("workflow_start_time", "step_time", "orchestration_queue_name", "docker_build_etcd_token"),
    ("workflow_orchestration_exchange_id", "workflow_orchestration_broker_id"),
    ("notifications_exchange_id", "notifications_broker_id"),
)
NOTE_KEYS = frozenset({"is_success", "prefix", "message", "room_names"})
NO_PROPERTIES = (
    "content_type",
    "content_encoding",
    "headers",
    "message_id",
    "correlation_id",
    "expiration",
    "type",
)


def faults(trial: Trial) -> list[str]:
    """Everything that is wrong with what was seen so far, but for the fate of the delivery."""
    rules = (
        *(saves_hold, published_holds, requests_are_well_formed, notes_hold, notes_are_well_formed, email_holds),
        *(properties_hold, registration_holds, heartbeat_holds, login_holds, tokens_hold, elapsed_holds),
    )
    return [*trial.complaints, *(fault for rule in rules for fault in rule(trial))]


def fate_faults(trial: Trial) -> Iterator[str]:
    """Whether the delivery went where it should. Known when the orchestrator has ended."""
    final = trial.case.expect.get("final", "")
    should_die = final.startswith("reject")
    if trial.is_left:
        yield f"fate: expected {'a dead letter' if should_die else 'ack'}, seen the message still in the queue"
    elif final and trial.is_dead != should_die:
        expected, seen = ("a dead letter", "ack") if should_die else ("ack", "a dead letter")
        yield f"fate: expected {expected}, seen {seen}"


def saves_hold(trial: Trial) -> Iterator[str]:
    expected = trial.case.expect.get("puts", [])
    saves = trial.seen.saves
    yield from wrong_shapes(saves)
    yield from steps_back(saves)
    if expected and not _expected_messages(trial):
        yield from wrong_last(expected, saves, trial.start, "the end")
    for message in [*trial.seen.requests, *trial.seen.emails]:
        before = [save for save in saves if save.at <= message.at]
        yield from wrong_last(expected, before, trial.start, message.queue)


def published_holds(trial: Trial) -> Iterator[str]:
    """Each expected message was published once, and no other."""
    unmatched = [*trial.seen.requests, *trial.seen.emails]
    expected = _expected_messages(trial)
    for entry in expected:
        found = next((message for message in unmatched if message.queue == entry["queue"]), None)
        if found is None:
            queues = [message.routing_key for message in trial.seen.messages if message.queue != NOTES_QUEUE]
            yield f"published: expected {entry['routing_key']}, seen {queues or 'nothing'}"
            continue
        unmatched.remove(found)
        yield from _message_faults(trial, entry, found)
    if "published" in trial.case.expect:
        for message in unmatched:
            yield f"published: expected nothing else, seen {message.routing_key}"


def _expected_messages(trial: Trial) -> list[dict[str, Any]]:
    expect = trial.case.expect
    entries = [*expect.get("published", []), *expect.get("later", {}).get("published", [])]
    return [entry for entry in entries if entry["queue"] != "system_modules"]


def _message_faults(trial: Trial, entry: Mapping[str, Any], message: Published) -> Iterator[str]:
    what = f"published to {entry['queue']}"
    for key in ("exchange", "routing_key", "broker"):
        if key in entry and getattr(message, key) != entry[key]:
            yield f"{what}: expected {key} {entry[key]!r}, seen {getattr(message, key)!r}"
    payload = dict(entry.get("payload", {}))
    if "milestones" in payload:  # an old builder looks for the binary "deploy" in them, whatever came in
        payload["milestones"] = plain_of(payload["milestones"], trial.start)
    yield from differences({"$atomkeys": payload}, message.payload, trial.window(message.at), what)
    if "payload_key_set" in entry and set(message.fields) != set(entry["payload_key_set"]):
        yield f"{what}: expected the keys {entry['payload_key_set']!r}, seen {sorted(message.fields)!r}"


def requests_are_well_formed(trial: Trial) -> Iterator[str]:
    """Every request has the 35 keys, the types that old workers compute with, and what was not ours to change."""
    for message in trial.seen.requests:
        what, fields = f"published to {message.queue}", message.fields
        if set(fields) != REQUEST_KEYS:
            yield f"{what}: expected the 35 keys, seen others: {sorted(set(fields) ^ REQUEST_KEYS)!r}"
            continue
        for key in PASSED_ON:
            given = plain_of(trial.incoming.get(key), trial.start)
            if json.dumps(fields[key], sort_keys=True) != json.dumps(given, sort_keys=True):
                yield f"{what}.{key}: expected {given!r} as it came, seen {shortened(fields[key])}"
        if not all(isinstance(name, str) for name in fields["milestones"] or []):
            yield f"{what}.milestones: expected binaries, seen {fields['milestones']!r}"
        for key in ("workflow_start_time", "step_time"):
            given = fields[key]
            if given is not None and not (isinstance(given, dict) and len(given.get("$tuple", [])) == 3):
                yield f"{what}.{key}: expected a tuple of three integers, seen {given!r}"


def notes_hold(trial: Trial) -> Iterator[str]:
    expect, seen = trial.case.expect, trial.seen
    notes = seen.notes
    if "hipchat" in expect:
        # Texts with an elapsed time were made before the last of the notes was seen.
        end = seen.note_messages[-1].at if notes else trial.start
        yield from missing_notes(expect["hipchat"], notes, trial.window(end).seconds)
        log = (seen.saves[-1].body.get("event_log") or []) if seen.saves else []
        for note in notes:
            if note.entry not in log and not is_of("ecs_deploy_dispatched", note):
                yield f"event_log: expected {note.entry!r} in the last save, seen {shortened(log)}"
    for key, name in (("hipchat_prefix", "prefix"), ("hipchat_room_names", "room_names")):
        if key in expect:
            if not notes:
                yield f"notes: expected one with {name} {expect[key]!r}, seen none"
            for note in notes:
                if getattr(note, name) != expect[key]:
                    yield f"notes: expected {name} {expect[key]!r}, seen {getattr(note, name)!r}"


def notes_are_well_formed(trial: Trial) -> Iterator[str]:
    messages = trial.seen.note_messages
    for message in messages:
        if set(message.fields) != NOTE_KEYS:
            yield f"note: expected the atom keys {sorted(NOTE_KEYS)!r}, seen {shortened(message.payload)}"
    for entry in trial.case.expect.get("hipchat_messages", []):
        if not any(not list(_message_faults(trial, entry, message)) for message in messages):
            yield f"notes: expected one as {entry!r}, seen {shortened([message.payload for message in messages])}"


def email_holds(trial: Trial) -> Iterator[str]:
    expect, emails = trial.case.expect, trial.seen.emails
    if "email" not in expect:
        return
    wanted = expect["email"]
    if wanted is None or len(emails) != 1:
        if len(emails) != (wanted is not None):
            yield f"email: expected {'one' if wanted else 'none'}, seen {len(emails)}"
        return
    text = str(emails[0].fields.get("message"))
    words = text.split()
    for part in wanted.get("message_contains", []):
        if part not in words:
            yield f"email: expected {part} in the text, seen {text!r}"
    for part in wanted.get("message_excludes", []):
        if part in text:
            yield f"email: expected no {part} in the text, seen {text!r}"


def properties_hold(trial: Trial) -> Iterator[str]:
    """`mandatory` is no property: nobody can see it from outside, and it is what keeps messages from vanishing."""
    if "amqp_properties" not in trial.case.expect:
        return
    if not trial.seen.requests:
        yield "properties: expected a message, seen none"
    for message in trial.seen.messages:
        if message.properties.get("delivery_mode") != 2:
            yield f"properties: expected delivery_mode 2, seen {message.properties.get('delivery_mode')!r}"
        for name in NO_PROPERTIES:
            if message.properties.get(name) is not None:
                yield f"properties: expected no {name}, seen {message.properties[name]!r}"


def registration_holds(trial: Trial) -> Iterator[str]:
    for wanted in trial.case.expect.get("manager_requests", []):
        calls = [
            call for call in trial.group_calls if (call.method, call.path) == (wanted["method"], wanted["path"])
        ]
        if not any(not list(differences(wanted["body"], call.json, trial.window(call.at))) for call in calls):
            seen = [call.json for call in calls] or "none"
            yield f"start-up: expected {wanted['method']} {wanted['path']} {wanted['body']!r}, seen {seen}"


def heartbeat_holds(trial: Trial) -> Iterator[str]:
    for entry in trial.case.expect.get("published", []):
        if entry["queue"] != "system_modules":
            continue
        hostname = entry["payload"]["hostname"]
        beats = [beat for beat in trial.unattributed.messages if beat.fields.get("hostname") == hostname]
        if not beats:
            yield f"heartbeat: expected one to {entry['routing_key']}, seen none"
        for beat in beats:
            yield from _message_faults(trial, entry, beat)


def login_holds(trial: Trial) -> Iterator[str]:
    wanted = trial.case.expect.get("oauth")
    if wanted is None:
        return
    logins = [call for call in trial.group_calls if call.path == "/oauth/token"]
    others = [call for call in trial.group_calls if call.path != "/oauth/token"]
    if not logins or not others:
        yield f"oauth: expected a login and calls, seen {len(logins)} logins and {len(others)} calls"
    for call in logins:
        if call.method != wanted["method"] or call.json != wanted["json"]:
            yield f"oauth: expected {wanted['method']} {wanted['json']!r}, seen {call.method} {call.json!r}"
        yield from _header_faults(wanted["headers"], call.headers, "oauth")
    for call in others:
        headers = {
            name: re.sub(r"TOKEN\d+$", "TOKEN", value) for name, value in call.headers.items()
        }  # ours have numbers
        yield from _header_faults(trial.case.expect["manager_headers"], headers, f"{call.method} {call.path}")


def _header_faults(expected: Mapping[str, str], headers: Mapping[str, str], what: str) -> Iterator[str]:
    seen = {name.lower(): value for name, value in headers.items()}
    for name, value in expected.items():
        if seen.get(name.lower()) != value:
            yield f"{what}: expected the header {name}: {value}, seen {seen.get(name.lower())!r}"


def tokens_hold(trial: Trial) -> Iterator[str]:
    """A token is used while it has more than 30 s to live, and no new one is asked for before."""
    if "token_requests" not in trial.case.expect:
        return
    slack_seconds = 0.5
    asked, life = [call.at for call in trial.group_calls if call.path == "/oauth/token"], trial.case.given
    spare = life["oauth_response"]["expires_in"] - trial.case.expect["token_requests"][1]["at"]
    use_seconds = trial.stage.tables.token_seconds - spare
    if len(asked) < 2:
        yield f"tokens: expected a second one after {use_seconds} s of use, seen {len(asked)}"
    for before, after in pairwise(asked):
        if after - before < use_seconds - slack_seconds:
            yield f"tokens: expected use for {use_seconds} s, seen a new one after {after - before:.2f} s"
    for call in trial.group_calls:
        number = call.headers.get("Authorization", "").rpartition("TOKEN")[2]
        if number.isdigit() and call.at > asked[int(number) - 1] + use_seconds + slack_seconds:
            yield f"tokens: expected no use after {use_seconds} s, seen {call.at - asked[int(number) - 1]:.2f} s"


def elapsed_holds(trial: Trial) -> Iterator[str]:
    wanted = trial.case.expect.get("elapsed_text")
    if wanted is None:
        return
    if not trial.seen.saves:
        yield f"elapsed: expected {wanted} in a save, seen no save"
    for save in trial.seen.saves:
        possible = texts_within(trial.case.given["elapsed_seconds"], trial.window(save.at).seconds)
        seen = save.body.get("elapsed_workflow_time")
        if possible[0] != wanted or seen not in possible:
            yield f"elapsed: expected {wanted} (later {possible[1:]}), seen {seen!r}"
