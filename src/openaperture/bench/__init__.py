"""The project's benchmark: the product beside a floor that does only the needed work, in one run.

Figures of different runs or machines say nothing beside each other; the ratios of one run do. The worker
runs in the same process in both, and its milestones do nothing.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from openaperture.bench.floor import Floor
from openaperture.bench.product import Product
from openaperture.bench.shapes import Shape, distributed, embedded
from openaperture.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of one shape. A workflow has three milestones."""

    shape: str
    workflows_per_second: float
    floor_workflows_per_second: float
    hop_seconds: float
    """Median from the end of one milestone at its worker to the start of the next, nothing else going on."""
    floor_hop_seconds: float

    @property
    def throughput_ratio(self) -> float:
        return self.workflows_per_second / self.floor_workflows_per_second

    @property
    def hop_ratio(self) -> float:
        return self.hop_seconds / self.floor_hop_seconds


async def measure(shape: Shape, *, workflows: int, hops: int) -> Figures:
    """The product and its floor after each other, each on fresh queues and tables."""
    rates: dict[str, float] = {}
    hop_seconds: dict[str, float] = {}
    for contestant in (Floor, Product):
        async with shape.open() as site, contestant.running(site) as running:
            rates[contestant.__name__] = workflows / await running.run(workflows)
            hop_seconds[contestant.__name__] = median(await running.hops(hops))
    return Figures(
        shape=shape.name,
        workflows_per_second=rates["Product"],
        floor_workflows_per_second=rates["Floor"],
        hop_seconds=hop_seconds["Product"],
        floor_hop_seconds=hop_seconds["Floor"],
    )


def main(settings: Settings, *, workflows: int, hops: int) -> Sequence[Figures]:
    """Measure the embedded shape, and the distributed one where settings name a broker and a database."""
    with tempfile.TemporaryDirectory(prefix="openaperture-bench-") as folder:
        shapes = [embedded(Path(folder))]
        if settings.broker != "embedded":
            shapes.append(distributed(settings.database, settings.broker))
        return [asyncio.run(measure(shape, workflows=workflows, hops=hops)) for shape in shapes]
