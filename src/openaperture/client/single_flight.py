"""One request instead of many equal ones at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SingleFlight:
    """The first caller with a key asks; those who come meanwhile share its answer, or its error.

    When the one who asks is cancelled, the next in line asks in its place.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Future[Any]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[T]]) -> T:
        """The answer to `question`. The same key must always stand for the same question."""
        while (flight := self._flights.get(key)) is not None:
            # `wait` leaves the flight alone when this caller is cancelled; awaiting it would cancel it for all.
            await asyncio.wait([flight])
            if not flight.cancelled():
                return cast("T", flight.result())
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await question()
        except Exception as exc:
            flight.set_exception(exc)
            flight.exception()  # marks it as seen: there may be nobody else to see it
            raise
        except BaseException:
            flight.cancel()
            raise
        else:
            flight.set_result(answer)
            return answer
        finally:
            del self._flights[key]
