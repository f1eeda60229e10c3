"""Handlers that mostly work, and sometimes fail, hang or talk much."""

import asyncio
from collections.abc import Mapping
from random import Random

from openaperture.domain.errors import MilestoneFailed
from openaperture.worker import Context
from tests.simulation.loop import Process


class Moods:
    """Handlers that mostly work, and sometimes fail, hang or talk much."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def __call__(self, context: Context, _process: Process) -> Mapping[str, str]:
        mood = self._chance.random()
        for _ in range(int(mood * 10) % 3):
            context.log("a line")
            await asyncio.sleep(self._chance.random())
        if mood < 0.06:
            raise MilestoneFailed("the handler is in a bad mood")
        if mood < 0.08:
            await asyncio.sleep(1_000.0)
        if mood < 0.2:
            context.notify("a sentence")
        await asyncio.sleep(self._chance.expovariate(1 / 3.0) if mood < 0.9 else 40.0)
        return {"made": context.milestone}
