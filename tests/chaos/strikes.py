"""What is done to which part, and how long it takes until the part works again."""

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.parts import Part
from tests.chaos.pulse import Pulse

PATIENCE_SECONDS = 120.0
"""A part that does not work for this long has not recovered."""
STANDS_STILL_SECONDS = {"orchestrator": 8.0, "worker": 3.0, "rabbitmq": 4.0, "postgresql": 4.0}
"""Longest SIGSTOP. An orchestrator's may outlive the leases on its rows; a worker's ends before it is missed."""
STARTUP_SECONDS = 2.0


class Blow(StrEnum):
    KILL = "kill -9"
    KILL_STARTING = "kill -9 while it starts"
    """Killed soon after the start, wherever in its start-up that is, then started again."""
    PAUSE = "SIGSTOP, SIGCONT"
    TERMINATE = "SIGTERM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    target: str
    blow: Blow


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What became of one strike. Seconds count from the blow; for SIGSTOP from the SIGCONT."""

    strike: Strike
    part: str
    works_seconds: float | None
    """Until the struck part did something useful again; None if it never did."""
    result_seconds: float | None
    """Until the next result was saved, by whomever."""
    exit_code: int = 0


def plan(counts: Mapping[tuple[str, Blow], int], chance: random.Random) -> list[Strike]:
    """All strikes, in an order of chance."""
    strikes = [Strike(target=target, blow=blow) for (target, blow), count in counts.items() for _ in range(count)]
    chance.shuffle(strikes)
    return strikes


@dataclass(slots=True)
class Striker:
    """Carries strikes out, one after the other. Several may be at work on different targets."""

    parts: Mapping[str, Sequence[Part]]
    """target -> its parts."""
    anybody: Sequence[str]
    """Names in the pulse of all that save results."""
    pulse: Pulse
    chance: random.Random
    stop: threading.Event
    pause_seconds: float = 0.5
    """Longest pause between two strikes."""
    done: list[Recovery] = field(default_factory=list[Recovery])
    failure: Exception | None = None
    """What ended the work early."""

    def carry_out(self, strikes: Sequence[Strike]) -> None:
        """Does not raise: it is the work of a thread."""
        try:
            for strike in strikes:
                # At any moment of the work, not always right after a recovery.
                if self.stop.wait(self.chance.uniform(0, self.pause_seconds)):
                    return
                part = self.chance.choice(self.parts[strike.target])
                self.done.append(self._strike(strike, part))
        except Exception as exc:  # noqa: BLE001 (told with the verdict)
            self.failure = exc
            self.stop.set()

    def _strike(self, strike: Strike, part: Part) -> Recovery:
        struck_at, exit_code = self._hit(strike, part)
        gone_at = self.pulse.now()
        if strike.blow is not Blow.PAUSE:
            part.start()
        works_at = self.pulse.first_after(part.signs, self._back_at(part, gone_at), PATIENCE_SECONDS)
        result_at = self.pulse.first_after(self.anybody, struck_at, PATIENCE_SECONDS)
        return Recovery(
            strike=strike,
            part=part.name,
            works_seconds=None if works_at is None else works_at - struck_at,
            result_seconds=None if result_at is None else result_at - struck_at,
            exit_code=exit_code,
        )

    def _hit(self, strike: Strike, part: Part) -> tuple[float, int]:
        """When recovery begins to count, and the exit code of a part that was told to end."""
        struck_at = time.monotonic()
        exit_code = 0
        match strike.blow:
            case Blow.KILL:
                part.kill()
            case Blow.KILL_STARTING:
                part.kill()
                part.start()
                time.sleep(self.chance.uniform(0, STARTUP_SECONDS))
                struck_at = time.monotonic()
                part.kill()
            case Blow.PAUSE:
                part.pause()
                time.sleep(self.chance.uniform(0.5, STANDS_STILL_SECONDS[strike.target]))
                struck_at = self.pulse.now()
                part.resume()
            case Blow.TERMINATE:
                exit_code = part.terminate()
        return struck_at, exit_code

    def _back_at(self, part: Part, gone_at: float) -> float:
        """From when on a sign of life is one of the part's new life.

        A server's signs are written by others, who may have had something to write from before: what counts
        is written after it answers again.
        """
        return gone_at if part.name in part.signs else self.pulse.now()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Strikes that one striker carries out while others do theirs."""

    parts: Mapping[str, Sequence[Part]]
    strikes: Sequence[Strike]


def lanes(strikes: Sequence[Strike], parts: Mapping[str, Sequence[Part]]) -> Iterator[Lane]:
    """One lane for each part, so that none is struck by two at once."""
    for target, members in parts.items():
        all_of_target = [strike for strike in strikes if strike.target == target]
        for number, part in enumerate(members):
            if of_part := all_of_target[number :: len(members)]:
                yield Lane(parts={target: [part]}, strikes=of_part)
