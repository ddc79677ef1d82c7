"""`intarsia bench study` and `study-table`: ask people which picture is better, without telling who made which."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Json, Overwrite, command, reporting

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to write to.")]


def register_study(bench: typer.Typer) -> None:
    """Put both commands into the group."""
    bench.command("study")(study)
    bench.command("study-table")(study_table)


@command
def study(
    benchmark: Annotated[Path, typer.Argument(help="A folder that `intarsia bench build` or `tabletop` wrote.")],
    results: Annotated[Path, typer.Argument(help="A folder that `intarsia bench run` wrote.")],
    output: Output,
    method: Annotated[list[str] | None, typer.Option(help="To compare; two or more times.")] = None,
    questions: Annotated[int, typer.Option(help="How many are asked.")] = 30,
    participants: Annotated[
        int | None,
        typer.Option(help="They are numbered 1 to so many, and every two see mirrored sides. Default: any name."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="All methods in each question; else all pairs in turn.")
    ] = False,
    ask: Annotated[str | None, typer.Option(help="What is asked of the pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Which rows.")] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a page that shows people two methods' pictures of one place side by side, blind.

    Hand out OUTPUT/page, a folder that works from a file or any web server; keep OUTPUT/key.json.

    \b
    Examples:
      intarsia bench study tabletop/ results/ --method paper --method default -o study
      intarsia bench study-table study/key.json answers/ -o study/table
    """
    from intarsia.evaluation import bench

    with reporting(json) as reporter:
        chosen = {} if ask is None else {"ask": ask}
        key = bench.make_study(
            benchmark,
            results,
            output,
            method or [],
            questions=questions,
            participants=participants,
            together=together,
            seed=seed,
            overwrite=overwrite,
            **chosen,
        )
        reporter.done(
            f"{output}: {len(key.questions)} questions; hand out the folder {output / 'page'} (index.html), "
            f"keep {output / 'key.json'}",
            {
                "output": str(output),
                "study": key.study,
                "questions": len(key.questions),
                "methods": list(key.methods),
                "left_out": dict(key.left_out),
            },
        )


@command
def study_table(
    key: Annotated[Path, typer.Argument(help="The key.json of the study.")],
    answers: Annotated[list[Path], typer.Argument(help="Files that participants saved, or folders of them.")],
    output: Output,
    fastest: Annotated[
        float | None, typer.Option(help="Leave out whose median answer took fewer seconds. Default: 1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Count the answers to a study: Markdown, CSV, JSON and HTML, with intervals and a check of sides."""
    from intarsia.evaluation import bench

    with reporting(json) as reporter:
        chosen = {} if fastest is None else {"fastest": fastest}
        table = bench.tabulate_study(key, answers, seed=seed, **chosen)
        written = bench.write_study_tables(table, output, overwrite=overwrite)
        for one in table.left_out:
            reporter.warn(f"left out: {one.file}: {one.reason}")
        for warning in table.warnings:
            reporter.warn(warning)
        whole = [cell for cell in table.cells if (cell.task, cell.size) == ("all", "all")]
        last = [cell for cell in whole if cell.methods == whole[-1].methods]
        shares = ", ".join(f"{cell.method} {100 * cell.share:.1f} %" for cell in last)
        reporter.done(
            f"{written[0]}: {table.participants} participants, {len(table.left_out)} files left out; "
            f"preferred: {shares}",
            {
                "output": [str(path) for path in written],
                "participants": table.participants,
                "left_out": [asdict(one) for one in table.left_out],
                "sides": asdict(table.sides),
                "shares": [asdict(cell) for cell in whole],
            },
        )
