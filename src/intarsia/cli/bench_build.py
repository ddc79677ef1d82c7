"""`intarsia bench build`: benchmarks as folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from intarsia.cli.common import Json, Overwrite, command, progress_bar, reporting
from intarsia.errors import KnobError

_ROWS = {"tabletop": 20, "coco": 140}
_SUBJECTS, _SIDE = 30, 192
_SHOWN = 5
"""Names shown of each reason; `benchmark.json` holds more."""


@command
def build(
    which: Annotated[str, typer.Argument(metavar="tabletop|coco", help="Rendered scenes; or photos that you have.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    annotations: Annotated[Path | None, typer.Option(help="coco: instances_val2017.json.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="coco: the folder of its pictures, val2017.")] = None,
    photos: Annotated[Path | None, typer.Option(help="coco: DreamBooth's folder, which has one a subject.")] = None,
    masks: Annotated[Path | None, typer.Option(help="coco: a folder with one a subject, of the photos' masks.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="coco: a YAML file of more, or other, prompts.")] = None,
    subjects: Annotated[
        str | None, typer.Option(help="tabletop: how many (30). coco: only the folders of these names, a,b,c.")
    ] = None,
    per_subject: Annotated[int | None, typer.Option(help="Rows of each: 20 of tabletop, 140 of coco.")] = None,
    seed: Annotated[int, typer.Option(help="Which subjects and scenes; which places and prompts.")] = 1,
    side: Annotated[int | None, typer.Option(help="tabletop: of a scene, px (192).")] = None,
    shapes: Annotated[
        str | None, typer.Option(help="coco: of masks: box (default), silhouette, or box,silhouette.")
    ] = None,
    sizes: Annotated[str | None, typer.Option(help="coco: of small,medium,large,huge (the first three).")] = None,
    least_picture: Annotated[
        int | None, typer.Option(help="coco: the least shorter side of a picture, px (480).")
    ] = None,
    least_box: Annotated[int | None, typer.Option(help="coco: the least shorter side of a box, px (32).")] = None,
    share: Annotated[
        str | None, typer.Option(help="coco: of the picture's area, a box's least and greatest (0.002,0.5).")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a benchmark: rows of a scene, a mask, a subject and a prompt, with hashes. The same command writes the same
    bytes.

    \b
    Examples:
      intarsia bench build tabletop -o bench
      intarsia bench build coco -o bench --annotations annotations/instances_val2017.json --pictures val2017 \\
          --photos dreambooth/dataset
    """
    from intarsia.evaluation import bench

    with reporting(json) as reporter, progress_bar("build", json) as advance:
        if which not in _ROWS:
            raise KnobError(f"the benchmark is {which!r}; build tabletop or coco")
        rows = _ROWS[which] if per_subject is None else per_subject
        outcome: dict[str, Any] = {"output": str(output)}
        if which == "tabletop":
            _refuse(which, annotations=annotations, pictures=pictures, photos=photos, masks=masks, prompts=prompts)
            _refuse(which, shapes=shapes, sizes=sizes, least_picture=least_picture, least_box=least_box, share=share)
            bench.make_tabletop(
                output,
                subjects=_SUBJECTS if subjects is None else _count(subjects),
                per_subject=rows,
                seed=seed,
                side=_SIDE if side is None else side,
                overwrite=overwrite,
                progress=lambda done, total: advance(done, total, "build"),
            )
        else:
            _refuse(which, side=side)
            wanted: dict[str, Any] = {
                "least_picture_side": least_picture,
                "least_box_side": least_box,
                "sizes": None if sizes is None else _words(sizes),
                **({} if share is None else _shares(share)),
            }
            made = bench.make_coco(
                output,
                annotations=_needed("annotations", annotations),
                pictures=_needed("pictures", pictures),
                photos=_needed("photos", photos),
                masks=masks,
                prompts=prompts,
                subjects=None if subjects is None else _words(subjects),
                per_subject=rows,
                seed=seed,
                shapes=("box",) if shapes is None else _words(shapes),
                wanted=bench.PlaceFilter(**{name: value for name, value in wanted.items() if value is not None}),
                overwrite=overwrite,
                progress=lambda done, total: advance(done, total, "build"),
            )
            for reason, count in sorted(made.left_out.items()):
                named = list(made.left_out_names[reason])
                shown = "; ".join(named[:_SHOWN]) + ("; …" if count > _SHOWN else "")
                reporter.say(f"left out: {count} x {reason}: {shown}")
            for subject, count in made.short.items():
                reporter.warn(f"{subject} has {count} rows of {rows}: there are no more places for it")
            outcome |= {"left_out": dict(made.left_out), "left_out_names": dict(made.left_out_names)}
        rows_made = bench.Benchmark.open(output, check_files=False).rows
        counts = {name: Counter(getattr(row, name) for row in rows_made) for name in ("task", "size", "shape")}
        told = "; ".join(", ".join(f"{count} {word}" for word, count in one.items()) for one in counts.values())
        number = len({row.subject for row in rows_made})
        reporter.done(
            f"{output}: {len(rows_made)} rows of {number} subjects ({told})",
            {**outcome, "rows": len(rows_made), "subjects": number, **counts},
        )


def register_build(bench: typer.Typer) -> None:
    """Add `build` to `intarsia bench`."""
    bench.command("build")(build)


def _refuse(which: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise KnobError(f"--{name.replace('_', '-')} has no meaning for {which}; leave it out")


def _needed(name: str, value: Path | None) -> Path:
    if value is None:
        raise KnobError(f"--{name} is missing; coco needs --annotations, --pictures and --photos (see --help)")
    return value


def _words(text: str) -> tuple[Any, ...]:
    """Of "a,b,c"; whoever takes them knows which there are."""
    return tuple(word.strip() for word in text.split(","))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise KnobError(f"--subjects is {text!r}; tabletop takes a whole number of them")
    return int(text)


def _shares(text: str) -> dict[str, float]:
    try:
        least, most = (float(part) for part in text.split(","))
    except ValueError as error:
        raise KnobError(f"--share is {text!r}; use LEAST,GREATEST, such as 0.002,0.5") from error
    return {"least_share": least, "greatest_share": most}
