"""From a folder in the diffusers layout to a `Backbone`, strictly: nothing missing is ever filled with
noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.backbone import DEFAULT_BACKGROUND_PROMPT, Backbone
from intarsia.backbones.errors import BackboneError
from intarsia.backbones.known_models import catalog, find_model
from intarsia.backbones.weights import (
    INDEX,
    OPTIONAL_PARTS,
    layout_of,
    part_variant,
    parts_of,
    weight_files,
)

if TYPE_CHECKING:
    import torch

_LATENT_UNET_CHANNELS = "2 x latent channels + 1 mask"
_ADDS = (
    "{folder} holds an instruction model: it adds objects without a mask (use it as the model of `add`) and cannot "
    "paint into one; use an inpainting model"
)


def load_backbone(
    name_or_folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    download: bool = False,
) -> Backbone:
    """Load a model of the catalog, or a folder with `model_index.json` and one subfolder per part.

    Weights (safetensors, whole or sharded, any precision) are cast to `dtype` (float32 by default). A VAE
    that asks for it (`force_upcast`) stays in float32 when the rest is float16. Nothing is downloaded unless
    `download` is set.

    Raises:
        UnknownModelError, MissingWeightsError: see `find_model`.
        BackboneError: parts, weights or settings are missing, corrupt, or not those of a nine-channel SDXL.
    """
    name, folder = find_model(name_or_folder, download=download)
    if layout_of(folder) == "difference":
        raise BackboneError(_ADDS.format(folder=folder))
    backbone = load_folder(name, folder, device, dtype)
    _require_inpainting(folder, backbone.vae, backbone.unet)
    return backbone


def load_folder(name: str, folder: Path, device: str | torch.device, dtype: torch.dtype | None) -> Backbone:
    """A model folder with all its parts, of one or two text towers, whatever its U-Net reads.

    Raises:
        BackboneError: parts, weights or settings are missing or corrupt.
    """
    import torch

    index = read_json(folder / INDEX)
    _require_parts(folder)
    dtype = torch.float32 if dtype is None else dtype
    with _quietly():
        parts: dict[str, Any] = {part: _load_part(folder, part, dtype) for part in parts_of(folder)}
    if dtype is torch.float16 and parts["vae"].config.get("force_upcast", False):
        parts["vae"] = _load_part(folder, "vae", torch.float32)
    for module in parts.values():
        module.eval().requires_grad_(False).to(device)
    mean, std = _image_statistics(folder)
    second = parts.get("text_encoder_2")
    return Backbone(
        name=name,
        path=folder,
        vae=parts["vae"],
        unet=parts["unet"],
        tokenizer=_load_tokenizer(folder, "tokenizer", parts["text_encoder"]),
        tokenizer_2=None if second is None else _load_tokenizer(folder, "tokenizer_2", second),
        text_encoder=parts["text_encoder"],
        text_encoder_2=second,
        image_encoder=parts.get("image_encoder"),
        scheduler_config=read_json(folder / "scheduler" / "scheduler_config.json"),
        # What Stable Diffusion 1.5 is guided away from is the empty prompt, encoded.
        force_zeros_for_empty_prompt=bool(index.get("force_zeros_for_empty_prompt", second is not None)),
        image_mean=mean,
        image_std=std,
        licence=catalog[name].licence if name in catalog else None,
        background_prompt=_background_prompt(folder),
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


def _require_inpainting(folder: Path, vae: Any, unet: Any) -> None:
    wanted = 2 * int(vae.config.latent_channels) + 1
    got = int(unet.config.in_channels)
    if got == wanted - 1:
        raise BackboneError(_ADDS.format(folder=folder))
    if got != wanted:
        raise BackboneError(
            f"the U-Net of {folder} takes {got} channels, not the {wanted} of an inpainting model "
            f"({_LATENT_UNET_CHANNELS}): use an inpainting model, or make one of it (see widen_for_inpainting)"
        )
    if unet.config.addition_embed_type != "text_time":
        raise BackboneError(
            f"the U-Net of {folder} has no SDXL size conditioning: use a model of the SDXL family"
        )


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
