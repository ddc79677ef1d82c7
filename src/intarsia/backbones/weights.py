"""Which files of a model folder hold its weights, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.hash_cache import cached_hash

# Folder of each part with weights -> stem of its weight files (diffusers' and transformers' names).
WEIGHT_STEMS = {
    "vae": "diffusion_pytorch_model",
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
    "image_encoder": "model",
}
OPTIONAL_PARTS = frozenset({"image_encoder"})
INDEX = "model_index.json"
DIFFERENCE_CLASS = "IntarsiaInstructModel"

Layout = Literal["two-tower", "one-tower", "difference"]
_PARTS: dict[Layout, tuple[str, ...]] = {
    "two-tower": tuple(WEIGHT_STEMS),
    "one-tower": ("vae", "unet", "text_encoder"),
    "difference": ("unet",),
}


def layout_of(folder: Path) -> Layout:
    """How a model folder is laid out, by the class its `model_index.json` names: as SDXL is, as Stable Diffusion 1.5
    is, or as an instruction model that holds only what differs from a base model."""
    try:
        name = str(json.loads((folder / INDEX).read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "two-tower"
    if name == DIFFERENCE_CLASS:
        return "difference"
    one_tower = name.startswith("StableDiffusion") and not name.startswith("StableDiffusionXL")
    return "one-tower" if one_tower else "two-tower"


def parts_of(folder: Path) -> list[str]:
    """The parts with weights that belong to a folder's layout, without optional ones that are not there."""
    parts = _PARTS[layout_of(folder)]
    return [part for part in parts if part not in OPTIONAL_PARTS or (folder / part).is_dir()]


def part_variant(folder: Path, part: str) -> str | None:
    """None when the part has plain weights, "fp16" when only those are there.

    Raises:
        BackboneError: no safetensors weights for the part.
    """
    stem = WEIGHT_STEMS[part]
    if _files_of(folder / part, stem, None):
        return None
    if _files_of(folder / part, stem, "fp16"):
        return "fp16"
    raise BackboneError(f"model folder {folder} has no safetensors weights for {part!r}: complete the folder")


def weight_files(folder: Path) -> list[Path]:
    """The files that a model's weights are read from, in a fixed order; of a difference also the file that names its
    base model and that one's hash."""
    found = [folder / INDEX] if layout_of(folder) == "difference" else []
    for part in parts_of(folder):
        found += part_files(folder, part)
    return found


def part_files(folder: Path, part: str) -> list[Path]:
    """The weight files of one part. Raises BackboneError where there are none."""
    return _files_of(folder / part, WEIGHT_STEMS[part], part_variant(folder, part))


def _files_of(folder: Path, stem: str, variant: str | None) -> list[Path]:
    """One file, or the shards named by its index; [] where there is neither.

    Raises:
        BackboneError: the index cannot be read or names a shard that is not there.
    """
    middle = "" if variant is None else f".{variant}"
    index = folder / f"{stem}.safetensors.index{middle}.json"
    if not index.is_file():
        index = folder / f"{stem}{middle}.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise BackboneError(f"{index} is not a shard index: download or copy the model again") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise BackboneError(
                f"{folder} lacks {', '.join(missing)} named by {index.name}: complete the folder"
            )
        return [folder / name for name in names]
    single = folder / f"{stem}{middle}.safetensors"
    return [single] if single.is_file() else []


def hash_files(root: Path, paths: Sequence[Path]) -> str:
    """sha256 over (relative name, length, bytes) of each file."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _content_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def model_hash(path: Path, others: Sequence[Path] = ()) -> str:
    """sha256 of the weights in a model's folder or single file: `Backbone.hash` of what is loaded from it. Through the
    base's hash in its index, a difference's hash says what its base is, too.

    others: files of weights besides, such as Fooocus' head and patch.

    Raises:
        BackboneError: weights are missing.
    """
    if not path.is_dir() and not path.is_file():
        raise BackboneError(f"{path} does not exist: give a model folder or a .safetensors file")
    if not others and path.is_file():
        # Such files are renamed often: the name has no part in it.
        return cached_hash([path], lambda: _content_hash(path))
    if not others:
        files = weight_files(path)
        return cached_hash(files, lambda: hash_files(path, files))
    parts = [model_hash(path), *(model_hash(other) for other in others)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
