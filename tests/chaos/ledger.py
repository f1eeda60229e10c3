"""What workers write down of what they did, one line for each effect."""

from dataclasses import dataclass
from pathlib import Path

QUEUES = ("builder", "deployer")
"""Where builds and deploys are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One line of a ledger: that a milestone was really done."""

    key: str
    """The idempotency key of the milestone."""
    workflow_id: str
    milestone: str
    generation: int
    number: int

    def line(self) -> bytes:
        fields = (self.key, self.workflow_id, self.milestone, str(self.generation), str(self.number))
        return (" ".join(fields) + "\n").encode()


def read_ledger(path: Path) -> list[Effect]:
    """All effects of a file. The last line is left out unless it is whole."""
    effects: list[Effect] = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            key, workflow_id, milestone, generation, number = line.split()
            effects.append(
                Effect(
                    key=key,
                    workflow_id=workflow_id,
                    milestone=milestone,
                    generation=int(generation),
                    number=int(number),
                )
            )
    return effects
