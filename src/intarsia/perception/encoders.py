"""Image-text encoders: a scorer of captions and a zero-shot tagger made of any two towers that share a space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from intarsia.imaging import Window
from intarsia.perception.errors import HelperError
from intarsia.perception.helpers import Box, FloatArray, Photo, Pixels, QualityScorer, Tag, crop

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

_CHUNK = 64
_MOST_TEXTS = 20_000
_SURROUNDINGS = 0.1
_TEMPERATURE = 100.0


class _Texts:
    """Unit text embeddings, each text encoded once."""

    def __init__(self, encode: Any) -> None:
        self._encode = encode
        self._known: dict[str, FloatArray] = {}

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        if len(self._known) > _MOST_TEXTS:
            self._known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(new), _CHUNK):
            part = new[start : start + _CHUNK]
            self._known.update(zip(part, _unit(self._encode(part)), strict=True))
        return np.stack([self._known[text] for text in texts])


class TowerScorer:
    """The image and text towers of a backbone (the miniature's, or SDXL's with its image encoder)."""

    def __init__(self, backbone: Backbone) -> None:
        if backbone.image_encoder is None:
            raise HelperError(f"model {backbone.name!r} has no image encoder to score captions with: use clip:FOLDER")
        self.backbone = backbone
        self._texts = _Texts(self._encode)

    @classmethod
    def load(cls, model: str, device: str = "auto") -> TowerScorer:
        """The towers of a model's name or folder. Raises BackboneError."""
        import torch

        from intarsia.backbones import load_backbone

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(load_backbone(model, device))

    @cached_property
    def name(self) -> str:
        return f"towers:{self.backbone.name}@{self.backbone.hash[:12]}"

    def similarity(self, crops: Sequence[Pixels], texts: Sequence[str]) -> FloatArray:
        """See `QualityScorer.similarity`."""
        return _normalised(self.embed(crops)) @ self._texts(texts).T

    def embed(self, crops: Sequence[Pixels]) -> FloatArray:
        """See `PictureEmbedder.embed`."""
        import torch

        side = self.backbone.native_size
        views = [Window.resize(pixels.astype(np.float32) / 255, (side, side)) for pixels in crops]
        with torch.no_grad():
            images = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2) * 2 - 1
            return _values(self.backbone.image_embeddings(images))

    def _encode(self, texts: Sequence[str]) -> Tensor:
        import torch

        with torch.no_grad():
            return self.backbone.text_embeddings(texts)


class ClipScorer:
    """A model of transformers with `get_image_features` and `get_text_features`: CLIP, SigLIP, ALIGN …"""

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, name: str = "clip") -> None:
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise HelperError(f"{name}: {type(model).__name__} has no image and text features: use a CLIP-like model")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.name = name
        self._texts = _Texts(self._encode)

    @classmethod
    def load(cls, model: str, device: str = "auto") -> ClipScorer:
        """From a folder or a name at the model hub. Raises HelperError."""
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        from intarsia.perception.loading import load_parts

        (loaded, tokenizer, processor), name = load_parts(
            "clip", model, device, AutoModel, AutoTokenizer, AutoImageProcessor
        )
        return cls(loaded, tokenizer, processor, name)

    def similarity(self, crops: Sequence[Pixels], texts: Sequence[str]) -> FloatArray:
        """See `QualityScorer.similarity`."""
        return _normalised(self.embed(crops)) @ self._texts(texts).T

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Unit embeddings (N, D) in the pictures' space."""
        return self._texts(texts)

    def embed(self, crops: Sequence[Pixels]) -> FloatArray:
        """See `PictureEmbedder.embed`."""
        import torch

        images = [Image.fromarray(np.ascontiguousarray(pixels)) for pixels in crops]
        inputs = self.image_processor(images=images, return_tensors="pt")
        with torch.no_grad():
            features = self.model.get_image_features(inputs["pixel_values"].to(self.model.device, self.model.dtype))
        return _values(_pooled(features))

    def _encode(self, texts: Sequence[str]) -> Tensor:
        import torch

        longest = getattr(getattr(self.model.config, "text_config", None), "max_position_embeddings", 77)
        inputs = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.model.device)
        with torch.no_grad():
            return _pooled(self.model.get_text_features(**inputs))


class ZeroShotTagger:
    """Says which words of a vocabulary fit a picture, by an image-text encoder. A word's score is its probability
    against the empty statement "a photo" (softmax of the two similarities times 100, CLIP's temperature)."""

    def __init__(self, scorer: QualityScorer, words: Sequence[str], least: float = 0.6) -> None:
        if not words:
            raise HelperError("the vocabulary of tags is empty: give a file with one noun a line")
        self.scorer = scorer
        self.words = tuple(dict.fromkeys(" ".join(word.lower().split()) for word in words))
        self.least = least

    @property
    def name(self) -> str:
        return f"zero-shot {self.scorer.name}, {len(self.words)} words"

    def tag(self, photo: Photo, box: Box | None = None) -> list[Tag]:
        """Words of at least the least score, best first."""
        pixels = photo.rgb if box is None else crop(photo.rgb, box, _SURROUNDINGS)
        similar = self.scorer.similarity([pixels], ["a photo", *(f"a photo of a {word}" for word in self.words)])[0]
        scores = 1 / (1 + np.exp(-_TEMPERATURE * (similar[1:] - similar[0])))
        order = np.argsort(-scores, kind="stable")
        return [Tag(self.words[n], float(scores[n])) for n in order if scores[n] >= self.least]


def _unit(features: Tensor) -> FloatArray:
    return _normalised(_values(features))


def _values(features: Tensor) -> FloatArray:
    return np.asarray(features.float().cpu().numpy(), np.float32)


def _normalised(values: FloatArray) -> FloatArray:
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def _pooled(features: Any) -> Tensor:
    pooled: Tensor = getattr(features, "pooler_output", features)
    return pooled
