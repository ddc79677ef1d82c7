"""`intarsia insert` and `intarsia remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from intarsia.cli.common import (
    Device,
    Json,
    Model,
    NumberFormat,
    Overwrite,
    command,
    open_studio,
    progress_bar,
    reporting,
)

SceneFile = Annotated[Path, typer.Argument(help="The picture to edit.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The picture to write; a PNG carries its recipe.")]
MaskFile = Annotated[Path | None, typer.Option("--mask", help="A picture of the same size; white is repainted.")]
MaskFrom = Annotated[str, typer.Option("--mask-from", help="What of the mask is repainted: white, black or alpha.")]
BoxText = Annotated[str | None, typer.Option("--box", help="x,y,w,h in pixels, instead of a mask.")]
Seed = Annotated[int, typer.Option(help="Another seed gives another picture; the same, the same.")]
Preset = Annotated[str, typer.Option(help="default, or paper (DreamMix as published).")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="How strictly the prompt is followed; 1 is off.")]
Scheduler = Annotated[str | None, typer.Option(help="ddim, euler, dpmpp_2m_sde_karras …")]
Lambda = Annotated[
    float | None,
    typer.Option("--lambda", help="Share of the steps in the local window: 0 global only, 1 local only."),
]
WindowShare = Annotated[
    float | None,
    typer.Option("--window-share", help="Share of the local window that the mask fills; 0: the paper's rule."),
]
ContextShare = Annotated[
    float | None,
    typer.Option("--context-share", help="Share of the global window that the mask fills; 0: the whole picture."),
]
Growth = Annotated[int | None, typer.Option(help="Pixels by which the mask is widened.")]
Feather = Annotated[int | None, typer.Option(help="Pixels outside the mask over which old and new are blended.")]
Seam = Annotated[float | None, typer.Option("--seam", help="Colour match at the seam: 0 off, 1 full.")]
Start = Annotated[str | None, typer.Option(help="Start from the filled hole (fill) or from noise.")]
KeepDetail = Annotated[
    bool | None,
    typer.Option("--keep-detail/--no-keep-detail", help="Keep the local window's detail in the end."),
]
Negative = Annotated[str, typer.Option("--negative", help="What should not appear.")]


@command
def insert(
    scene: SceneFile,
    output: Output,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to paint. May be left out with a subject.")] = "",
    subject: Annotated[Path | None, typer.Option(help="A learned subject (.safetensors).")] = None,
    mask: MaskFile = None,
    mask_from: MaskFrom = "white",
    box: BoxText = None,
    subject_strength: Annotated[float | None, typer.Option(help="0 none, 1 as learned, up to 2.")] = None,
    substitute: Annotated[
        list[str] | None,
        typer.Option(help="An attribute of the subject that must give way; may be repeated. Or: auto, none."),
    ] = None,
    attribute_strength: Annotated[float | None, typer.Option(help="How wholly it gives way, 0 to 1.")] = None,
    negative: Negative = "",
    seed: Seed = 0,
    preset: Preset = "default",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    lam: Lambda = None,
    window_share: WindowShare = None,
    context_share: ContextShare = None,
    growth: Growth = None,
    feather: Feather = None,
    seam: Seam = None,
    start: Start = None,
    keep_detail: KeepDetail = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "float32",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Paint something into a picture, at a mask.

    From words, or a learned subject, or a learned subject changed by words. Outside the mask (with growth
    and feather) no byte changes.

    \b
    Examples:
      intarsia insert table.png --box 96,120,80,80 -p "a red clay teapot" -o out.png
      intarsia insert table.png --mask place.png --subject duck.safetensors -o out.png
      intarsia insert table.png --mask place.png --subject duck.safetensors \\
          -p "a blue metal duck wearing a hat" --seed 7 -o out.png
    """
    fields = {
        "prompt": prompt,
        "subject": None if subject is None else str(subject),
        "subject_strength": subject_strength,
        "remove_attributes": _attributes(substitute),
        "attribute_strength": attribute_strength,
        **_common(scene, mask, mask_from, box, negative, seed, preset, steps, guidance, scheduler, lam),
        **_places(window_share, context_share, growth, feather, seam, start, keep_detail),
    }
    _run("insert", fields, output, model, device, dtype, overwrite, json)


@command
def remove(
    scene: SceneFile,
    output: Output,
    mask: MaskFile = None,
    mask_from: MaskFrom = "white",
    box: BoxText = None,
    prompt: Annotated[
        str,
        typer.Option("--prompt", "-p", help="What is behind it; left out: the model's words for emptiness."),
    ] = "",
    negative: Negative = "",
    seed: Seed = 0,
    preset: Preset = "default",
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    lam: Lambda = None,
    window_share: WindowShare = None,
    context_share: ContextShare = None,
    growth: Growth = None,
    feather: Feather = None,
    seam: Seam = None,
    start: Start = None,
    keep_detail: KeepDetail = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "float32",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Take something out of a picture.

    The background is painted on where the mask is. Mask the thing's shadow, too.

    \b
    Examples:
      intarsia remove table.png --mask duck_mask.png -o empty.png
      intarsia remove table.png --box 96,120,80,80 --growth 8 -o empty.png
    """
    fields = {
        "prompt": prompt,
        **_common(scene, mask, mask_from, box, negative, seed, preset, steps, guidance, scheduler, lam),
        **_places(window_share, context_share, growth, feather, seam, start, keep_detail),
    }
    _run("remove", fields, output, model, device, dtype, overwrite, json)


def _run(
    verb: str,
    fields: dict[str, Any],
    output: Path,
    model: str,
    device: str,
    dtype: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    from intarsia.editing import preflight
    from intarsia.request import EditRequest
    from intarsia.result import check_output

    with reporting(as_json) as reporter:
        check_output(output, overwrite=overwrite)
        given = {name: value for name, value in fields.items() if value is not None}
        given = {name: None if value is _NOTHING else value for name, value in given.items()}
        request = preflight(EditRequest(verb=verb, model=model, **given))
        studio = open_studio(model, device, dtype)
        with progress_bar(verb, as_json) as advance:
            result = studio.run(request, lambda done, total: advance(done, total, ""))
        result.save(output, overwrite=overwrite)
        recipe = result.recipe
        reporter.done(
            f"wrote {output} ({recipe.prompt_used!r}, seed {request.seed}, {result.seconds:.1f} s)",
            {
                "output": str(output),
                "seconds": round(result.seconds, 3),
                "changed_pixels": int(result.support.sum()),
                "recipe": recipe.model_dump(mode="json"),
            },
        )


_NOTHING = object()
"""Marks a field whose value is None, as against one that was not given."""


def _common(
    scene: Path,
    mask: Path | None,
    mask_from: str,
    box: str | None,
    negative: str,
    seed: int,
    preset: str,
    steps: int | None,
    guidance: float | None,
    scheduler: str | None,
    lam: float | None,
) -> dict[str, Any]:
    return {
        "scene": str(scene),
        "mask": None if mask is None else str(mask),
        "mask_from": mask_from,
        "box": box,
        "negative_prompt": negative,
        "seed": seed,
        "preset": preset,
        "steps": steps,
        "guidance_scale": guidance,
        "scheduler": scheduler,
        "lam": lam,
    }


def _places(
    window_share: float | None,
    context_share: float | None,
    growth: int | None,
    feather: int | None,
    seam: float | None,
    start: str | None,
    keep_detail: bool | None,
) -> dict[str, Any]:
    return {
        "local_share": _NOTHING if window_share == 0 else window_share,
        "context_share": _NOTHING if context_share == 0 else context_share,
        "growth": growth,
        "feather": feather,
        "seam_strength": seam,
        "start": start,
        "keep_detail": keep_detail,
    }


def _attributes(substitute: list[str] | None) -> tuple[str, ...] | str | None:
    if not substitute:
        return None
    if len(substitute) == 1 and substitute[0] in ("auto", "none"):
        return substitute[0]
    return tuple(substitute)
