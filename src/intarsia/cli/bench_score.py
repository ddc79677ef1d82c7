"""`intarsia bench score`: values of every picture that a run made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, command, progress_bar, reporting

_SHOWN = 10
_LEAVE, _TRUTH = "none", "truth"


@command
def score(
    benchmark: Annotated[Path, typer.Argument(help="The folder of `intarsia bench build`.")],
    results: Annotated[Path, typer.Argument(help="The folder of `intarsia bench run`.")],
    encoders: Annotated[
        str, typer.Option(help="tabletop: the held-out judges, offline; real: CLIP, DINO, Inception, LPIPS.")
    ] = "tabletop",
    clip: Annotated[
        str | None, typer.Option(help="real: a folder or fetched name (openai/clip-vit-base-patch32).")
    ] = None,
    dino: Annotated[str | None, typer.Option(help="real: a folder or fetched name (facebook/dino-vits16).")] = None,
    dinov2: Annotated[str | None, typer.Option(help="real: measured as well, such as facebook/dinov2-base.")] = None,
    inception: Annotated[
        str | None, typer.Option(help="real: torch-fidelity's weights for FID and KID (in torch's hub cache), or none.")
    ] = None,
    lpips: Annotated[str | None, typer.Option(help="real: alex, or none.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A folder of real pictures for FID and KID. Default: true renders.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Only this one; several times. Default: all there are.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the pictures of a run.

    Nothing is painted again, and pictures that were measured before are not measured again, so a stopped scoring goes
    on. Writes scores, features, and what was left out to RESULTS/scores/ENCODERS.

    \b
    Examples:
      intarsia bench score bench results
      intarsia bench score coco results --encoders real --dinov2 facebook/dinov2-base --reference test2017
    """
    from intarsia.evaluation import bench

    with reporting(json) as reporter:
        given = {"clip": clip, "dino": dino, "dinov2": dinov2, "inception": inception, "lpips": lpips}
        models = {kind: None if name == _LEAVE else name for kind, name in given.items() if name is not None}
        bench.check_encoders(encoders, models)
        opened = bench.Benchmark.open(benchmark)
        with progress_bar("score", json) as advance:
            folder = bench.score_results(
                opened,
                results,
                encoders=encoders,
                models=models,
                methods=method,
                reference=reference,
                device=device,
                progress=advance,
            )
        told = bench.read_left_out(folder)
        left = told["results"]
        for one in left[:_SHOWN]:
            reporter.warn(f"left out {one['method']} of row {one['row']}: {one['reason']}")
        if len(left) > _SHOWN:
            reporter.warn(f"left out {len(left) - _SHOWN} more pictures; see {folder / 'left_out.json'}")
        for reason, count in told["passed_over"].items():
            reporter.warn(f"passed over {count} results: {reason}")
        for name, count in told["broken_lines"].items():
            reporter.warn(f"passed over {count} broken lines of {name}")
        if opened.faults:
            reporter.warn(f"{len(opened.faults)} rows of {benchmark} cannot be used: {opened.faults[0].row}: "
                          f"{opened.faults[0].reason}")  # fmt: skip
        scored = bench.read_scores(folder)
        counts: dict[str, int] = {}
        for one_score in scored:
            counts[one_score.method] = counts.get(one_score.method, 0) + 1
        if reference is None and _TRUTH not in counts and inception != _LEAVE:
            reporter.warn("FID and KID are not measured: the rows have no true renders, and --reference is not given")
        reporter.done(
            f"{folder}: {len(scored)} pictures of {len(counts)} methods scored, {len(left)} left out; next: intarsia "
            f"bench report {benchmark} {results}" + ("" if encoders == "tabletop" else f" --encoders {encoders}"),
            {
                "output": str(folder),
                "scored": counts,
                "left_out": told["counts"],
                "passed_over": told["passed_over"],
                "rows_left_out": told["benchmark_counts"],
            },
        )


def register_score(bench: typer.Typer) -> None:
    """Add `score` to `intarsia bench`."""
    bench.command("score")(score)
