"""`intarsia data pipe`, `calibrate`, `survival`, `probe`, `parquet` and `removals`: pairs for learning to add."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.common import Device, Json, NumberFormat, Overwrite, command, progress_bar, reporting
from intarsia.errors import KnobError

if TYPE_CHECKING:
    from intarsia.engines import pairs

_SCORERS = {"truth": "towers:miniature", "models": "clip:openai/clip-vit-base-patch32"}
_REMOVER = "studio:sdxl-inpaint"
_WITH_A_MODEL = ("prescore", "remove", "judge", "importance")
_EMPTY_TABLE = "an empty table"

Run = Annotated[Path, typer.Argument(help="The output of `intarsia data pipe`.")]
Cut = Annotated[Path | None, typer.Option(help="By the selection of `intarsia data recut`.")]


@command
def pipe(
    photos: Annotated[Path, typer.Argument(help="A folder of photos; folders in it count as well.")],
    masks: Annotated[str, typer.Argument(help="A folder of their masks, or - where annotations hold them.")],
    output: Annotated[Path, typer.Argument(help="The folder to write to; the same command there goes on.")],
    preset: Annotated[str, typer.Option(help="best, or paper.")] = "best",
    annotations: Annotated[
        list[str] | None,
        typer.Option(help="coco:FILE, lvis:FILE, refcoco:FILE, open-images:FILE, or tabletop; several times."),
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Of masks whose class nothing names.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="A file of picture ids to hold out, one a line.")] = None,
    candidates: Annotated[int, typer.Option(help="Removals of each thing.")] = 3,
    remover: Annotated[str | None, typer.Option(help="studio:MODEL, or truth:FOLDER (of `data removals`).")] = None,
    removal_words: Annotated[str | None, typer.Option(help="paper, or model (the model's own words).")] = None,
    removal_steps: Annotated[int, typer.Option(help="Steps of a removal.")] = 10,
    removal_batch: Annotated[int, typer.Option(help="Things removed together where windows are equal in size.")] = 1,
    dtype: NumberFormat = "float32",
    scorer: Annotated[str | None, typer.Option(help="clip:MODEL, or towers:MODEL (of a backbone).")] = None,
    describer: Annotated[str | None, typer.Option(help="openai:URL#MODEL, truth, or none.")] = None,
    writer: Annotated[str | None, typer.Option(help="openai:URL#MODEL, template, or none.")] = None,
    noise: Annotated[float, typer.Option(help="Of truth helpers: how often each is wrong.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of truth helpers.")] = 0,
    decoys: Annotated[float | None, typer.Option(help="Share of pairs with a second painted place.")] = None,
    codec: Annotated[str | None, typer.Option(help="png, or jpeg.")] = None,
    all_candidates: Annotated[
        bool, typer.Option("--all", help="Remove things, too, that fall by what is known before.")
    ] = False,
    thresholds: Annotated[str | None, typer.Option(help="A YAML file, best, paper or tabletop.")] = None,
    least_side: Annotated[int, typer.Option(help="Smaller pictures are left out, px.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes (or actors of Ray) at once.")] = 1,
    runner: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    shard_size: Annotated[int, typer.Option(help="Instances in a shard.")] = 64,
    gpus: Annotated[float, typer.Option(help="GPU share that each step with a model asks Ray for.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, how long, at what cost.")] = False,
    sample: Annotated[int, typer.Option(help="Rows that a dry run tries.")] = 8,
    price: Annotated[float | None, typer.Option(help="Of an hour of a worker, for a dry run.")] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make pairs (source without a thing, instruction, target with it) of photos with instance masks.

    Remove each thing several times, score the removals, take the best, blend it into the photo, write instructions, cut
    by thresholds. Killed and started again, it goes on where it was and ends with the same files.

    \b
    Examples:
      intarsia data tabletop scenes --count 100 --side 96
      intarsia data pipe scenes - out
      intarsia data pipe coco/val2017 - out --annotations coco:instances_val2017.json --dtype float16
      intarsia data pipe photos masks out --class mug --dry-run
    """
    from intarsia.engines import pairs

    with reporting(json) as reporter:
        if runner not in ("local", "ray"):
            raise KnobError(f"the runner is {runner!r}; use local or ray")
        rendered = _rendered(photos, masks, annotations)
        given = {"decoys": decoys, "codec": codec, "empty_words": _EMPTY_TABLE if rendered else None}
        changes = {name: value for name, value in given.items() if value is not None}
        options = pairs.PairOptions.preset(preset, candidates=candidates, gate=not all_candidates, **changes)
        words = removal_words or ("paper" if preset == "paper" and not rendered else "model")
        windows = options.candidates + (options.decoys > 0)
        tools = _tools(
            photos,
            rendered,
            noise,
            seed,
            device,
            scorer,
            remover,
            words,
            removal_steps,
            windows,
            dtype,
            describer,
            writer,
        )
        arguments: dict[str, Any] = {
            "annotations": tuple(annotations or ()),
            "class_name": class_name,
            "exclude": _lines(exclude),
            "thresholds": thresholds or ("tabletop" if rendered else preset),
            "least_side": least_side,
            "removal_batch": removal_batch,
            "runner": runner,
            "workers": workers,
            "shard_size": shard_size,
            "gpus": gpus,
            "overwrite": overwrite,
        }
        places = (photos, None if masks == "-" else Path(masks), output, tools, options)
        if dry_run:
            plan = pairs.plan_pairs(*places, sample=sample, price_per_hour=price, **arguments)
            unsure = plan.rarely_tried(_WITH_A_MODEL)
            if unsure and plan.sampled:
                told = ", ".join(f"{step.name} saw {step.rows}" for step in unsure)
                reporter.warn(f"of {plan.sampled} rows tried {told}: time and cost are unsure; raise --sample")
            reporter.done(str(plan), plan.to_json())
            return
        with progress_bar("data", json) as advance:
            report = pairs.run_pairs(
                *places,
                progress=lambda now: advance(now.source_rows_done, now.source_rows, f"data, {now.kept} pairs"),
                **arguments,
            )
        if report.run.quarantined:
            reporter.warn(f"{report.run.quarantined} rows are quarantined; see: intarsia data funnel {output}")
        if report.away:
            reporter.warn(
                f"the language model did not answer for {report.away} rows, which have class instructions only"
            )
        made = pairs.survival(output)
        if not json:
            reporter.say(str(made))
            reporter.say(report.run.rates_table())
        reporter.done(
            f"{output}: {report.run.kept} pairs of {report.run.source_rows} instances, {report.run.rejected} rejected, "
            f"{report.run.quarantined} quarantined",
            {
                "output": str(output),
                "seconds": report.run.seconds,
                **report.run.funnel.to_json(),
                "notes": dict(report.notes),
                "survival": made.to_json(),
                "rates": {rate.name: rate.to_json() for rate in report.run.rates},
            },
        )


@command
def calibrate(
    run: Run,
    labels: Annotated[Path, typer.Argument(help="A CSV file: key, success (1 or 0).")],
    plot: Annotated[Path | None, typer.Option(help="Draw the curves into this PNG.")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="Write the chosen thresholds into this YAML file.")] = None,
    scores: Annotated[str | None, typer.Option(help="Only these, with commas between them.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Sweep thresholds against labels: what share of the kept removals succeeded, against how many are rejected."""
    from intarsia.engines import pairs
    from intarsia.imaging import check_writable, write_file_atomically

    with reporting(json) as reporter:
        for path in (plot, thresholds):
            if path is not None:
                check_writable(path, overwrite=overwrite)
        chosen = {} if scores is None else {"scores": tuple(name.strip() for name in scores.split(","))}
        found = pairs.calibrate(run, pairs.read_labels(labels), **chosen)
        if plot is not None:
            pairs.draw_calibration(found).save(plot, overwrite=overwrite)
        if thresholds is not None:
            write_file_atomically(thresholds, found.thresholds_yaml().encode(), overwrite=overwrite)
        reporter.done(found.thresholds_yaml().rstrip(), found.to_json())


@command
def survival(run: Run, cut: Cut = None, json: Json = False) -> None:
    """Say how many instances each stage leaves, beside the paper's Table S8."""
    from intarsia.engines import pairs

    with reporting(json) as reporter:
        found = pairs.survival(run, cut=cut)
        reporter.done(str(found), found.to_json())


@command
def probe(
    run: Run,
    cut: Cut = None,
    most: Annotated[int, typer.Option(help="How many pairs are looked at.")] = 2000,
    json: Json = False,
) -> None:
    """Try to find the painted places: 0.5 means that the sources do not give them away."""
    from intarsia.engines import pairs

    with reporting(json) as reporter:
        found = pairs.probe_edits(pairs.read_pairs(run, cut=cut), most=most)
        low, high = found.where_interval
        reporter.done(
            f"edit_detection_auc {found.where:.3f} [{low:.3f}, {high:.3f}] of {found.pairs} pairs", found.to_json()
        )


@command
def parquet(
    run: Run,
    output: Annotated[Path, typer.Argument(help="The folder to write to.")],
    cut: Cut = None,
    rows_per_file: Annotated[int, typer.Option(help="Pairs in a file.")] = 1000,
    json: Json = False,
) -> None:
    """Write the kept pairs as Parquet files with the columns of the published PIPE data set."""
    from intarsia.engines import pairs

    with reporting(json) as reporter:
        written = pairs.write_parquet(run, output, cut=cut, rows_per_file=rows_per_file)
        names = [str(path) for path in written]
        reporter.done(f"{output}: {len(names)} files", {"output": str(output), "files": names})


@command
def removals(
    scenes: Annotated[Path, typer.Argument(help="A folder of `intarsia data tabletop`.")],
    output: Annotated[Path, typer.Argument(help="The folder to write to.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Render scenes without each of their things: the truth of removal."""
    from intarsia.evaluation import write_removals

    with reporting(json) as reporter:
        made = write_removals(scenes, output, overwrite)
        reporter.done(f"{output}: {made} scenes rendered now", {"output": str(output), "rendered": made})


def register(app: typer.Typer) -> None:
    """Add the commands to `intarsia data`."""
    for one in (pipe, calibrate, survival, probe, parquet, removals):
        app.command()(one)


def _rendered(photos: Path, masks: str, annotations: list[str] | None) -> bool:
    from intarsia.engines import pairs

    return "tabletop" in (annotations or ()) or (masks == "-" and not annotations and pairs.has_truth(photos))


def _tools(
    photos: Path,
    rendered: bool,
    noise: float,
    seed: int,
    device: str,
    scorer: str | None,
    remover: str | None,
    words: str,
    steps: int,
    batch: int,
    dtype: str,
    describer: str | None,
    writer: str | None,
) -> pairs.PairTools:
    from intarsia.engines import pairs
    from intarsia.perception import Helpers, Noise, WriterOption

    chance = Noise(noise, seed)
    kind = "truth" if rendered else "models"
    return pairs.PairTools(
        Helpers(scorer=scorer or _SCORERS[kind], folder=photos, noise=chance, device=device),
        pairs.RemoverOption(
            remover or ("studio:miniature" if rendered else _REMOVER),
            photos,
            chance,
            words,
            steps,
            batch,
            device,
            dtype,
        ),
        WriterOption(describer or ("truth" if rendered else "none"), writer or "template", photos, chance),
    )


def _lines(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    return frozenset(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
