"""The held-out judges of Tabletop as encoders. They condition nothing, and stand in offline for CLIP, DINO, Inception
and LPIPS' network: their numbers compare methods with each other and with nothing published."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intarsia.evaluation.bench.encoders import EncoderSet, Floats, Pixels
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.cases import as_float
from intarsia.evaluation.judges import Judges, crop_around

_BATCH = 64
_HEAD_WIDTH = 32


def tabletop_encoders(judges: Judges | None = None) -> EncoderSet:
    """All of them, from the judges' folder. Raises BenchError, JudgesError or ImageJudgeError."""
    judges = Judges.load() if judges is None else judges
    return EncoderSet(
        "tabletop",
        clip=JudgeTowers(judges),
        dino=JudgePortraits(judges),
        features=JudgeFeatures(judges),
        perceptual=JudgeMaps(judges),
        judges=judges,
        cut_out=False,
    )


class _OfCrops:
    """Embeds batches of crops (B, 3, 64, 64) in [-1, 1]."""

    name: str
    hash: str

    def images(self, crops: Sequence[Pixels]) -> Floats:
        """Whole pictures in a square of which their border fills the rest → (N, D)."""
        found = []
        for start in range(0, len(crops), _BATCH):
            part = [crop_around(as_float(c), np.ones(c.shape[:2], bool), 1.0) for c in crops[start : start + _BATCH]]
            with torch.no_grad():
                found.append(self._embed(torch.stack(part)).numpy())
        return np.concatenate(found).astype(np.float32)

    def _embed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class JudgeTowers(_OfCrops):
    """The text and the image tower that were trained together, contrastively, as the miniature's own but from another
    seed and never part of it: one space for both."""

    def __init__(self, judges: Judges) -> None:
        self._tower = judges.image.tower
        file = _folder(judges) / "text.safetensors"
        self._text, self._tokenizer = _text_tower(file), _tokenizer(_folder(judges))
        both = judges.image.hash + hashlib.sha256(file.read_bytes()).hexdigest()
        self.name, self.hash = "tabletop judge towers", hashlib.sha256(both.encode()).hexdigest()

    def texts(self, texts: Sequence[str]) -> Floats:
        """→ (N, D)."""
        ids = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._text.config.max_position_embeddings,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        with torch.no_grad():
            return np.asarray(self._text(input_ids=ids).text_embeds.numpy(), np.float32)

    def _embed(self, x: Tensor) -> Tensor:
        embedded: Tensor = self._tower(pixel_values=x).image_embeds
        return embedded


class JudgePortraits(_OfCrops):
    """The instance judge: like DINO it learned without labels that views of one thing belong together."""

    def __init__(self, judges: Judges) -> None:
        self._judge = judges.instances
        self.name, self.hash = "tabletop instance judge", judges.hash

    def _embed(self, x: Tensor) -> Tensor:
        embedded: Tensor = self._judge(x)
        return embedded


class JudgeFeatures(_OfCrops):
    """The pooled features of the attribute judge: like Inception's, of a classifier; each picture's scaled to a mean
    square of one, so that KID's kernel is of the order of one as well."""

    def __init__(self, judges: Judges) -> None:
        self._trunk = judges.attributes.trunk
        self.name, self.hash = "tabletop attribute judge, pooled features of mean square 1", judges.hash

    def _embed(self, x: Tensor) -> Tensor:
        features: Tensor = self._trunk(x)
        return features / features.square().mean(1, keepdim=True).sqrt()


class JudgeMaps:
    """The attribute judge's feature maps after each of its stages, with weights of one: LPIPS' formula, but not its
    network nor its learned weights."""

    def __init__(self, judges: Judges) -> None:
        first, act, *blocks = judges.attributes.trunk.layers
        self._stages: list[Any] = [torch.nn.Sequential(first, act), *blocks]
        widths = [stage.skip.out_channels for stage in self._stages[1:]]
        self.weights: list[Tensor] = [torch.ones(width) for width in (self._stages[0][0].out_channels, *widths)]
        self.name, self.hash = "tabletop attribute judge, feature maps, unit weights", judges.hash

    def maps(self, pixels: Pixels) -> list[Tensor]:
        """(H, W, 3) → (1, C, h, w) of each stage."""
        x = torch.from_numpy(as_float(pixels)).permute(2, 0, 1)[None] * 2 - 1
        found = []
        with torch.no_grad():
            for stage in self._stages:
                x = stage(x)
                found.append(x)
        return found


def _folder(judges: Judges) -> Path:
    if judges.folder is None:
        raise BenchError("these judges were not loaded from a folder, so there is no text judge: use Judges.load")
    return judges.folder


def _tokenizer(folder: Path) -> Any:
    """Of the miniature that was exported with the judges: the same recipe makes both tokenizers."""
    from transformers import CLIPTokenizer

    place = folder.parent / "miniature" / "tokenizer_2"
    if not place.is_dir():
        raise BenchError(f"the tokenizer {place} is missing: judges stand beside the miniature that they came with")
    return CLIPTokenizer.from_pretrained(str(place), local_files_only=True)


def _text_tower(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    again = "train the judges with: python -m intarsia.training --stage judges"
    if not path.is_file():
        raise BenchError(f"the text judge {path} is missing; {again}")
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
        rows, width = weights["text_model.embeddings.token_embedding.weight"].shape
        config = CLIPTextConfig(
            vocab_size=rows,
            hidden_size=width,
            intermediate_size=len(weights["text_model.encoder.layers.0.mlp.fc1.bias"]),
            num_hidden_layers=sum(name.endswith(".mlp.fc1.bias") for name in weights),
            num_attention_heads=max(1, width // _HEAD_WIDTH),
            max_position_embeddings=len(weights["text_model.embeddings.position_embedding.weight"]),
            projection_dim=len(weights["text_projection.weight"]),
            hidden_act="gelu",
            bos_token_id=rows - 2,
            eos_token_id=rows - 1,
            pad_token_id=rows - 1,
        )
        tower: Any = CLIPTextModelWithProjection(config)
        tower.load_state_dict(weights)
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise BenchError(f"{path} holds no text tower ({str(error).splitlines()[0]}); {again}") from error
    return tower.eval().requires_grad_(False)
