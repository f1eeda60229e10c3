"""The log is one subscriber of the engine's events: one line per event, wording and level in one table.

What an event carries is masked where a name says that it is secret. Bodies of messages never come here.
"""

import logging
import re
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

QUIET = frozenset({"access.refused", "batch.settled", "milestone.note", "pool.passed_over"})
"""Events that are too many for a log at its usual level."""
WARNINGS = frozenset(
    {
        "admission.closed",
        "answer.unreadable",
        "answer.unsent",
        "approval.rejected",
        "approval.voided",
        "attempt.abandoned",
        "attempt.ended_late",
        "attempt.voided",
        "broker.blocked",
        "broker.disconnected",
        "broker.unflushed",
        "broker.unforgotten",
        "broker.waiting",
        "callback.forged",
        "consumer.dead_letter_failed",
        "consumer.lost",
        "consumer.waiting",
        "lock.denied",
        "lock.forced",
        "lock.kept",
        "manager.waiting",
        "membership.refused",
        "membership.unheard",
        "message.parked",
        "milestone.cancelled",
        "milestone.failed",
        "milestone.lost",
        "milestone.refused",
        "milestone.timed_out",
        "milestone.unclaimed",
        "milestone.undeliverable",
        "notice.dropped",
        "orchestrator.waiting",
        "pool.failed_over",
        "process.forced",
        "queue.silent",
        "record.deferred",
        "record.unwatched",
        "relay.unsettled",
        "relay.waiting",
        "request.deferred",
        "route.clusters_refused",
        "route.source_restriction",
        "route.workers_stale",
        "system_event.unsent",
        "timers.waiting",
        "worker.interrupting",
        "worker.waiting",
        "workflow.failed",
        "workflow.failing",
        "workflow.held",
    }
)
ERRORS = frozenset(
    {
        "audit.unwritten",
        "command.crashed",
        "decision.failed",
        "decision.refused",
        "handler.failed",
        "manager.failed",
        "message.failed",
        "record.refused",
        "relay.failed",
        "request.failed",
        "store.corrupt_row",
        "store.corrupt_workflow",
        "workflow.stranded",
    }
)

_SECRET_NAME = re.compile(r"token|secret|password|authorization|api_key", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+@")


class LogObserver:
    """Writes every event as one line: for people on a terminal, as JSON elsewhere."""

    def __init__(self, stream: TextIO, *, json_lines: bool) -> None:
        renderer = (
            structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=False)
        )
        self._logger: Any = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                renderer,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )

    def emit(self, name: str, /, **details: Any) -> None:
        self._logger.log(_level(name), name, **{key: shown(key, value) for key, value in details.items()})


def open_log(path: Path | None) -> LogObserver:
    """A log on standard error, or appended to a file as JSON lines."""
    if path is None:
        return LogObserver(sys.stderr, json_lines=not sys.stderr.isatty())
    path.parent.mkdir(parents=True, exist_ok=True)
    return LogObserver(path.open("a", buffering=1, encoding="utf-8"), json_lines=True)


def _level(name: str) -> int:
    if name in ERRORS:
        return logging.ERROR
    if name in WARNINGS:
        return logging.WARNING
    return logging.DEBUG if name in QUIET else logging.INFO


def shown(name: str, value: Any) -> Any:
    """The value as a log may hold it: secrets masked, errors in words."""
    if _SECRET_NAME.search(name):
        return "***"
    if isinstance(value, BaseException):
        value = _described(value)
    if isinstance(value, list | tuple):
        return ", ".join(str(shown(name, item)) for item in cast("list[object]", value))
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1:***@", value)
    return value if isinstance(value, int | float) or value is None else str(value)


def _described(error: BaseException) -> str:
    """An error of ours is a sentence; any other is our bug and keeps its traceback."""
    if type(error).__module__.startswith("openaperture."):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()
