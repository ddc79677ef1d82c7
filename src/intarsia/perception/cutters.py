"""Cutting the subject out of a photo: the protocol, the guess, finding by words, and the choice by a short text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from intarsia.perception.cutout import estimate_mask
from intarsia.perception.errors import CutOutError, HelperError
from intarsia.perception.helpers import BoolArray, Box, Detector, FloatArray, Photo, Segmenter
from intarsia.perception.masks import clip_box

CutOrigin = Literal["estimated", "grabcut", "sam2"]
"""How a mask came about, as photos remember it."""

_MARGIN = 0.25
_FORMS = "guess, grabcut, or sam2:MODEL+grounding-dino:MODEL (with boxes sam2:MODEL is enough)"


class SubjectCutter(Protocol):
    """Says which pixels of a photo are the subject's."""

    @property
    def name(self) -> str:
        """Which cutter this is, with the versions of its models."""
        ...

    @property
    def origin(self) -> CutOrigin:
        """What photos remember."""
        ...

    def cut(self, rgb: FloatArray, class_noun: str, box: Box | None = None) -> BoolArray:
        """Photo (H, W, 3) in [0, 1] -> mask (H, W), True on the subject, never empty.

        ``box`` (x, y, w, h) in pixels says roughly where it is; without one the cutter looks for it.
        Raises CutOutError: it is not found.
        """
        ...


@dataclass(frozen=True)
class GuessCutter:
    """`estimate_mask`: needs nothing, and knows no words."""

    name: str = "guess"
    origin: CutOrigin = "estimated"

    def cut(self, rgb: FloatArray, class_noun: str = "", box: Box | None = None) -> BoolArray:
        """See `SubjectCutter.cut`; with a box, the guess is made in the box with a quarter of surroundings."""
        if box is None:
            return estimate_mask(rgb)
        x, y, w, h = checked_box(box, rgb)
        window = widened((x, y, w, h), _MARGIN, rgb)
        left, top, width, height = window
        guess = estimate_mask(rgb[top : top + height, left : left + width])
        mask = np.zeros(rgb.shape[:2], bool)
        mask[top : top + height, left : left + width] = guess
        inside = np.zeros_like(mask)
        inside[y : y + h, x : x + w] = mask[y : y + h, x : x + w]
        return inside if inside.any() else _filled(mask, (x, y, w, h))


@dataclass(frozen=True, eq=False)
class FoundCutter:
    """A detector finds the class noun, the best box is segmented (Grounding DINO with SAM 2, or others alike).

    Without a detector each photo needs its box.

    Args:
        least: a best box of a lower score counts as nothing found.
    """

    segmenter: Segmenter
    detector: Detector | None = None
    least: float = 0.25
    origin: CutOrigin = "sam2"

    @property
    def name(self) -> str:
        return self.segmenter.name if self.detector is None else f"{self.segmenter.name}+{self.detector.name}"

    def cut(self, rgb: FloatArray, class_noun: str, box: Box | None = None) -> BoolArray:
        """See `SubjectCutter.cut`."""
        photo = Photo("", np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))
        place = self._found(photo, class_noun) if box is None else checked_box(box, rgb)
        mask = self.segmenter.segment(photo, [place])[0].mask
        if not mask.any():
            raise CutOutError(
                f"{self.segmenter.name} marks nothing in the box {','.join(map(str, place))}: "
                "give another box, a mask, or cut out with grabcut"
            )
        return np.asarray(mask, bool)

    def _found(self, photo: Photo, class_noun: str) -> Box:
        if self.detector is None:
            raise CutOutError(f"{self.name} needs to be told where the {class_noun} is: give a box, or add a detector")
        noun = " ".join(class_noun.lower().split())
        if not noun:
            raise CutOutError("no class noun was given: say what to look for, such as duck")
        found = self.detector.detect(photo, [noun])
        best = max(found, key=lambda one: one.score, default=None)
        if best is None or best.score < self.least:
            seen = "nothing" if best is None else f"nothing surer than {best.score:.2f}"
            raise CutOutError(
                f"{self.detector.name} finds no {noun} ({seen}; {self.least:g} is needed): "
                "give a box or a mask, or another class noun"
            )
        return best.box


def cutter_from_option(option: str, device: str = "auto") -> SubjectCutter:
    """ "guess", "grabcut", "sam2:MODEL+grounding-dino:MODEL" or "sam2:MODEL" -> a cutter; loads no model yet.

    MODEL is a folder or a name at the model hub, possibly with @REVISION.

    Raises:
        CutOutError: any other text, or a package that is not installed.
    """
    if option == "guess":
        return GuessCutter()
    if option == "grabcut":
        from intarsia.perception.grabcut import GrabCutter

        return GrabCutter()
    segmenter, plus, detector = option.partition("+grounding-dino:")
    kind, _, model = segmenter.partition(":")
    if kind != "sam2" or not model or bool(plus) != bool(detector):
        raise CutOutError(f"cut-out {option!r} is unknown: use {_FORMS}")
    return _LazyCutter(model, detector, device)


@dataclass(frozen=True)
class _LazyCutter:
    """SAM 2, perhaps with Grounding DINO, loaded for the first photo that needs them."""

    segmenter: str
    detector: str
    device: str
    origin: CutOrigin = "sam2"

    @property
    def name(self) -> str:
        return self._loaded.name

    def cut(self, rgb: FloatArray, class_noun: str, box: Box | None = None) -> BoolArray:
        return self._loaded.cut(rgb, class_noun, box)

    @cached_property
    def _loaded(self) -> FoundCutter:
        from intarsia.perception.grounding_dino import GroundingDetector
        from intarsia.perception.sam2 import Sam2Segmenter

        try:
            segmenter = Sam2Segmenter.load(self.segmenter, self.device)
            detector = GroundingDetector.load(self.detector, self.device) if self.detector else None
        except HelperError as error:
            raise CutOutError(str(error)) from error
        return FoundCutter(segmenter, detector)


def checked_box(box: Box, rgb: FloatArray) -> Box:
    """The box cut to the photo. Raises CutOutError where they share no pixel."""
    clipped = clip_box(*box, (rgb.shape[0], rgb.shape[1]))
    if clipped is None:
        raise CutOutError(
            f"the box {','.join(map(str, box))} (x,y,w,h) is not in the photo of {rgb.shape[1]} x {rgb.shape[0]} "
            "pixels: give one that holds the subject"
        )
    return clipped


def widened(box: Box, share: float, rgb: FloatArray) -> Box:
    """The box grown by ``share`` of its sides on each side, as far as the photo reaches."""
    x, y, w, h = box
    dx, dy = share * w, share * h
    return clip_box(x - dx, y - dy, w + 2 * dx, h + 2 * dy, (rgb.shape[0], rgb.shape[1])) or box


def _filled(like: BoolArray, box: Box) -> BoolArray:
    x, y, w, h = box
    result = np.zeros_like(like)
    result[y : y + h, x : x + w] = True
    return result
