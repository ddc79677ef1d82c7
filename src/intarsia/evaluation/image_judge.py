"""The held-out image tower, for a similarity like CLIP-I."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.errors import IntarsiaError

_HEAD_WIDTH = 32
"""Of every tower that the recipes train; the weights do not tell it."""


class ImageJudgeError(IntarsiaError):
    """The image tower's weights are missing or unusable."""


@dataclass(frozen=True, eq=False)
class ImageJudge:
    """``tower``: a ``CLIPVisionModelWithProjection``; ``hash``: SHA-256 of its file."""

    tower: Any
    hash: str

    @staticmethod
    def load(path: Path) -> ImageJudge:
        """Read ``image.safetensors`` of the judges.

        Raises:
            ImageJudgeError: no such file, or no such tower in it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        again = "train the judges with: python -m intarsia.training --stage judges"
        if not path.is_file():
            raise ImageJudgeError(f"the image judge {path} is missing; {again}")
        try:
            weights = {name: value.float() for name, value in load_file(path).items()}
            tower: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**_sizes(weights)))
            tower.load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ImageJudgeError(f"{path} holds no image tower ({reason}); {again}") from error
        tower.eval().requires_grad_(False)
        return ImageJudge(tower, hashlib.sha256(path.read_bytes()).hexdigest())

    @torch.no_grad()
    def embed(self, crops: Sequence[Tensor]) -> Tensor:
        """Crops (3, 64, 64) in [-1, 1] → unit embeddings (N, D)."""
        return functional.normalize(self.tower(pixel_values=torch.stack(list(crops))).image_embeds, dim=1)


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    embeddings = "vision_model.embeddings"
    width, _, patch, _ = weights[f"{embeddings}.patch_embedding.weight"].shape
    places = len(weights[f"{embeddings}.position_embedding.weight"]) - 1
    return {
        "hidden_size": width,
        "intermediate_size": len(weights["vision_model.encoder.layers.0.mlp.fc1.bias"]),
        "num_hidden_layers": sum(name.endswith(".mlp.fc1.bias") for name in weights),
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "image_size": patch * math.isqrt(places),
        "patch_size": patch,
        "projection_dim": len(weights["visual_projection.weight"]),
        "hidden_act": "gelu",
    }
