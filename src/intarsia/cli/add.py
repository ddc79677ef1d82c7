"""`intarsia add`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Memory, Model, NumberFormat, Overwrite, command
from intarsia.cli.options import (
    ContextShare,
    Feather,
    Growth,
    Lambda,
    LoraFile,
    MaskShape,
    Negative,
    Output,
    Rescale,
    SceneFile,
    Scheduler,
    Seam,
    Seed,
    Steps,
    WindowShare,
    nothing_for_zero,
    run_command,
)


@command
def add(
    scene: SceneFile,
    instruction: Annotated[
        list[str],
        typer.Argument(help="What to add, in quotes; several are added one after the other."),
    ],
    output: Output,
    mask_output: Annotated[
        Path | None, typer.Option("--mask-output", help="Where to write which pixels changed, white on black.")
    ] = None,
    place: Annotated[str | None, typer.Option("--place", help="About where: x,y,w,h in pixels.")] = None,
    place_hold: Annotated[
        float | None,
        typer.Option("--place-hold", help="Share of the steps that hold the scene outside the place that is said."),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="How many are proposed; the one that hides least of the scene is taken.")
    ] = None,
    finish: Annotated[
        str | None,
        typer.Option(help="repaint: the inpainting model paints it in the place found; direct: as first drawn."),
    ] = None,
    seed: Seed = 0,
    preset: Annotated[str, typer.Option(help="default, or paper (Paint by Inpaint as published).")] = "default",
    steps: Steps = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="How strictly the instruction is followed.")
    ] = None,
    image_guidance: Annotated[
        float | None, typer.Option("--image-guidance", help="How closely the scene is kept while it is.")
    ] = None,
    repaint_guidance: Annotated[
        float | None, typer.Option("--repaint-guidance", help="The inpainting model's guidance, with repaint.")
    ] = None,
    repaint_strength: Annotated[
        float | None, typer.Option("--repaint-strength", help="How much it changes what was drawn: above 0, to 1.")
    ] = None,
    change_threshold: Annotated[
        float | None, typer.Option("--change-threshold", help="Difference of colours that counts as added, 0 to 1.")
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(help="Between instructions, what did not change is restored, or left plain."),
    ] = None,
    lora: LoraFile = None,
    negative: Negative = "",
    rescale: Rescale = None,
    scheduler: Scheduler = None,
    lam: Lambda = None,
    window_share: WindowShare = None,
    context_share: ContextShare = None,
    mask_shape: MaskShape = None,
    growth: Growth = None,
    feather: Feather = None,
    seam: Seam = None,
    add_model: Annotated[
        str, typer.Option("--add-model", help="The instruction model: a name (see `intarsia models`) or a folder.")
    ] = "miniature-add",
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "auto",
    memory: Memory = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Add something to a picture on a plain instruction, with no mask.

    The model finds the place. Only what is added and its shadow changes; all other bytes stay.

    \b
    Examples:
      intarsia add table.png "add a red mug at the left" -o out.png
      intarsia add table.png "a red mug" "a yellow duck" --mask-output changed.png -o out.png
      intarsia add table.png "a red mug" --place 20,60,64,64 --seed 7 -o out.png
    """
    run_command(
        "add",
        {
            **locals(),
            "window_share": nothing_for_zero(window_share),
            "context_share": nothing_for_zero(context_share),
        },
    )
