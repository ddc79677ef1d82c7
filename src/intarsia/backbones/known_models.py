"""Names of base models: where their weights are, under which licence, at which size they paint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from intarsia.backbones.errors import MissingWeightsError, UnknownModelError


@dataclass(frozen=True)
class CatalogEntry:
    """One model: `location` is a folder inside the package (`package`) or a repository on the Hub (`hub`).

    `inpaint` says how it fills a mask, "none" that it does not: it is an instruction model, for `add`. `files`: what
    is downloaded of a repository.
    """

    name: str
    kind: Literal["package", "hub"]
    location: str
    licence: str
    licence_class: Literal["permissive", "responsible-use", "non-commercial"]
    native_size: int
    inpaint: Literal["nine-channel", "none"]
    description: str
    files: tuple[str, ...] = ("*.json", "*.txt", "*.fp16.safetensors")


_ENTRIES = (
    CatalogEntry(
        name="miniature",
        kind="package",
        location="weights/miniature",
        licence="Apache-2.0",
        licence_class="permissive",
        native_size=64,
        inpaint="nine-channel",
        description="The bundled small SDXL, trained on Tabletop; runs on a laptop CPU without any download.",
    ),
    CatalogEntry(
        name="sdxl-inpaint",
        kind="hub",
        location="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        licence="CreativeML Open RAIL++-M",
        licence_class="responsible-use",
        native_size=1024,
        inpaint="nine-channel",
        description="SDXL 1.0 fine-tuned for inpainting; about 7 GB in half precision; wants a GPU.",
    ),
    CatalogEntry(
        name="miniature-add",
        kind="package",
        location="weights/miniature_add",
        licence="Apache-2.0",
        licence_class="permissive",
        native_size=64,
        inpaint="none",
        description="The miniature's instruction model: adds an object that words name, without a mask.",
    ),
    CatalogEntry(
        name="pipe-add",
        kind="hub",
        location="paint-by-inpaint/add-finetuned-mb",
        licence="undeclared; derived from Stable Diffusion 1.5, which is under CreativeML OpenRAIL-M",
        licence_class="responsible-use",
        native_size=512,
        inpaint="none",
        description="Paint by Inpaint's add model, fine-tuned on MagicBrush; about 2 GB in half precision.",
        files=("*.json", "*.txt", *(f"{part}/*.safetensors" for part in ("unet", "vae", "text_encoder"))),
    ),
)

catalog: Mapping[str, CatalogEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Read-only: name -> entry."""


def find_model(name_or_folder: str | Path, *, download: bool = False) -> tuple[str, Path]:
    """Name and folder of a model: first the catalog's names, then paths of folders.

    Raises:
        UnknownModelError: neither a catalog name nor a folder.
        MissingWeightsError: known, but not on this machine (and `download` is off).
    """
    entry = catalog.get(str(name_or_folder))
    if entry is not None:
        folder = _package_folder(entry) if entry.kind == "package" else _hub_folder(entry, download)
        return entry.name, folder
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder.resolve().name, folder
    raise UnknownModelError(
        f"unknown model {str(name_or_folder)!r}: use one of {', '.join(sorted(catalog))}, "
        "or the path of a model folder"
    )


def address_of(name: str, folder: Path | None) -> str:
    """What `find_model` finds a loaded model by: its catalog name, if that leads to this folder, else the folder, which
    may bear another model's name."""
    if folder is None:
        return name
    try:
        known = name in catalog and find_model(name)[1].resolve() == folder.resolve()
    except MissingWeightsError:
        known = False
    return name if known else str(folder)


def _package_folder(entry: CatalogEntry) -> Path:
    folder = Path(str(files("intarsia"))) / entry.location
    if not (folder / "model_index.json").is_file():
        raise MissingWeightsError(
            f"the weights of {entry.name!r} are not part of this installation: "
            "reinstall the package, or train them"
        )
    return folder


def _hub_folder(entry: CatalogEntry, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = list(entry.files)
    try:
        return Path(snapshot_download(entry.location, allow_patterns=patterns, local_files_only=not download))
    except Exception as error:
        advice = "check the network" if download else "load it once with download=True"
        raise MissingWeightsError(
            f"the weights of {entry.name!r} ({entry.location}) are not on this machine: {advice}"
        ) from error
