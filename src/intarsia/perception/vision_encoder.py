"""Self-supervised image encoders of transformers, such as DINO and DINOv2: a picture's class token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from intarsia.perception.errors import HelperError
from intarsia.perception.helpers import FloatArray, Pixels


class _Headless:
    """As `AutoModel`, without the pooling layer on top of a plain ViT: DINO's files have none."""

    @staticmethod
    def from_pretrained(folder: str, **options: Any) -> Any:
        from transformers import AutoConfig, AutoModel

        kept = {name: options[name] for name in ("local_files_only", "trust_remote_code")}
        plain = AutoConfig.from_pretrained(folder, **kept).model_type == "vit"
        return AutoModel.from_pretrained(folder, **options, **({"add_pooling_layer": False} if plain else {}))


class VisionEncoder:
    """The class token after the last norm, (N, D), as DINO (Caron et al. 2021) and DINOv2 are compared by."""

    def __init__(self, model: Any, image_processor: Any, name: str = "dino") -> None:
        config = getattr(model, "config", None)
        if not hasattr(config, "patch_size") or hasattr(config, "text_config") or hasattr(config, "projection_dim"):
            raise HelperError(f"{name}: {type(model).__name__} has no class token: use a DINO or DINOv2 (a plain ViT)")
        self.model = model.eval().requires_grad_(False)
        self.image_processor = image_processor
        self.name = name

    @classmethod
    def load(cls, model: str, device: str = "auto", kind: str = "dino") -> VisionEncoder:
        """From a folder or a name at the model hub that was fetched before. Raises HelperError."""
        from transformers import AutoImageProcessor

        from intarsia.perception.loading import load_parts

        (loaded, processor), name = load_parts(kind, model, device, _Headless, AutoImageProcessor)
        return cls(loaded, processor, name)

    def embed(self, crops: Sequence[Pixels]) -> FloatArray:
        """See `PictureEmbedder.embed`."""
        import torch

        images = [Image.fromarray(np.ascontiguousarray(pixels)) for pixels in crops]
        inputs = self.image_processor(images=images, return_tensors="pt")
        with torch.no_grad():
            states = self.model(inputs["pixel_values"].to(self.model.device, self.model.dtype)).last_hidden_state
        return np.asarray(states[:, 0].float().cpu().numpy(), np.float32)
