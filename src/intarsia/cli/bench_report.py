"""`intarsia bench report`: tables, plots and one page of what was scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Json, command, reporting


@command
def report(
    benchmark: Annotated[Path, typer.Argument(help="The folder of `intarsia bench build`.")],
    results: Annotated[Path, typer.Argument(help="The folder of `intarsia bench run`, scored.")],
    encoders: Annotated[str, typer.Option(help="Whose scores: tabletop, real, …")] = "tabletop",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write to (default: RESULTS/report/ENCODERS).")
    ] = None,
    json: Json = False,
) -> None:
    """Write report.html, the tables as Markdown, CSV and JSON, and a sheet of pictures, from scores alone.

    \b
    Example:
      intarsia bench report tabletop results
    """
    from intarsia.evaluation import bench

    with reporting(json) as reporter:
        opened = bench.Benchmark.open(benchmark)
        page = bench.write_report(opened, results, encoders=encoders, output=output, say=reporter.warn)
        reporter.done(str(page), {"report": str(page), "rows": len(opened.rows), "left_out": opened.left_out})


def register_report(bench: typer.Typer) -> None:
    """Add the command to the group."""
    bench.command("report")(report)
