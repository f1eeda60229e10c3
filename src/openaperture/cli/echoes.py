"""What the history says twice: that something is asked for, and that the workflow waits for just that."""

from collections.abc import Iterable, Iterator

from openaperture.client.models import Event


class Echoes:
    """Knows a wait whose sentence was told by the event before it."""

    def __init__(self) -> None:
        self._last_text = ""

    def is_one(self, event: Event) -> bool:
        """To be asked of every event, in order."""
        repeated = event.kind == "workflow.waiting" and event.text == self._last_text
        self._last_text = event.text
        return repeated


def without_echoes(events: Iterable[Event]) -> Iterator[Event]:
    echoes = Echoes()
    return (event for event in events if not echoes.is_one(event))
