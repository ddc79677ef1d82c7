"""The protocols of the helper models of a data engine, and what they answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Box = tuple[int, int, int, int]
View = Literal["context", "cutout"]


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture that helpers look at: its key (the file's path below the folder) and RGB pixels (H, W, 3)."""

    key: str
    rgb: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


@dataclass(frozen=True)
class Tag:
    """A word or two for something in the picture; ``score`` in [0, 1], None where the helper gives none."""

    text: str
    score: float | None = None


@dataclass(frozen=True)
class Detection:
    """A half-open box (x, y, w, h) of one thing. ``score``: how sure that something is there; ``text_score``: how sure
    that it is what the tag says."""

    box: Box
    tag: str
    score: float
    text_score: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A mask (H, W), True on the thing, and the IoU with the truth that the helper predicts for it."""

    mask: BoolArray
    predicted_iou: float | None = None


@dataclass(frozen=True)
class Description:
    """A short local caption and, where the helper gives one, how sure it is of it, in [0, 1]."""

    text: str
    score: float | None = None


class Tagger(Protocol):
    """Names what is in a picture."""

    @property
    def name(self) -> str:
        """Which helper this is, with its version: part of each row's provenance."""
        ...

    def tag(self, photo: Photo, box: Box | None = None) -> list[Tag]:
        """Tags of the whole picture, or of the part inside ``box`` (a second look). Lower case."""
        ...


class Detector(Protocol):
    """Finds where the tags' things are."""

    @property
    def name(self) -> str:
        """See `Tagger.name`."""
        ...

    def detect(self, photo: Photo, tags: Sequence[str]) -> list[Detection]:
        """Boxes inside the picture, each with one of the given tags; several per tag, or none."""
        ...


class Segmenter(Protocol):
    """Cuts out what stands in a box."""

    @property
    def name(self) -> str:
        """See `Tagger.name`."""
        ...

    def segment(self, photo: Photo, boxes: Sequence[Box]) -> list[Segmentation]:
        """One mask for each box, in their order; a mask may be empty."""
        ...


class Captioner(Protocol):
    """Describes one thing in about five to ten words: attribute, noun, accessory."""

    @property
    def name(self) -> str:
        """See `Tagger.name`."""
        ...

    def caption(self, photo: Photo, box: Box, mask: BoolArray, view: View = "context") -> Description:
        """``context``: the box with some surroundings is looked at; ``cutout``: the mask's pixels on white."""
        ...


class QualityScorer(Protocol):
    """Compares pictures with texts."""

    @property
    def name(self) -> str:
        """See `Tagger.name`."""
        ...

    def similarity(self, crops: Sequence[Pixels], texts: Sequence[str]) -> FloatArray:
        """Cosine similarities (N crops, T texts); crops are RGB (h, w, 3) of any sizes."""
        ...


class PictureEmbedder(QualityScorer, Protocol):
    """A scorer that also gives the pictures' own embeddings."""

    def embed(self, crops: Sequence[Pixels]) -> FloatArray:
        """Embeddings (N, D) as the image tower gives them, not normalised."""
        ...


def crop(rgb: Pixels, box: Box, margin: float = 0.0) -> Pixels:
    """The pixels of a box grown by ``margin`` of its sides on each side, as far as the picture reaches."""
    x, y, w, h = box
    dx, dy = round(w * margin), round(h * margin)
    return rgb[max(0, y - dy) : y + h + dy, max(0, x - dx) : x + w + dx]


def cut_out(rgb: Pixels, mask: BoolArray, box: Box) -> Pixels:
    """The mask's pixels on white, cut to the box."""
    return crop(np.where(mask[..., None], rgb, np.uint8(255)), box)
