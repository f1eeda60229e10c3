"""The time of the process."""

import asyncio
import time


class SystemClock:
    """Clock of production: the monotonic clock and the event loop's sleep."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
