"""`intarsia train add`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Overwrite, command, hush_libraries, reporting
from intarsia.errors import KnobError

train = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train models from what `intarsia data` has made."
)


@train.callback()
def _train() -> None:
    """Keeps `add` a command of its own while it is the only one."""


@train.command("add")
@command
def train_add(
    pairs: Annotated[
        list[Path], typer.Argument(help="Outputs of `intarsia data pipe`, or folders of PIPE's Parquet files.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write, for `add --add-model`.")],
    preset: Annotated[str, typer.Option(help="miniature, paper, or smoke (only to try out).")] = "miniature",
    images: Annotated[int | None, typer.Option(help="Train on so many images instead of the preset's.")] = None,
    weights: Annotated[
        str | None, typer.Option("--pair-weights", help="How often each folder is drawn, as 3,1; by default by size.")
    ] = None,
    base: Annotated[str, typer.Option(help="The model to start from (see `intarsia models`), or its folder.")] = (
        "miniature"
    ),
    stream: Annotated[bool, typer.Option("--stream", help="Encode pairs as they come, not all at first.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many; the same command continues.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where the run is kept (default: OUTPUT with .run behind); it goes on there.")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Autocast to bfloat16.")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Learn to add things on an instruction, from pairs.

    Stopped, by Ctrl-C as well, the same command goes on from the last checkpoint. Many GPUs:
    accelerate launch -m intarsia.training --stage instruct.

    \b
    Examples:
      intarsia data pipe photos masks pairs
      intarsia train add pairs -o my-add
      intarsia add room.png "add a red mug" --add-model my-add -o out.png
    """
    from intarsia.backbones import check_instruct_folder, find_model
    from intarsia.training import ShardStream, instruct_recipe

    with reporting(json) as reporter:
        recipe = instruct_recipe(preset)
        if images is not None:
            if images < 1:
                raise KnobError(f"images is {images}; train on at least 1")
            recipe = replace(recipe, images=images)
        shares = None if weights is None else _numbers(weights)
        check_instruct_folder(output, overwrite=overwrite)
        find_model(base)
        found = len(ShardStream(pairs, shares, recipe.seed))
        hush_libraries()
        from intarsia.editing import choose_device
        from intarsia.training import run_instruct

        folder = work or output.with_name(output.name + ".run")
        done = run_instruct(
            recipe,
            pairs,
            folder,
            output,
            base=base,
            weights=shares,
            stream=stream,
            device=choose_device(device),
            minutes=minutes,
            bf16=bf16,
            say=reporter.say,
        )
        outcome = {"output": str(output), "run": str(folder), "finished": done, "pairs": found}
        line = f'wrote {output} (of {found} pairs); try: intarsia add SCENE "add a mug" --add-model {output} -o out.png'
        reporter.done(line if done else f"not finished: the same command goes on in {folder}", outcome)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise KnobError(f"--pair-weights is {text!r}; write one number for each folder, as 3,1") from error
