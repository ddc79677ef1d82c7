"""`intarsia data`: making training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Overwrite, command, progress_bar, reporting
from intarsia.cli.data_pairs import register
from intarsia.errors import KnobError

_SHOWN = 20
"""Quarantined rows whose reasons are printed."""
data = typer.Typer(
    name="data",
    no_args_is_help=True,
    help="Make training data of any photos: quadruplets (scene, mask, subject, caption), pairs for learning to add.",
    rich_markup_mode=None,
)
register(data)

_TRUTH = {"tagger": "truth", "detector": "truth", "segmenter": "truth", "captioner": "truth"}
_MODELS = {
    "tagger": None,
    "detector": "grounding-dino:IDEA-Research/grounding-dino-base",
    "segmenter": "sam2:facebook/sam2.1-hiera-large",
    "captioner": None,
}
_SCORERS = {"truth": "towers:miniature", "models": "clip:openai/clip-vit-large-patch14"}


@data.command("tabletop")
@command
def tabletop(
    output: Annotated[Path, typer.Argument(help="The folder to write to.")],
    count: Annotated[int, typer.Option(help="How many scenes.")] = 100,
    seed: Annotated[int, typer.Option(help="Which scenes.")] = 0,
    side: Annotated[int, typer.Option(help="Their side in pixels.")] = 192,
    level: Annotated[str, typer.Option(help="How much of the Tabletop world: small or full.")] = "small",
    split: Annotated[str, typer.Option(help="test; or train, for what a model learns from.")] = "test",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Render scenes with their truth beside them, to try out the data engine."""
    from intarsia.evaluation import quadruplets

    with reporting(json) as reporter:
        made = quadruplets.write_tabletop(output, count, seed, side, level, overwrite, split)
        reporter.done(
            f"{output}: {count} scenes, {made} of them rendered now; try: intarsia data quadruplets {output} OUT "
            "--helpers truth",
            {"output": str(output), "scenes": count, "rendered": made},
        )


@data.command("quadruplets")
@command
def quadruplets(
    photos: Annotated[Path, typer.Argument(help="A folder of photos; folders in it count as well.")],
    output: Annotated[Path, typer.Argument(help="The folder to write to; the same command there goes on.")],
    helpers: Annotated[
        str, typer.Option(help="models, or truth (distorted; for scenes of `intarsia data tabletop`).")
    ] = "models",
    noise: Annotated[float, typer.Option(help="Of truth helpers: how often each is wrong.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of truth helpers.")] = 0,
    tagger: Annotated[
        str | None, typer.Option(help="openai:URL#MODEL, or clip:MODEL#WORDS (a file, one noun a line).")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="grounding-dino:MODEL.")] = None,
    segmenter: Annotated[str | None, typer.Option(help="sam2:MODEL.")] = None,
    captioner: Annotated[str | None, typer.Option(help="openai:URL#MODEL, or transformers:MODEL.")] = None,
    scorer: Annotated[str | None, typer.Option(help="clip:MODEL, or towers:MODEL (of a backbone).")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="A YAML file, photos or tabletop. Rows that fall by it keep their scores.")
    ] = None,
    blacklist: Annotated[Path | None, typer.Option(help="A YAML file of more tags that are no objects.")] = None,
    least_side: Annotated[int, typer.Option(help="Smaller pictures are left out, px.")] = 64,
    workers: Annotated[int, typer.Option(help="Processes (or tasks of Ray) at once.")] = 1,
    runner: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    shard_size: Annotated[int, typer.Option(help="Photos in a shard.")] = 64,
    gpus: Annotated[float, typer.Option(help="GPU share that each step with a model asks Ray for.")] = 0.0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make quadruplets (scene, mask, subject, caption) of photos.

    Tag, drop what is no object, detect, segment, caption, score, cut by thresholds. MODEL is a folder or a name at the
    model hub. Killed and started again, it goes on where it was and ends with the same files.

    \b
    Examples:
      intarsia data tabletop scenes --count 100
      intarsia data quadruplets scenes out --helpers truth --noise 0.2
      intarsia data quadruplets photos out --tagger openai:http://localhost:8000/v1#qwen \\
          --captioner openai:http://localhost:8000/v1#qwen
    """
    from intarsia.engines import EngineError, quadruplets
    from intarsia.perception import Helpers, Noise

    with reporting(json) as reporter:
        if helpers not in _SCORERS:
            raise KnobError(f"helpers are {helpers!r}; use models or truth")
        if runner not in ("local", "ray"):
            raise KnobError(f"the runner is {runner!r}; use local or ray")
        given = {"tagger": tagger, "detector": detector, "segmenter": segmenter, "captioner": captioner}
        chosen: dict[str, str] = {"scorer": scorer or _SCORERS[helpers]}
        for kind, usual in (_TRUTH if helpers == "truth" else _MODELS).items():
            option = given[kind] or usual
            if option is None:
                raise EngineError(f"there is no usual {kind}; name one with --{kind} (see --help)")
            chosen[kind] = option
        asked = Helpers(**chosen, folder=photos, noise=Noise(noise, seed), device=device)
        with progress_bar("data", json) as advance:
            report = quadruplets.run_quadruplets(
                photos,
                output,
                asked,
                thresholds=thresholds or ("tabletop" if helpers == "truth" else "photos"),
                blacklist=blacklist,
                least_side=least_side,
                runner="ray" if runner == "ray" else "local",
                workers=workers,
                shard_size=shard_size,
                gpus=gpus,
                progress=lambda now: advance(now.source_rows_done, now.source_rows, f"data, {now.kept} candidates"),
                overwrite=overwrite,
            )
        if report.quarantined:
            reporter.warn(f"{report.quarantined} rows are quarantined; see: intarsia data funnel {output}")
        reporter.done(
            f"{output}: {report.kept} quadruplets of {report.source_rows} photos, {report.rejected} rows rejected, "
            f"{report.quarantined} quarantined",
            {"output": str(output), "seconds": report.seconds, **report.funnel.to_json()},
        )


@data.command("recut")
@command
def recut(
    run: Annotated[Path, typer.Argument(help="The output of `intarsia data quadruplets` or `pipe`.")],
    output: Annotated[Path, typer.Argument(help="The folder for the new selection.")],
    thresholds: Annotated[str, typer.Option(help="A YAML file, or the name of one that the engine ships.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Decide by other thresholds which candidates are kept; no model is asked again."""
    from intarsia.engines import pairs, quadruplets

    with reporting(json) as reporter:
        of_pairs = pairs.is_run(run)
        decide = pairs.recut_pairs if of_pairs else quadruplets.recut_quadruplets
        funnel = decide(run, output, thresholds, overwrite=overwrite)
        things = "pairs" if of_pairs else "quadruplets"
        reporter.done(f"{output}: {funnel.kept} {things} by {thresholds}", {"output": str(output), **funnel.to_json()})


@data.command("funnel")
@command
def funnel(
    run: Annotated[Path, typer.Argument(help="The output of `intarsia data quadruplets` or `recut`.")],
    json: Json = False,
) -> None:
    """Say how many rows fell at each step, and why."""
    from json import loads

    from intarsia.engines import EngineError, read_dead_rows

    with reporting(json) as reporter:
        text, numbers = run / "funnel.md", run / "funnel.json"
        if not text.is_file() or not numbers.is_file():
            raise EngineError(f"{run} holds no finished run (no funnel.json); run the engine there to its end")
        lines = text.read_text(encoding="utf-8").rstrip()
        dead = read_dead_rows(run).to_pylist() if (run / "engine.json").is_file() else []
        if dead:
            shown = [f"- {row['key']}, {row['step']}: {row['message']}" for row in dead[:_SHOWN]]
            more = [f"- and {len(dead) - _SHOWN} more: intarsia.engines.read_dead_rows"] if len(dead) > _SHOWN else []
            lines = "\n".join([lines, "", "Quarantined:", "", *shown, *more])
        reporter.done(lines, loads(numbers.read_text(encoding="utf-8")))
