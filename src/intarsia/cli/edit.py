"""`intarsia insert` and `intarsia remove`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Memory, Model, NumberFormat, Overwrite, command
from intarsia.cli.options import (
    BoxText,
    ContextShare,
    Detail,
    DetailGuided,
    DetailMode,
    Feather,
    Growth,
    Guidance,
    GuidanceMode,
    KeepDetail,
    Lambda,
    LoraFile,
    MaskFile,
    MaskFrom,
    MaskShape,
    Negative,
    Output,
    Preset,
    ReferenceBlocks,
    ReferenceFile,
    ReferenceGuidance,
    ReferenceInterval,
    ReferenceMask,
    ReferenceModel,
    ReferenceSchedule,
    ReferenceStrength,
    Rescale,
    SceneFile,
    Scheduler,
    Seam,
    Seed,
    Start,
    Steps,
    WindowShare,
    nothing_for_zero,
    run_command,
)


@command
def insert(
    scene: SceneFile,
    output: Output,
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="What to paint. May be left out with a photo or a subject.")
    ] = "",
    reference: ReferenceFile = None,
    reference_mask: ReferenceMask = None,
    reference_strength: ReferenceStrength = None,
    reference_blocks: ReferenceBlocks = None,
    reference_interval: ReferenceInterval = None,
    reference_schedule: ReferenceSchedule = None,
    detail: Detail = None,
    detail_mode: DetailMode = None,
    detail_guided: DetailGuided = None,
    guidance_mode: GuidanceMode = None,
    reference_guidance: ReferenceGuidance = None,
    reference_model: ReferenceModel = None,
    subject: Annotated[Path | None, typer.Option(help="A learned subject (.safetensors).")] = None,
    mask: MaskFile = None,
    mask_from: MaskFrom = "white",
    mask_shape: MaskShape = None,
    box: BoxText = None,
    lora: LoraFile = None,
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
    rescale: Rescale = None,
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
    dtype: NumberFormat = "auto",
    memory: Memory = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Paint something into a picture, at a mask.

    From words, from a photo of the thing, from a learned subject, or from any of them together. Outside the
    mask (with growth and feather) no byte changes.

    \b
    Examples:
      intarsia insert table.png --box 96,120,80,80 -p "a red clay teapot" -o out.png
      intarsia insert table.png --mask place.png --reference mug.jpg -o out.png
      intarsia insert table.png --mask place.png --reference mug.jpg -p "a blue mug" \\
          --reference-strength 0.6 -o out.png
      intarsia insert table.png --mask place.png --subject duck.safetensors \\
          -p "a blue metal duck wearing a hat" --seed 7 -o out.png
      intarsia insert table.png --mask place.png -p "a mug" --lora style.safetensors:0.7 -o out.png
    """
    run_command(
        "insert",
        {
            **locals(),
            "substitute": _attributes(substitute),
            "window_share": nothing_for_zero(window_share),
            "context_share": nothing_for_zero(context_share),
        },
    )


@command
def remove(
    scene: SceneFile,
    output: Output,
    mask: MaskFile = None,
    mask_from: MaskFrom = "white",
    mask_shape: MaskShape = None,
    box: BoxText = None,
    prompt: Annotated[
        str,
        typer.Option("--prompt", "-p", help="What is behind it; left out: the model's words for emptiness."),
    ] = "",
    lora: LoraFile = None,
    negative: Negative = "",
    seed: Seed = 0,
    preset: Preset = "default",
    steps: Steps = None,
    guidance: Guidance = None,
    rescale: Rescale = None,
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
    dtype: NumberFormat = "auto",
    memory: Memory = "auto",
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
    run_command(
        "remove",
        {
            **locals(),
            "window_share": nothing_for_zero(window_share),
            "context_share": nothing_for_zero(context_share),
        },
    )


def _attributes(substitute: list[str] | None) -> list[str] | str | None:
    if not substitute:
        return None
    if len(substitute) == 1 and substitute[0] in ("auto", "none"):
        return substitute[0]
    return substitute
