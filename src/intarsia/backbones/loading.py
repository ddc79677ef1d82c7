"""From a folder in the diffusers layout, or a single file, to a `Backbone`, strictly: nothing missing is ever filled
with noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.backbone import DEFAULT_BACKGROUND_PROMPT, Backbone
from intarsia.backbones.errors import BackboneError
from intarsia.backbones.fooocus_head import load_head
from intarsia.backbones.fooocus_patch import load_patch, merge_patch
from intarsia.backbones.known_models import ModelFiles, locate_model
from intarsia.backbones.single_file import load_single_file, single_file_schedule
from intarsia.backbones.weights import (
    INDEX,
    OPTIONAL_PARTS,
    layout_of,
    part_files,
    part_variant,
    parts_of,
    weight_files,
)

if TYPE_CHECKING:
    import torch

_ADDS = (
    "{folder} holds an instruction model: it adds objects without a mask (use it as the model of `add`) and cannot "
    "paint into one; use an inpainting model"
)


def load_backbone(
    name_or_path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    download: bool = False,
) -> Backbone:
    """Load a model that can paint into a mask: an inpainting or a text-to-image model of SDXL's or Stable Diffusion
    1.5's shape, by anything that `locate_model` knows.

    Weights (safetensors, whole or sharded, any precision) are cast to `dtype` (float32 by default). A VAE
    that asks for it (`force_upcast`) stays in float32 when the rest is float16. Nothing is downloaded unless
    `download` is set.

    Raises:
        UnknownModelError, MissingWeightsError: see `locate_model`.
        BackboneError: parts, weights or settings are missing, corrupt, or of a model that cannot paint into a mask.
    """
    files = locate_model(name_or_path, download=download)
    if layout_of(files.path) == "difference":
        raise BackboneError(_ADDS.format(folder=files.path))
    backbone = load_parts(files, device, dtype)
    if backbone.kind == "instruct":
        raise BackboneError(_ADDS.format(folder=files.path))
    return backbone


def load_parts(files: ModelFiles, device: str | torch.device, dtype: torch.dtype | None) -> Backbone:
    """A model's parts from its files, whatever its U-Net reads.

    Raises:
        BackboneError: parts, weights or settings are missing or corrupt.
    """
    import torch

    dtype = torch.float32 if dtype is None else dtype
    folder = files.path if files.parts is None else files.parts
    index = read_json(folder / INDEX)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    with _quietly():
        if files.parts is None:
            _require_parts(folder)
            formats = {"unet": _stored_format(folder)} if files.patch is not None else {}
            parts: dict[str, Any] = {
                part: _load_part(folder, part, formats.get(part, dtype)) for part in parts_of(folder)
            }
            if dtype is torch.float16 and parts["vae"].config.get("force_upcast", False):
                parts["vae"] = _load_part(folder, "vae", torch.float32)
        else:
            parts = load_single_file(files.path, folder, dtype, unchanged=() if files.patch is None else ("unet",))
            scheduler |= single_file_schedule(files.path)
    if files.patch is not None:
        # Added to the weights as they are in the file, and rounded once.
        merge_patch(parts["unet"], load_patch(files.patch), keep_originals=False, dtype=dtype)
    for module in parts.values():
        module.eval().requires_grad_(False).to(device)
    if files.head is not None:
        load_head(files.head).inject(parts["unet"])
    mean, std = _image_statistics(folder)
    second = parts.get("text_encoder_2")
    return Backbone(
        name=files.name,
        path=files.path,
        vae=parts["vae"],
        unet=parts["unet"],
        tokenizer=_load_tokenizer(folder, "tokenizer", parts["text_encoder"]),
        tokenizer_2=None if second is None else _load_tokenizer(folder, "tokenizer_2", second),
        text_encoder=parts["text_encoder"],
        text_encoder_2=second,
        image_encoder=parts.get("image_encoder"),
        scheduler_config=scheduler,
        # What Stable Diffusion 1.5 is guided away from is the empty prompt, encoded.
        force_zeros_for_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", second is not None)),
        image_mean=mean,
        image_std=std,
        licence=None if files.entry is None else files.entry.licence,
        background_prompt=_background_prompt(folder),
        address=files.address,
        other_weights=files.other_weights,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' own bars for the shards of each part; they come back as they were."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    modules = [m for m in (diffusers_logging, transformers_logging) if m.is_progress_bar_enabled()]
    for module in modules:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module in modules:
            module.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BackboneError(
            f"{path} is missing: give a complete model folder in the diffusers layout"
        ) from error
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path} cannot be read as JSON: copy or download the model again") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} is not a JSON object: copy or download the model again")
    return content


def _require_parts(folder: Path) -> None:
    tokenizers = ["tokenizer"] if layout_of(folder) == "one-tower" else ["tokenizer", "tokenizer_2"]
    wanted = [part for part in parts_of(folder) if part not in OPTIONAL_PARTS] + [*tokenizers, "scheduler"]
    missing = [part for part in wanted if not (folder / part).is_dir()]
    if missing:
        raise BackboneError(f"model folder {folder} lacks {', '.join(missing)}: complete the folder")
    weight_files(folder)


def _part_class(part: str) -> Any:
    import diffusers
    import transformers

    classes: Mapping[str, Any] = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": transformers.CLIPTextModel,
        "text_encoder_2": transformers.CLIPTextModelWithProjection,
        "image_encoder": transformers.CLIPVisionModelWithProjection,
    }
    return classes[part]


def _load_part(folder: Path, part: str, dtype: torch.dtype) -> Any:
    try:
        module, info = _part_class(part).from_pretrained(
            str(folder / part),
            dtype=dtype,
            variant=part_variant(folder, part),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except BackboneError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise BackboneError(
            f"{part!r} of model folder {folder} cannot be loaded ({reason}): copy or download the model again"
        ) from error
    wrong = [
        f"{label} {', '.join(map(str, sorted(info[key], key=str)[:4]))}"
        for key, label in (("missing_keys", "missing"), ("mismatched_keys", "of another shape"))
        if info.get(key)
    ]
    if wrong:
        raise BackboneError(f"weights of {part!r} in {folder} do not fit their config: {'; '.join(wrong)}")
    return module


def _stored_format(folder: Path) -> torch.dtype:
    """The number format of a U-Net's weights on disk; float32 for an unusual one."""
    import torch
    from safetensors import safe_open

    with safe_open(str(part_files(folder, "unet")[0]), framework="pt") as stream:
        stored = stream.get_slice(next(iter(stream.keys()))).get_dtype()
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(stored, torch.float32)


def _load_tokenizer(folder: Path, part: str, tower: Any) -> Any:
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / part), local_files_only=True)
    except Exception as error:
        raise BackboneError(
            f"{part!r} of model folder {folder} cannot be loaded: complete the folder"
        ) from error
    # A tokenizer saved without its window claims an endless one.
    tokenizer.model_max_length = min(tokenizer.model_max_length, int(tower.config.max_position_embeddings))
    return tokenizer


def _background_prompt(folder: Path) -> str:
    """What the folder's `model_card.json` says that the model calls emptiness, where there is one."""
    path = folder / "model_card.json"
    card = read_json(path) if path.is_file() else {}
    return str(card.get("background_prompt", DEFAULT_BACKGROUND_PROMPT))


def _image_statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation the image tower was trained with; 0.5 where no preprocessor config says
    otherwise."""
    for part in ("image_encoder", "feature_extractor"):
        path = folder / part / "preprocessor_config.json"
        if path.is_file():
            config = read_json(path)
            half = [0.5] * 3
            return tuple(config.get("image_mean", half)), tuple(config.get("image_std", half))
    return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
