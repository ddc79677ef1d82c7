"""`intarsia outpaint`."""

from __future__ import annotations

from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Memory, Model, NumberFormat, Overwrite, command
from intarsia.cli.options import (
    Guidance,
    LoraFile,
    Negative,
    Output,
    Preset,
    Rescale,
    SceneFile,
    Scheduler,
    Seam,
    Seed,
    Start,
    Steps,
    run_command,
)


@command
def outpaint(
    scene: SceneFile,
    output: Output,
    left: Annotated[int, typer.Option(help="Pixels to add at the left.")] = 0,
    right: Annotated[int, typer.Option(help="Pixels to add at the right.")] = 0,
    top: Annotated[int, typer.Option(help="Pixels to add at the top.")] = 0,
    bottom: Annotated[int, typer.Option(help="Pixels to add at the bottom.")] = 0,
    ratio: Annotated[
        float | None,
        typer.Option(help="Instead of pixels: the share of the new sides that the picture fills, 0.5 to below 1."),
    ] = None,
    anchor: Annotated[
        str,
        typer.Option(help="With a ratio, where the picture stands: center, left, right, top, bottom, top-left …"),
    ] = "center",
    rim: Annotated[int | None, typer.Option(help="Pixels of the picture's own border that may be repainted.")] = None,
    feather: Annotated[
        int | None, typer.Option(help="Pixels over which old and new are blended; in the picture, within the rim.")
    ] = None,
    prompt: Annotated[
        str,
        typer.Option("--prompt", "-p", help="What is around it; left out: the model's words for emptiness."),
    ] = "",
    lora: LoraFile = None,
    negative: Negative = "",
    seed: Seed = 0,
    preset: Preset = "default",
    steps: Steps = None,
    guidance: Guidance = None,
    rescale: Rescale = None,
    scheduler: Scheduler = None,
    seam: Seam = None,
    start: Start = None,
    model: Model = "miniature",
    device: Device = "auto",
    dtype: NumberFormat = "auto",
    memory: Memory = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Widen a picture: paint a frame around it.

    Inside its rim no byte of the picture changes. Give the result again to go on.

    \b
    Examples:
      intarsia outpaint room.png --left 64 --right 64 -o wider.png
      intarsia outpaint room.png --ratio 0.75 --anchor bottom -o larger.png
    """
    run_command("outpaint", dict(locals()))
