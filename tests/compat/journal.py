"""What the orchestrator was seen to do, in the order in which it was seen. Threads write; threads wait for it."""

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openaperture.codecs.etf import decode
from openaperture.domain.errors import CodecError
from tests.compat.notation import notation_of
from tests.compat.notes import Note
from tests.compat.saves import Save

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NOTES_QUEUE, EMAIL_QUEUE, HEARTBEAT_QUEUE = "notifications_hipchat", "notifications_email", "system_modules"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An HTTP request, and the status that it got."""

    at: float
    group: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """None when the body is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A message that came out of an exchange."""

    at: float
    broker: str
    exchange: str
    routing_key: str
    properties: Mapping[str, Any]
    body: bytes
    payload: Any
    """In the notation of the cases; None when the body is no term."""

    @property
    def queue(self) -> str:
        """The logical queue: the last part of the routing key."""
        return self.routing_key.rpartition(".")[2]

    @property
    def fields(self) -> Mapping[str, Any]:
        """The map with atom keys that every message is; empty when it is none."""
        found = self.payload.get("$atomkeys") if isinstance(self.payload, dict) else None
        return found if isinstance(found, dict) else {}


def published(
    *, broker: str, exchange: str, routing_key: str, properties: Mapping[str, Any], body: bytes
) -> Published:
    """A message that was just seen, decoded as far as it can be."""
    try:
        payload = notation_of(decode(body))
    except CodecError:
        payload = None
    return Published(
        at=time.time(),
        broker=broker,
        exchange=exchange,
        routing_key=routing_key,
        properties=properties,
        body=body,
        payload=payload,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was seen of one workflow."""

    calls: Sequence[Call] = ()
    messages: Sequence[Published] = ()

    @property
    def saves(self) -> list[Save]:
        """Those that the Manager took."""
        return [
            Save(at=call.at, body=call.json) for call in self.calls if call.method == "PUT" and call.status == 204
        ]

    @property
    def refused_saves(self) -> list[Call]:
        return [call for call in self.calls if call.method == "PUT" and call.status != 204]

    @property
    def events(self) -> list[Any]:
        """System events that name the workflow."""
        return [call.json for call in self.calls if call.path == "/system_events"]

    @property
    def note_messages(self) -> list[Published]:
        return [message for message in self.messages if message.queue == NOTES_QUEUE]

    @property
    def notes(self) -> list[Note]:
        keys = ("is_success", "prefix", "message", "room_names")
        return [Note(**{key: message.fields.get(key) for key in keys}) for message in self.note_messages]

    @property
    def emails(self) -> list[Published]:
        return [message for message in self.messages if message.queue == EMAIL_QUEUE]

    @property
    def requests(self) -> list[Published]:
        """Workflow requests: to workers and to orchestrators."""
        apart = {NOTES_QUEUE, EMAIL_QUEUE, HEARTBEAT_QUEUE}
        return [message for message in self.messages if message.queue not in apart]

    def dispatched_to(self, *queues: str) -> list[Published]:
        return [message for message in self.requests if message.queue in queues]


class Journal:
    """Records by workflow; what names none is under the empty id."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._seen: defaultdict[str, list[Call | Published]] = defaultdict(list)
        self._changed: defaultdict[str, threading.Condition] = defaultdict(lambda: threading.Condition(self._lock))

    def add(self, record: Call | Published) -> None:
        """The first workflow id in it says whose it is."""
        text = record.path.encode() if isinstance(record, Call) else b""
        found = _UUID.search(text) or _UUID.search(record.body)
        workflow_id = found.group().decode() if found else ""
        with self._lock:
            self._seen[workflow_id].append(record)
            self._changed[workflow_id].notify_all()

    def of(self, workflow_id: str = "") -> Seen:
        with self._lock:
            records = list(self._seen[workflow_id])
        return Seen(
            calls=[record for record in records if isinstance(record, Call)],
            messages=[record for record in records if isinstance(record, Published)],
        )

    def calls_of_group(self, group: str) -> list[Call]:
        """Every request that the processes of a group made."""
        with self._lock:
            records = [record for found in self._seen.values() for record in found]
        calls = [record for record in records if isinstance(record, Call) and record.group == group]
        return sorted(calls, key=lambda call: call.at)

    def wait(self, workflow_id: str, holds: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait until it holds; looks again after every record of that workflow."""
        with self._lock:
            return self._changed[workflow_id].wait_for(holds, timeout_seconds)
