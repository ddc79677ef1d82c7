"""`intarsia convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intarsia.cli.common import Json, Overwrite, command, hush_libraries, reporting

if TYPE_CHECKING:
    from intarsia.backbones import CatalogEntry

_SUFFIX = ".safetensors"


@command
def convert(
    file: Annotated[Path, typer.Argument(help="A LoRA or a learned subject (.safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.safetensors).")],
    to: Annotated[str, typer.Option("--to", help="diffusers, kohya or comfyui.")],
    model: Annotated[
        str | None,
        typer.Option(help="The model it was made for, a name or a folder; left out: the one a subject names."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a LoRA in another tool's format, with its true strength.

    Of the model only the settings are read, to know its modules' names; for sdxl and sd15 they can be fetched alone
    (sdxl-parts, sd15-parts). A subject's token becomes the trigger phrase.

    \b
    Examples:
      intarsia convert duck.safetensors --to kohya -o duck_kohya.safetensors
      intarsia convert style.safetensors --to diffusers --model sdxl-inpaint -o style_diffusers.safetensors
    """
    from intarsia.adapters import (
        LORA_FORMATS,
        AdapterError,
        LoraModules,
        base_of,
        read_lora,
        read_metadata,
        refuse_pickle,
        save_lora,
        write_lora,
    )
    from intarsia.result import check_output, output_folder

    with reporting(json) as reporter:
        form = next((known for known in LORA_FORMATS if known == to), None)
        if form is None:
            raise AdapterError(f"LoRA format {to!r} is unknown: use one of {', '.join(LORA_FORMATS)}")
        check_output(output, overwrite=overwrite, suffixes=(_SUFFIX,))
        refuse_pickle(file)
        name = model or base_of(read_metadata(file)).get("name")
        if name is None:
            raise AdapterError(f"{file} does not say which model it was made for: name it with --model")
        folder = _settings_of(name)
        hush_libraries()
        modules = LoraModules.of_folder(folder)
        lora = read_lora(file, modules)
        state, said = write_lora(lora, form, modules)
        with output_folder(output):
            save_lora(output, state, said)
        counts = {part: len(layers) for part, layers in lora.layers.items()}
        listed = ", ".join(f"{count} modules of {part}" for part, count in counts.items())
        reporter.done(
            f"wrote {output} ({lora.spelling} to {form}: {listed})",
            {
                "output": str(output),
                "from": lora.spelling,
                "to": form,
                "model": name,
                "modules": counts,
                "ranks": sorted({layer.rank for *_, layer in lora}),
                "alphas": sorted({layer.alpha for *_, layer in lora}),
            },
        )


def _settings_of(name: str) -> Path:
    """The folder of a model's settings: with its weights, or, where those are not here, what of it is fetched alone.

    Raises:
        UnknownModelError, LicenceError: see `locate_model`. MissingWeightsError: neither is here.
    """
    from intarsia.backbones import MissingWeightsError, catalog, locate_model, locate_part

    entry = catalog.get(name)
    if entry is not None and _has_settings(entry):
        return locate_part(name)
    try:
        files = locate_model(name)
        return files.parts or files.path
    except MissingWeightsError:
        bases = {name, None if entry is None else entry.base} - {None}
        alone = next((part.name for part in catalog.values() if part.base in bases and _has_settings(part)), None)
        if alone is None:
            raise
        return locate_part(alone)


def _has_settings(entry: CatalogEntry) -> bool:
    """Whether an entry is a model's settings alone."""
    return entry.inpaint == "part" and "unet/config.json" in entry.needs
