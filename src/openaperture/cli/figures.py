"""Shows what `bench` measured."""

from collections.abc import Sequence

from rich.table import Table

from openaperture.bench import Figures, main
from openaperture.cli.exits import ExitCode
from openaperture.cli.terminal import Style, open_console, show_json
from openaperture.config import Settings


def bench(settings: Settings, style: Style, *, workflows: int, hops: int) -> ExitCode:
    """Measure, then print a table with the ratios, or a JSON array."""
    figures = main(settings, workflows=workflows, hops=hops)
    if style is Style.JSON:
        show_json([_document(shape) for shape in figures])
    else:
        open_console(style).print(_table(figures))
    return ExitCode.COMPLETED


def _table(figures: Sequence[Figures]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("SHAPE")
    for heading in ("WORKFLOWS/S", "FLOOR", "RATIO", "HOP ms", "FLOOR ms", "RATIO"):
        table.add_column(heading, justify="right")
    for shape in figures:
        table.add_row(
            shape.shape,
            f"{shape.workflows_per_second:,.0f}",
            f"{shape.floor_workflows_per_second:,.0f}",
            f"{shape.throughput_ratio:.2f}",
            f"{shape.hop_seconds * 1000:.2f}",
            f"{shape.floor_hop_seconds * 1000:.2f}",
            f"{shape.hop_ratio:.2f}",
        )
    return table


def _document(shape: Figures) -> dict[str, str | float]:
    return {
        "shape": shape.shape,
        "workflows_per_second": shape.workflows_per_second,
        "floor_workflows_per_second": shape.floor_workflows_per_second,
        "throughput_ratio": shape.throughput_ratio,
        "hop_seconds": shape.hop_seconds,
        "floor_hop_seconds": shape.floor_hop_seconds,
        "hop_ratio": shape.hop_ratio,
    }
