"""Instruction models: loading their three layouts, and writing the small one.

A folder is laid out as SDXL is, as `StableDiffusionInstructPix2PixPipeline` folders are (one text tower, no size
conditioning), or it holds the difference to a base model: of an eight-channel U-Net the parameters that are not the
base's, beside its config and a `model_index.json` that names the base and its hash.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.backbone import Backbone
from intarsia.backbones.catalog import catalog
from intarsia.backbones.errors import BackboneError
from intarsia.backbones.instruct import start_instructions
from intarsia.backbones.known_models import ModelFiles, locate_model
from intarsia.backbones.loading import load_parts, read_json
from intarsia.backbones.weights import DIFFERENCE_CLASS, INDEX, WEIGHT_STEMS, layout_of, part_files

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SHARD_SIZE = "14MB"


def load_instruct_model(
    name_or_folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    download: bool = False,
    base: Backbone | None = None,
) -> Backbone:
    """Load an instruction model of the catalog, or a folder of any of the three layouts; `kind` is "instruct".

    A safety checker in the folder is not read. Nothing is downloaded unless `download` is set.

    Args:
        base: the loaded base model of a difference. All parts but the U-Net are then shared with it, and the U-Net
            is a copy on the base's device in its number format; `device` and `dtype` say nothing.

    Raises:
        UnknownModelError, MissingWeightsError: see `find_model`.
        BackboneError: parts, weights or settings are missing, corrupt, not those of an instruction model, or made for
            another base.
    """
    files = locate_model(name_or_folder, download=download)
    folder = files.path
    if layout_of(folder) == "difference":
        return _load_difference(files, device, dtype, download=download, base=base)
    backbone = load_parts(files, device, dtype)
    got, wanted = int(backbone.unet.config.in_channels), 2 * backbone.latent_channels
    if got != wanted:
        raise BackboneError(
            f"the U-Net of {folder} takes {got} channels, not the {wanted} of an instruction model (2 x latent "
            "channels): use one of those, or train one from it (see docs/instruct.md)"
        )
    return backbone


def load_instruct_base(
    name_or_folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    download: bool = False,
) -> Backbone:
    """Load what an instruction model can be trained from: a text-to-image, inpainting or instruction model.

    Raises:
        UnknownModelError, MissingWeightsError: see `find_model`.
        BackboneError: parts, weights or settings are missing, corrupt, or of a difference or with an inpaint head,
            which are no base.
    """
    files = locate_model(name_or_folder, download=download)
    if layout_of(files.path) == "difference":
        raise BackboneError(f"{files.path} holds only the difference to a base model: go on from a whole model instead")
    if files.head is not None:
        raise BackboneError(
            f"{files.name!r} has an inpaint head, which an instruction model has no room for: use the model without "
            "Fooocus' files, like sdxl"
        )
    return load_parts(files, device, dtype)


def _load_difference(
    files: ModelFiles,
    device: str | torch.device,
    dtype: torch.dtype | None,
    *,
    download: bool,
    base: Backbone | None,
) -> Backbone:
    import torch

    folder = files.path
    index = read_json(folder / INDEX)
    if not all(isinstance(index.get(key), str) for key in ("base", "base_hash")):
        raise BackboneError(f"{folder / INDEX} names no base model with its hash: copy or train the model again")
    if base is None:
        where = index["base"] if index["base"] in catalog else folder / index["base"]
        base, unet = load_instruct_base(where, device, dtype, download=download), None
    else:
        _refuse_adapters(base)
        unet = copy.deepcopy(base.unet)
    if base.hash != index["base_hash"]:
        raise BackboneError(
            f"{folder} was made for another {index['base']!r} ({index['base_hash'][:12]}…) than the one here "
            f"({base.hash[:12]}…): get the one it was made for, or train it anew"
        )
    unet = start_instructions(base.unet if unet is None else unet, "zero")
    config = {key: value for key, value in read_json(folder / "unet" / "config.json").items() if key[:1] != "_"}
    own = json.loads(json.dumps({key: unet.config[key] for key in config if key in unet.config}))
    if config != own:
        other = sorted(key for key in config if config[key] != own.get(key))
        raise BackboneError(f"the U-Net of {folder} differs from its base in {', '.join(other[:4])}: train it anew")
    stored, values = _stored(folder), unet.state_dict()
    wrong = sorted(key for key in stored if key not in values or values[key].shape != stored[key].shape)
    if wrong or "conv_in.weight" not in stored:
        raise BackboneError(
            f"weights of {folder / 'unet'} do not fit their config: {', '.join(wrong[:4]) or 'conv_in.weight'}; copy "
            "or train the model again"
        )
    with torch.no_grad():
        for key, value in stored.items():
            values[key].copy_(value)
    unet.eval().requires_grad_(False)
    return replace(
        base,
        name=files.name,
        path=folder,
        address=files.address,
        unet=unet,
        licence=base.licence if files.entry is None else files.entry.licence,
    )


def _refuse_adapters(base: Backbone) -> None:
    parts = [*base.unet.modules(), *base.unet.attn_processors.values()]
    if not all(type(part).__module__.startswith(("torch.", "diffusers.")) for part in parts):
        raise BackboneError(
            f"an adapter is in the U-Net of {base.name!r}: eject it before an instruction model is loaded"
        )


def _stored(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in part_files(folder, "unet"):
        try:
            found |= load_file(path)
        except Exception as error:
            raise BackboneError(f"{path} cannot be read: copy or download the model again") from error
    return found


def check_instruct_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """That `save_instruct_model` may write there: nothing is there, or, to be replaced, another model that it wrote.

    Raises:
        BackboneError: a file, a folder of anything else, or a model that is not to be replaced.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or layout_of(folder) != "difference":
        raise BackboneError(f"{folder} exists and is no model that was trained here: give a new folder")
    if not overwrite:
        raise BackboneError(f"{folder} exists: give another folder, or say to overwrite it")


def save_instruct_model(
    folder: str | Path, unet: Any, base: Backbone, names: Collection[str], card: Mapping[str, Any]
) -> None:
    """Write an instruction model as the difference to its base, replacing one that was there once all is written.

    Args:
        unet: the eight-channel U-Net; float16 is what is kept of it.
        base: the model it was trained from, as it was loaded.
        names: the parameters to keep, as in the U-Net's state dict; `conv_in`'s weight always is.
        card: what is told of the weights in `model_card.json`.

    Raises:
        BackboneError: the U-Net is not an instruction model's or not of the base's shape, a name is not one of its
            parameters, or another parameter than these differs from the base's; or the folder holds something else.
    """
    import torch
    from huggingface_hub import save_torch_state_dict

    latent = base.latent_channels
    if int(unet.config.in_channels) != 2 * latent:
        raise BackboneError(f"a U-Net of {unet.config.in_channels} channels cannot be saved: it must take {2 * latent}")
    values, before = unet.state_dict(), base.unet.state_dict()
    kept = {"conv_in.weight", *names}
    unknown = sorted(kept - set(values))
    if unknown or set(values) != set(before):
        odd = unknown or sorted(set(values) ^ set(before))
        raise BackboneError(f"{', '.join(odd[:4])}: no parameters of both the U-Net and its base; eject adapters first")
    moved = sorted(k for k in set(values) - kept if not torch.equal(values[k].cpu().float(), before[k].cpu().float()))
    if moved:
        raise BackboneError(f"{len(moved)} parameters differ from the base's ({moved[0]}, …): name them too")
    folder = Path(folder)
    check_instruct_folder(folder, overwrite=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(new, ignore_errors=True)
    (new / "unet").mkdir(parents=True)
    shown = {key: values[key].detach().half().cpu().contiguous() for key in sorted(kept)}
    pattern = WEIGHT_STEMS["unet"] + "{suffix}.safetensors"
    save_torch_state_dict(shown, new / "unet", filename_pattern=pattern, max_shard_size=SHARD_SIZE)
    unet.save_config(new / "unet")
    # diffusers keeps the folder that the base was loaded from, which says nothing elsewhere.
    config = {key: value for key, value in read_json(new / "unet" / "config.json").items() if key != "_name_or_path"}
    _write(new / "unet" / "config.json", config)
    where = base.known_as
    if base.path is not None and where not in catalog:
        where = Path(os.path.relpath(base.path.resolve(), folder.resolve())).as_posix()
    _write(new / INDEX, {"_class_name": DIFFERENCE_CLASS, "base": where, "base_hash": base.hash})
    _write(new / "model_card.json", card)
    if folder.exists():
        shutil.rmtree(folder)
    new.replace(folder)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
