"""An orchestrator with a defect: `python -m tests.fault.fragile MARK` ends at once when it decodes MARK."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from openaperture.app.core import open_core
from openaperture.app.engine import build_engine
from openaperture.config import load
from openaperture.observability.logs import open_log
from openaperture.ports import Message
from openaperture.runtime.supervisor import Supervisor

EXIT_CODE = 86


def dying_of(mark: bytes, decode: Callable[[Message], Any]) -> Callable[[Message], Any]:
    """As a decoder with a defect that takes the process along."""

    def decode_or_die(message: Message) -> Any:
        if mark in message.body:
            os._exit(EXIT_CODE)
        return decode(message)

    return decode_or_die


async def serve(mark: bytes) -> None:
    observer = open_log(None)
    settings = load(environ=os.environ)
    async with open_core(settings, observer) as core:
        fragile = replace(core, wire=replace(core.wire, decode=dying_of(mark, core.wire.decode)))
        engine = build_engine(fragile, fragile.broker(), None)
        await Supervisor(engine.services, observer, grace_seconds=20).run(handle_signals=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1].encode()))
