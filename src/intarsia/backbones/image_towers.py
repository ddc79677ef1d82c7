"""Image towers that come with the weights of a reference adapter, for models that have none of their own."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones.errors import BackboneError
from intarsia.backbones.hash_cache import cached_hash
from intarsia.backbones.weights import hash_files

if TYPE_CHECKING:
    import torch

    from intarsia.backbones.backbone import Backbone

# Of the pictures that CLIP's towers were trained on (Radford et al. 2021); a folder's preprocessor config goes first.
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_NAME = "image_encoder"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True, eq=False)
class ImageTower:
    """A `CLIPVisionModelWithProjection`, how pictures are normalised for it, and the sha256 of its weights."""

    model: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    hash: str

    def on(self, backbone: Backbone) -> Backbone:
        """The backbone with this tower instead of its own, all else shared."""
        return replace(backbone, image_encoder=self.model, image_mean=self.mean, image_std=self.std)


def find_image_tower(file: Path, width: int) -> Path | None:
    """The folder of an image tower, `width` wide inside, near a file of reference weights: `image_encoder` beside it,
    or where IP-Adapter's repository keeps it, `models/image_encoder` beside the file's folder. None: there is none."""
    for above in (file.parent, file.parent.parent / "models", file.parent.parent):
        folder = above / _NAME
        with suppress(OSError, ValueError, AttributeError):
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            if config.get("hidden_size") == width and (folder / _WEIGHTS).is_file():
                return folder
    return None


def load_image_tower(folder: Path, device: str | torch.device, dtype: torch.dtype) -> ImageTower:
    """The tower in a folder of transformers' layout, safetensors only, frozen.

    Raises:
        BackboneError: it does not load, or lacks weights.
    """
    from transformers import CLIPVisionModelWithProjection

    tower: Any = CLIPVisionModelWithProjection
    try:
        model, info = tower.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise BackboneError(f"the image encoder in {folder} cannot be loaded ({reason}): copy it again") from error
    if info.get("missing_keys") or info.get("mismatched_keys"):
        raise BackboneError(f"the weights of the image encoder in {folder} do not fit its config: copy it again")
    mean, std = _CLIP_MEAN, _CLIP_STD
    with suppress(OSError, ValueError, AttributeError):
        settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, std = tuple(settings.get("image_mean", mean)), tuple(settings.get("image_std", std))
    files = [folder / _WEIGHTS]
    digest = cached_hash(files, lambda: hash_files(folder, files))
    return ImageTower(model.eval().requires_grad_(False).to(device), mean, std, digest)
