"""Helpers that know the truth of rendered pictures and distort it: for trying out filters without any download.

Each is wrong about a thing with the noise's probability; see `Noise`. Nothing but their answers reaches the filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from intarsia.perception.helpers import BoolArray, Box, Description, Detection, Photo, Segmentation, Tag, View
from intarsia.perception.masks import box_iou, box_overlap, clip_box, grow, mask_iou, shrink
from intarsia.perception.noise import Noise
from intarsia.perception.phrases import describe
from intarsia.perception.truth import Truth, TruthObject, remembered_truth

VERBS = ("stand", "sit", "shine", "display", "play")
_RIGHT_IOU = 0.8


@dataclass(frozen=True)
class _TruthHelper:
    """``folder``: the pictures' folder, below which photos' keys are paths."""

    folder: Path
    noise: Noise = field(default_factory=Noise)

    @property
    def name(self) -> str:
        kind = type(self).__name__.removeprefix("Truth").lower()
        return f"truth-{kind}/1 noise={self.noise.level:g} repeat={self.noise.repeat:g} seed={self.noise.seed}"

    def _truth(self, photo: Photo) -> Truth:
        return remembered_truth(self.folder / photo.key)


class TruthTagger(_TruthHelper):
    """Errors: a thing missed, called another thing, or called by what it does. The background is always named."""

    def tag(self, photo: Photo, box: Box | None = None) -> list[Tag]:
        """See `Tagger.tag`; in a box, the things of which at least half is inside."""
        truth = self._truth(photo)
        found: dict[str, float] = {}
        for number, thing in enumerate(truth.objects):
            if box is not None and box_overlap(thing.box, box) < 0.5 * thing.box[2] * thing.box[3]:
                continue
            word: str | None = thing.nouns[0]
            error = self.noise.error("tagger", photo.key, number, box)
            if error is not None:
                names = {noun for other in truth.objects for noun in other.nouns}
                strange = [word for word in truth.words["nouns"] if word not in names] or [*VERBS]
                kind = error.integers(3)
                word = None if kind == 0 else str(error.choice(strange if kind == 1 else VERBS))
            if word is not None:
                score = self.noise.score(self.noise.draw("tag score", photo.key, number, box), error is None)
                found[word] = max(score, found.get(word, 0.0))
        if box is None:
            draw = self.noise.draw("background", photo.key)
            found |= {word: self.noise.score(draw, True) for word in truth.background if word not in found}
        return [Tag(word, score) for word, score in sorted(found.items(), key=lambda item: (-item[1], item[0]))]


class TruthDetector(_TruthHelper):
    """Errors: a box shifted, too small, too large, around two things, or around nothing. For a tag without a thing,
    half of the time a box of something else."""

    def detect(self, photo: Photo, tags: Sequence[str]) -> list[Detection]:
        """See `Detector.detect`."""
        truth = self._truth(photo)
        found: list[Detection] = []
        for tag in tags:
            meant = [number for number, thing in enumerate(truth.objects) if tag in thing.nouns]
            for number in meant:
                found += self._found(photo, truth, number, tag)
            draw = self.noise.draw("no such thing", photo.key, tag)
            if not meant and truth.objects and self.noise.level and draw.random() < 0.5:
                box = truth.objects[int(draw.integers(len(truth.objects)))].box
                found += self._scored(draw, _jittered(box, draw, photo.size), tag, False)
        return sorted(found, key=lambda detection: -detection.score)

    def _found(self, photo: Photo, truth: Truth, number: int, tag: str) -> list[Detection]:
        box: Box | None = truth.objects[number].box
        draw = self.noise.draw("box", photo.key, number, tag)
        error = self.noise.error("detector", photo.key, number, tag)
        if error is not None:
            box = _wrong_box(truth, number, error, photo.size)
        elif self.noise.level:
            box = _jittered(truth.objects[number].box, draw, photo.size)
        right = box is not None and box_iou(box, truth.objects[number].box) >= _RIGHT_IOU
        return self._scored(draw, box, tag, right)

    def _scored(self, draw: np.random.Generator, box: Box | None, tag: str, right: bool) -> list[Detection]:
        if box is None:
            return []
        score, text_score = (0.2 + 0.6 * self.noise.score(draw, right) for _ in range(2))
        return [Detection(box, tag, score, text_score)]


class TruthSegmenter(_TruthHelper):
    """Cuts out the thing that fits the box best, no farther than the box reaches; in a large box also what else is in
    it. Errors: too thin, too thick, leaking into what is near, or with a part missing."""

    def segment(self, photo: Photo, boxes: Sequence[Box]) -> list[Segmentation]:
        """See `Segmenter.segment`."""
        truth = self._truth(photo)
        return [self._one(photo, truth, box) for box in boxes]

    def _one(self, photo: Photo, truth: Truth, box: Box) -> Segmentation:
        draw = self.noise.draw("mask", photo.key, box)
        fits = [box_iou(thing.box, box) for thing in truth.objects]
        if not fits or max(fits) < 0.15:
            return Segmentation(_ellipse(box, photo.size), 0.6 + 0.4 * self.noise.score(draw, False))
        number = int(np.argmax(fits))
        whole = truth.objects[number].mask
        mask = whole & _inside(box, photo.size, margin=0.06)
        for other in truth.objects[:number] + truth.objects[number + 1 :]:
            if box_overlap(other.box, box) > 0.7 * other.box[2] * other.box[3] and box_iou(other.box, box) > 0.2:
                mask = mask | other.mask
        error = self.noise.error("segmenter", photo.key, number, box)
        if error is not None:
            mask = _wrong_mask(truth, number, mask, error)
        right = mask_iou(mask, whole) >= _RIGHT_IOU
        return Segmentation(mask, 0.6 + 0.4 * self.noise.score(draw, right))


class TruthCaptioner(_TruthHelper):
    """Errors: another thing is described, or the colour, the noun or the accessory is wrong. Material, pattern and
    accessory are left out now and then, which is no error."""

    def caption(self, photo: Photo, box: Box, mask: BoolArray, view: View = "context") -> Description:
        """See `Captioner.caption`."""
        truth = self._truth(photo)
        draw = self.noise.draw("caption", photo.key, box, view)
        fits = [mask_iou(thing.mask, mask) + 0.1 * box_iou(thing.box, box) for thing in truth.objects]
        if not fits or max(fits) < 0.05:
            return Description(f"a {truth.background[0] if truth.background else 'background'}", 0.5)
        number = int(np.argmax(fits))
        error = self.noise.error("captioner", photo.key, number, view)
        noun, attributes = truth.objects[number].nouns[0], dict(truth.objects[number].attributes)
        if error is not None:
            noun, attributes = _wrong_words(truth, number, error)
        if self.noise.level:
            for kind, share in (("material", 0.2), ("pattern", 0.1), ("accessories", 0.1)):
                if draw.random() < share:
                    attributes.pop(kind, None)
        return Description(describe(noun, attributes, opening="a"), self.noise.score(draw, error is None))


def _jittered(box: Box, draw: np.random.Generator, size: tuple[int, int]) -> Box | None:
    x, y, w, h = box
    left, top, right, bottom = draw.normal(0.0, 0.015, 4)
    return clip_box(x + left * w, y + top * h, w * (1 + right - left), h * (1 + bottom - top), size)


def _wrong_box(truth: Truth, number: int, error: np.random.Generator, size: tuple[int, int]) -> Box | None:
    x, y, w, h = truth.objects[number].box
    others = [thing.box for thing in truth.objects[:number] + truth.objects[number + 1 :]]
    kind = int(error.integers(5))
    if kind == 0:
        angle, length = error.uniform(0, 2 * np.pi), error.uniform(0.25, 0.6)
        return clip_box(x + length * w * np.cos(angle), y + length * h * np.sin(angle), w, h, size)
    if kind == 1:
        part, across, down = error.uniform(0.45, 0.75), error.random(), error.random()
        return clip_box(x + across * (1 - part) * w, y + down * (1 - part) * h, part * w, part * h, size)
    if kind == 2 or (kind == 3 and not others):
        part = error.uniform(1.35, 2.0)
        return clip_box(x - (part - 1) / 2 * w, y - (part - 1) / 2 * h, part * w, part * h, size)
    if kind == 3:
        ox, oy, ow, oh = min(others, key=lambda other: abs(other[0] - x) + abs(other[1] - y))
        left, top = min(x, ox), min(y, oy)
        return left, top, max(x + w, ox + ow) - left, max(y + h, oy + oh) - top
    return clip_box(error.uniform(0, size[1] - w), error.uniform(0, size[0] - h), w, h, size)


def _wrong_mask(truth: Truth, number: int, mask: BoolArray, error: np.random.Generator) -> BoolArray:
    side = float(np.sqrt(max(1, mask.sum())))
    kind = int(error.integers(4))
    amount = max(1, round(error.uniform(0.06, 0.16) * side))
    if kind == 0:
        return shrink(mask, amount)
    if kind == 1:
        return grow(mask, amount)
    if kind == 2:
        others = [thing.mask for thing in truth.objects[:number] + truth.objects[number + 1 :]]
        near = grow(mask, round(0.3 * side))
        side_of_it = _half(mask, error.uniform(0, 2 * np.pi), 0.35)
        nearby: BoolArray = np.logical_or.reduce([side_of_it, *others])
        return mask | (near & nearby)
    return mask & ~_half(mask, error.uniform(0, 2 * np.pi), error.uniform(-0.2, 0.35))


def _half(mask: BoolArray, angle: float, offset: float) -> BoolArray:
    """The half plane beyond the mask's middle, moved outward by ``offset`` of the mask's extent."""
    ys, xs = np.indices(mask.shape)
    across = xs * np.cos(angle) + ys * np.sin(angle)
    inside = across[mask] if mask.any() else across.ravel()
    return np.asarray(across > inside.mean() + offset * (inside.max() - inside.min()))


def _wrong_words(truth: Truth, number: int, error: np.random.Generator) -> tuple[str, dict[str, str]]:
    thing = truth.objects[number]
    others = truth.objects[:number] + truth.objects[number + 1 :]
    noun, attributes = thing.nouns[0], dict(thing.attributes)
    kind = int(error.integers(4))
    if kind == 0 and others:
        other: TruthObject = others[int(error.integers(len(others)))]
        return other.nouns[0], dict(other.attributes)
    if kind <= 1:
        attributes["colour"] = _another(truth.words["colour"], thing.colours, error)
    elif kind == 2:
        noun = _another(truth.words["nouns"], thing.nouns, error)
    else:
        worn = thing.attributes.get("accessories", "")
        choices = [f"{colour} {word}" for colour in truth.words["colour"] for word in truth.words["accessories"]]
        attributes["accessories"] = _another(choices, (worn,), error)
    return noun, attributes


def _another(words: Sequence[str], known: Sequence[str], error: np.random.Generator) -> str:
    return str(error.choice([word for word in words if word not in known] or [*words]))


def _inside(box: Box, size: tuple[int, int], margin: float) -> BoolArray:
    x, y, w, h = box
    dx, dy = round(margin * w), round(margin * h)
    result = np.zeros(size, bool)
    result[max(0, y - dy) : y + h + dy, max(0, x - dx) : x + w + dx] = True
    return result


def _ellipse(box: Box, size: tuple[int, int]) -> BoolArray:
    x, y, w, h = box
    ys, xs = np.ogrid[: size[0], : size[1]]
    return np.asarray(((xs + 0.5 - x - w / 2) / (w / 2)) ** 2 + ((ys + 0.5 - y - h / 2) / (h / 2)) ** 2 <= 1)
