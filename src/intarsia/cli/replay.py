"""`intarsia replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intarsia.cli.common import Device, Json, Memory, Overwrite, command, open_studio, progress_bar, reporting

DIFFERENT = 1


@command
def replay(
    picture: Annotated[Path, typer.Argument(help="A PNG that intarsia wrote.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write it again; left out: only compare.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, where the recipe's is now found under another name.")
    ] = None,
    device: Device = "auto",
    memory: Memory = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a picture again from the recipe inside it, and compare.

    On the same machine the bytes are the same. Elsewhere, what differs (weights, versions, device) is named.
    Exit code 0: same pixels; 1: other pixels; 2: it could not be made.

    \b
    Examples:
      intarsia replay out.png
      intarsia replay out.png -o again.png
    """
    from intarsia.backbones import UnknownModelError, locate_model
    from intarsia.editing import preflight
    from intarsia.imaging import Picture
    from intarsia.result import check_output, read_recipe

    with reporting(json) as reporter:
        if output is not None:
            check_output(output, overwrite=overwrite)
        recipe = read_recipe(picture)
        before = Picture.load(picture)
        try:
            found = locate_model(model or recipe.request.model, beside=picture.parent)
        except UnknownModelError as error:
            raise UnknownModelError(f"{error}; where the recipe's model is now may be said by --model") from error
        preflight(recipe.request.replace(model=found.address), picture.parent)
        dtype = recipe.environment.get("dtype", "float32")
        studio = open_studio(found.address, device, dtype, memory)
        with progress_bar("replay", json) as advance:
            result = studio.replay(picture, lambda done, total: advance(done, total, ""))
        if output is not None:
            result.save(output, overwrite=overwrite)
        after = result.picture
        same = after.mode == before.mode and after.size == before.size and after.sha256 == before.sha256
        verdict = "the same pixels" if same else "other pixels"
        written = "" if output is None else f"wrote {output}: "
        reporter.done(
            f"{written}{verdict} as {picture}" if same else f"{written}{verdict} than {picture}",
            {
                "output": None if output is None else str(output),
                "same": same,
                "seconds": round(result.seconds, 3),
                "recipe": result.recipe.model_dump(mode="json"),
            },
        )
    if not same:
        raise typer.Exit(DIFFERENT)
