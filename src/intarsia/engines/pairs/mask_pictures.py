"""Mask pictures: which of their pixels are a thing, which labels they hold, and where these are."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from intarsia.engines.pairs.errors import InstanceError
from intarsia.perception import Box, box_of

BoolArray = NDArray[np.bool_]
Shares = tuple[float, float, float, float]
"""A box's left, top, right and bottom as shares of the picture's sides."""

_MOST_PIXELS = 100_000_000
_NUMBERED = ("L", "P", "I", "I;16")
_WHITE = _VOID = 255


def open_mask(data: bytes) -> Image.Image:
    """The decoded mask picture. Raises InstanceError: it is none, or has more than 100 million pixels."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > _MOST_PIXELS:
            raise Image.DecompressionBombError
        image.load()
    except Image.DecompressionBombError as error:
        raise InstanceError(f"it has more than {_MOST_PIXELS // 10**6} million pixels") from error
    except UnidentifiedImageError as error:
        raise InstanceError("it is no picture") from error
    except Exception as error:  # decoders raise almost anything on hostile bytes
        raise InstanceError(str(error) or type(error).__name__) from error
    return image


def labels_of(image: Image.Image) -> list[int]:
    """The values of a label map, sorted; none for a mask of black and white.

    Zero is nothing. A palette's 255 is what PASCAL VOC leaves out around things; a grey picture that holds 255 is a
    mask: softened edges from black to white are no hundred things.
    """
    if image.mode not in _NUMBERED:
        return []
    found = {int(value) for value in np.unique(np.array(image))} - {0}
    if image.mode == "L":
        return [] if _WHITE in found else sorted(found)
    if found == {_WHITE}:
        return []
    return sorted(found - {_VOID} if image.mode == "P" else found)


def mask_in(image: Image.Image, label: int | None) -> BoolArray:
    """The pixels (H, W) of one value of a label map, or the white ones. Raises InstanceError: several channels."""
    values = np.array(image.convert("L") if label is None else image)
    if values.ndim != 2:
        raise InstanceError(f"as a label map it has {values.shape[-1]} channels, give it one")
    return np.asarray(values > 127 if label is None else values == label)


def places_in(image: Image.Image, labels: list[int]) -> dict[int | None, Shares]:
    """Where each label's pixels are, and under None where the white ones are; nothing for what has no pixels."""
    height, width = image.height, image.width
    if not labels:
        box = box_of(mask_in(image, None))
        return {} if box is None else {None: _shares(box, width, height)}
    values = np.array(image)
    ys, xs = np.nonzero(values)
    order = np.argsort(values[ys, xs], kind="stable")
    ys, xs = ys[order], xs[order]
    found, starts = np.unique(values[ys, xs], return_index=True)
    left, right = np.minimum.reduceat(xs, starts), np.maximum.reduceat(xs, starts)
    top, bottom = np.minimum.reduceat(ys, starts), np.maximum.reduceat(ys, starts)
    sides = zip(left, top, right - left + 1, bottom - top + 1, strict=True)
    boxes = {int(label): [int(side) for side in box] for label, box in zip(found, sides, strict=True)}
    return {label: _shares((x, y, w, h), width, height) for label in labels for x, y, w, h in [boxes[label]]}


def _shares(box: Box, width: int, height: int) -> Shares:
    x, y, w, h = box
    return x / width, y / height, (x + w) / width, (y + h) / height
