"""`Window`: which rectangle of the scene is painted in, at which native size, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.errors import KnobError, WindowError
from intarsia.imaging.arrays import FloatArray, Size, describe

Resample = Literal["lanczos", "bicubic", "bilinear", "area", "nearest"]
_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels inside a scene."""

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1:
            raise WindowError(
                f"{self} is no window; top and left must be at least 0, height and width at least 1"
            )

    @classmethod
    def full(cls, size: Size) -> Window:
        """The whole scene of `size` (height, width)."""
        return cls(0, 0, *size)

    @classmethod
    def around(
        cls,
        mask_box: tuple[int, int, int, int],
        scene_size: Size,
        *,
        margin: float = 0.15,
        share: float | None = None,
        minimum_fraction: float = 0.0,
    ) -> Window:
        """The window for a mask's box (top, left, height, width); it always contains the box and lies in
        the scene.

        Without `share`, the rule of DreamMix's code: a square around the box's middle with `margin` on its
        longer half axis, cut off at the scene's borders, then grown until both sides reach
        `minimum_fraction` of the scene's. With `share`, the adaptive rule: a square in which the box's
        longer side fills that share (at most what the margin leaves); it is moved rather than cut off at
        borders, and cut only where the scene itself is smaller.
        """
        top, left, height, width = mask_box
        inside = 0 <= top <= scene_size[0] - height and 0 <= left <= scene_size[1] - width
        if not inside or min(height, width) < 1:
            raise WindowError(
                f"the box {mask_box} (top, left, height, width) is not inside the scene of "
                f"{describe(scene_size)}; give a box of this scene"
            )
        if margin < 0 or not 0 <= minimum_fraction <= 1 or not (share is None or 0 < share <= 1):
            raise KnobError(
                f"margin {margin}, share {share}, minimum fraction {minimum_fraction}: margin must be "
                "0 or more, share above 0 and at most 1, the fraction from 0 to 1"
            )
        if share is None:
            return _clipped_and_grown(mask_box, scene_size, margin, minimum_fraction)
        longest = max(height, width)
        side = max(longest / share, longest * (1 + margin), minimum_fraction * max(scene_size))
        rows = _shifted(top, height, math.ceil(side), scene_size[0])
        columns = _shifted(left, width, math.ceil(side), scene_size[1])
        return cls(rows[0], columns[0], rows[1], columns[1])

    @property
    def size(self) -> Size:
        """(height, width) in scene pixels."""
        return self.height, self.width

    def contains(self, box: tuple[int, int, int, int]) -> bool:
        """Whether the box (top, left, height, width) lies wholly inside."""
        top, left, height, width = box
        return (
            self.top <= top
            and self.left <= left
            and top + height <= self.top + self.height
            and left + width <= self.left + self.width
        )

    def native_size(self, native: int, multiple: int, max_aspect: float = 4.0) -> Size:
        """The (height, width) to sample at: about native² pixels, this window's aspect, both multiples of
        `multiple`.

        The aspect is kept within the rounding, up to `max_aspect` to 1; longer windows are squeezed to that.
        """
        if native < 1 or multiple < 1 or max_aspect < 1:
            raise KnobError(
                f"native {native}, multiple {multiple}, max aspect {max_aspect} must each be at least 1"
            )
        aspect = min(max(self.height / self.width, 1 / max_aspect), max_aspect)
        height, width = native * math.sqrt(aspect), native / math.sqrt(aspect)
        return _to_multiple(height, multiple), _to_multiple(width, multiple)

    def crop(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The part of a scene-sized array (H, W) or (H, W, C) under the window, as a view."""
        if self.top + self.height > array.shape[0] or self.left + self.width > array.shape[1]:
            raise WindowError(
                f"{self} reaches beyond the scene of {describe((array.shape[0], array.shape[1]))}"
            )
        return array[self.top : self.top + self.height, self.left : self.left + self.width]

    @staticmethod
    def resize(array: NDArray[Any], size: Size, resample: Resample = "lanczos") -> FloatArray:
        """The array (H, W) or (H, W, C) at `size` (h, w), float32; filters widen when shrinking, so nothing
        aliases.

        Lanczos and bicubic may overshoot the input's range a little.
        """
        values = np.asarray(array, np.float32)
        if values.shape[:2] == tuple(size):
            return values.copy()
        if values.ndim == 3:
            return np.stack(
                [Window.resize(values[..., i], size, resample) for i in range(values.shape[2])], axis=-1
            )
        image = Image.fromarray(np.ascontiguousarray(values))
        return np.array(image.resize((size[1], size[0]), _FILTERS[resample]), np.float32)

    def read(self, array: NDArray[Any], size: Size, resample: Resample = "lanczos") -> FloatArray:
        """Crop a scene-sized array with values in [0, 1] and resize it to `size`; overshoot is clipped."""
        return np.clip(self.resize(self.crop(array), size, resample), 0.0, 1.0)

    def write(self, target: NDArray[Any], patch: NDArray[Any], resample: Resample = "lanczos") -> FloatArray:
        """A float32 copy of the scene-sized target with the patch, values in [0, 1], resized into the
        window."""
        result = np.array(target, np.float32)
        self.crop(result)[...] = np.clip(self.resize(patch, self.size, resample), 0.0, 1.0)
        return result


def _shifted(start: int, length: int, wanted: int, scene: int) -> tuple[int, int]:
    """(start, length) of a span of `wanted` pixels around the given one, moved into [0, scene)."""
    wanted = min(max(wanted, length), scene)
    middle = start - (wanted - length) // 2
    return min(max(middle, 0), scene - wanted), wanted


def _clipped_and_grown(
    box: tuple[int, int, int, int], scene: Size, margin: float, minimum_fraction: float
) -> Window:
    top, left, height, width = box
    half = int(max((height - 1) // 2, (width - 1) // 2) * (1 + margin))
    # Two (start, end) spans, rows and columns. The middle is rounded down, so the box may stick out by a
    # pixel.
    spans = [
        (
            max(0, min(start, start + (length - 1) // 2 - half)),
            min(limit, max(start + length, start + (length - 1) // 2 + half + 1)),
        )
        for start, length, limit in ((top, height, scene[0]), (left, width, scene[1]))
    ]
    wanted = [minimum_fraction * limit for limit in scene]
    while any(end - start < least for (start, end), least in zip(spans, wanted, strict=True)):
        shorter = 0 if spans[0][1] - spans[0][0] < spans[1][1] - spans[1][0] else 1
        if spans[shorter] == (0, scene[shorter]):
            shorter = 1 - shorter
        start, end = spans[shorter]
        spans[shorter] = (max(0, start - 1), min(scene[shorter], end + 1))
    (top, bottom), (left, right) = spans
    return Window(top, left, bottom - top, right - left)


def _to_multiple(length: float, multiple: int) -> int:
    return max(1, math.floor(length / multiple + 0.5)) * multiple
