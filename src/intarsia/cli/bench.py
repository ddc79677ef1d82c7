"""`intarsia bench`: build a benchmark, run methods over it, score, report; a blind study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intarsia.cli.bench_build import register_build
from intarsia.cli.bench_report import register_report
from intarsia.cli.bench_score import register_score
from intarsia.cli.bench_study import register_study
from intarsia.cli.common import Device, Json, Model, NumberFormat, command, progress_bar, reporting
from intarsia.errors import KnobError

if TYPE_CHECKING:
    from intarsia.cli.common import Reporter
    from intarsia.evaluation import bench as benches

bench = typer.Typer(
    name="bench",
    no_args_is_help=True,
    help="Compare methods: build a benchmark, run it, score the pictures, report; or ask people (a blind study).",
    rich_markup_mode=None,
)

Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="cut_and_paste, text_only, dreambooth, dif, tas, paper, default, or a variant METHOD@field=value; "
        "several times. Default: these seven.",
    ),
]
Limit = Annotated[int | None, typer.Option(help="At most so many rows, the first ones.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes, each with its own subjects. Default: a CPU's cores, 1 on a GPU.")
]
LearnSteps = Annotated[int | None, typer.Option(help="Training steps of every method that learns.")]


@bench.command("run")
@command
def run(
    benchmark: Annotated[Path, typer.Argument(help="The folder that `bench build` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where results go; the same command there goes on.")],
    method: Methods = None,
    limit: Limit = None,
    subjects: Annotated[int | None, typer.Option(help="Only the first so many subjects.")] = None,
    per_subject: Annotated[int | None, typer.Option(help="Only the first so many rows of each subject.")] = None,
    workers: Workers = None,
    learn_steps: LearnSteps = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "auto",
    json: Json = False,
) -> None:
    """Paint every row with every method.

    Each result is one line and one picture. Rows that are done are not painted again, so a stopped run goes on;
    rows with errors are tried again.

    \b
    Examples:
      intarsia bench run bench/ -o results/
      intarsia bench run bench/ -o results/ --method paper --method default --limit 40
      intarsia bench run bench/ -o results/ --method paper@lam=0.3 --subjects 10 --per-subject 8
    """
    with reporting(json) as reporter:
        chosen = _methods(method)
        opened = _opened(benchmark, limit, reporter)
        for name, count in (("subjects", subjects), ("per-subject", per_subject)):
            if count is not None and count < 1:
                raise KnobError(f"--{name} {count} leaves nothing: give 1 or more")
        opened = opened.thinned(subjects or len(opened.rows), per_subject or len(opened.rows))
        options = _options(model, device, dtype, learn_steps)
        failed = _run(opened, output, chosen, options, _workers(workers, device), json, reporter)
        made = len(opened.rows) * len(chosen)
        reporter.done(
            f"{output}: {made - failed} of {made} results, {failed} with errors; next: intarsia bench score "
            f"{benchmark} {output}",
            {"output": str(output), "results": made - failed, "errors": failed, "left_out": opened.left_out},
        )


@bench.command("tabletop")
@command
def tabletop(
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder; the same command there goes on.")] = Path(
        "bench"
    ),
    method: Methods = None,
    subjects: Annotated[int, typer.Option(help="Held-out subjects.")] = 30,
    per_subject: Annotated[int, typer.Option(help="Rows of each, half identity, half editing.")] = 20,
    seed: Annotated[int, typer.Option(help="Of subjects and scenes.")] = 1,
    limit: Limit = None,
    sweeps: Annotated[
        bool, typer.Option("--sweeps/--no-sweeps", help="Also the curves over λ, LoRA strength and checkpoints.")
    ] = True,
    sweep_subjects: Annotated[int, typer.Option(help="How many subjects the curves use, the first ones.")] = 10,
    sweep_rows: Annotated[int, typer.Option(help="How many rows of each of them.")] = 8,
    workers: Workers = None,
    learn_steps: LearnSteps = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "auto",
    json: Json = False,
) -> None:
    """Rebuild the paper's tables on the rendered world, from nothing to one report.html.

    Builds 30 held-out subjects with 20 rows each, paints them with all methods, scores them with the held-out
    judges and writes tables, plots and pictures. A stopped run goes on where it was. `--limit 24` makes a smaller
    benchmark of its own, for a first table in minutes.

    \b
    Examples:
      intarsia bench tabletop --output first --limit 24 --no-sweeps
      intarsia bench tabletop --output bench
    """
    with reporting(json) as reporter:
        from intarsia.evaluation import bench as benches

        chosen, swept = _methods(method), benches.sweep_methods() if sweeps else []
        home, results = output / "benchmark", output / "results"
        if min(sweep_subjects, sweep_rows) < 1:
            raise benches.BenchError("--sweep-subjects and --sweep-rows must be 1 or more; --no-sweeps leaves them out")
        if limit is not None:
            subjects = min(subjects, max(2, math.ceil(limit / max(1, per_subject))))
            per_subject = min(per_subject, math.ceil(limit / subjects))
        _built(home, subjects, per_subject, seed, json, reporter)
        opened = _opened(home, limit, reporter)
        options = _options(model, device, dtype, learn_steps)
        count = _workers(workers, device)
        failed = _run(opened, results, chosen, options, count, json, reporter)
        if swept:
            part = opened.thinned(sweep_subjects, sweep_rows)
            failed += _run(part, results, swept, options, count, json, reporter)
        path = _scored_and_reported(opened, results, json, reporter)
        reporter.done(
            f"{path} ({failed} results have errors)",
            {"report": str(path), "errors": failed, "left_out": opened.left_out},
        )


register_build(bench)
register_score(bench)
register_report(bench)
register_study(bench)


def _methods(names: list[str] | None) -> list[benches.Method]:
    from intarsia.evaluation import bench as benches

    return [benches.method_of(name) for name in dict.fromkeys(names or benches.METHODS)]


def _opened(folder: Path, limit: int | None, reporter: Reporter) -> benches.Benchmark:
    from intarsia.evaluation import bench as benches

    if limit is not None and limit < 1:
        raise benches.BenchError(f"--limit {limit} leaves nothing: give 1 or more")
    opened = benches.Benchmark.open(folder)
    for fault in opened.faults[:20]:
        reporter.warn(f"left out {fault.row}: {fault.reason}")
    if len(opened.faults) > 20:
        reporter.warn(f"left out {len(opened.faults) - 20} more rows")
    return opened.limited(limit)


def _options(model: str, device: str, dtype: str, learn_steps: int | None) -> benches.RunOptions:
    from intarsia.evaluation import bench as benches

    budget = {} if learn_steps is None else {"steps": learn_steps}
    return benches.RunOptions(model=model, budget=budget, device=device, dtype=dtype)


def _workers(given: int | None, device: str) -> int:
    import os

    if given is not None:
        return given
    from intarsia.editing import choose_device

    return os.cpu_count() or 1 if str(choose_device(device)) == "cpu" else 1


def _run(
    benchmark: benches.Benchmark,
    output: Path,
    methods: list[benches.Method],
    options: benches.RunOptions,
    workers: int,
    json: bool,
    reporter: Reporter,
) -> int:
    from intarsia.cli.common import hush_libraries
    from intarsia.evaluation import bench as benches

    hush_libraries()
    with progress_bar("paint", json) as advance:
        return benches.run_benchmark(
            benchmark, output, methods, options, workers=workers, progress=advance, say=reporter.say
        )


def _built(folder: Path, subjects: int, per_subject: int, seed: int, json: bool, reporter: Reporter) -> None:
    """Render the benchmark, unless it is there already, and the same one."""
    from intarsia.evaluation import bench as benches

    wanted = {"seed": seed, "subjects": subjects, "per_subject": per_subject}
    if (folder / "benchmark.json").exists():
        kept = benches.Benchmark.open(folder, check_files=False)
        other = [name for name, value in wanted.items() if kept.settings.get(name) != value]
        if other:
            raise benches.BenchError(
                f"{folder} holds a benchmark with another {', '.join(other).replace('_', ' ')}: choose another output"
            )
        return
    with progress_bar("render", json) as advance:
        benches.make_tabletop(
            folder,
            subjects=subjects,
            per_subject=per_subject,
            seed=seed,
            progress=lambda done, total: advance(done, total, ""),
        )
    reporter.say(f"{folder}: {subjects * per_subject} rows")


def _scored_and_reported(benchmark: benches.Benchmark, results: Path, json: bool, reporter: Reporter) -> Path:
    from intarsia.evaluation import bench as benches

    with progress_bar("score", json) as advance:
        benches.score_results(benchmark, results, progress=advance)
    return benches.write_report(benchmark, results, say=reporter.warn)
