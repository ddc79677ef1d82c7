"""A photo of a thing -> what the image tower and the reference U-Net look at: the thing alone, on white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intarsia.conditioning.errors import ConditioningError
from intarsia.errors import MaskSizeError

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

TOWER_MARGIN = 1.02
"""Side of the image tower's square, in longest sides of the cut-out."""


@dataclass(frozen=True, eq=False)
class CutOut:
    """A thing's pixels on white, as tight as its mask: `rgb` float32 (H, W, 3) in [0, 1], `mask` (H, W), True
    on the thing."""

    rgb: FloatArray
    mask: BoolArray

    def __post_init__(self) -> None:
        _check(self.rgb, self.mask)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return int(self.mask.shape[0]), int(self.mask.shape[1])


@dataclass(frozen=True, eq=False)
class ReferenceViews:
    """`tower` (1, 3, s, s) and `latent` (1, 3, S, S) in [-1, 1]; `mask` (1, 1, S, S): 1 where `latent` shows
    the thing, 0 on its padding."""

    tower: Tensor
    latent: Tensor
    mask: Tensor


def cut_out(rgb: FloatArray, mask: BoolArray) -> CutOut:
    """Cut the thing at `mask` (H, W) out of a photo (H, W, 3) in [0, 1]: its box, white where the mask is not.

    Raises:
        MaskSizeError: the mask has another size than the photo.
        ConditioningError: the mask marks nothing, or the photo's values cannot be used.
    """
    _check(rgb, mask)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    inside = mask[box].copy()
    return CutOut(np.where(inside[..., None], rgb[box], np.float32(1.0)).astype(np.float32), inside)


def reference_views(cutout: CutOut, tower_side: int, native_side: int) -> ReferenceViews:
    """What the image tower sees and what the reference U-Net's latent is encoded from; nothing is distorted.

    Tower: the cut-out in the middle of a white square of int(1.02 · longest side), resized with antialiasing.
    Latent: the longest side resized to `native_side`, then padded with white to a square. A pixel of the mask
    is 1 where it covers any pixel of the cut-out's mask.
    """
    import torch
    from torch.nn.functional import adaptive_max_pool2d, interpolate

    height, width = cutout.size
    picture = torch.from_numpy(np.ascontiguousarray(cutout.rgb.transpose(2, 0, 1)))[None] * 2 - 1
    mask = torch.from_numpy(cutout.mask.astype(np.float32))[None, None]
    longest = max(height, width)
    tower = interpolate(
        _centred(picture, int(TOWER_MARGIN * longest), 1.0),
        size=(tower_side, tower_side),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    size = tuple(max(1, round(side * native_side / longest)) for side in (height, width))
    latent = interpolate(picture, size=size, mode="bilinear", antialias=True, align_corners=False)
    return ReferenceViews(
        tower.clamp(-1, 1),  # weights that sum to one only nearly
        _centred(latent.clamp(-1, 1), native_side, 1.0),
        _centred(adaptive_max_pool2d(mask, size), native_side, 0.0),
    )


def _centred(picture: Tensor, side: int, background: float) -> Tensor:
    """(1, C, h, w) in the middle of (1, C, side, side)."""
    height, width = picture.shape[-2:]
    top, left = (side - height) // 2, (side - width) // 2
    square = picture.new_full((1, picture.shape[1], side, side), background)
    square[..., top : top + height, left : left + width] = picture
    return square


def _check(rgb: FloatArray, mask: BoolArray) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or not np.issubdtype(rgb.dtype, np.floating):
        raise ConditioningError(
            f"reference of shape {rgb.shape} and type {rgb.dtype} cannot be used: give (H, W, 3) as float32"
        )
    if mask.shape != rgb.shape[:2] or mask.dtype != np.bool_:
        size = "x".join(str(side) for side in mask.shape)
        raise MaskSizeError(
            f"the reference's mask ({size}, {mask.dtype}) does not fit the photo of "
            f"{rgb.shape[0]}x{rgb.shape[1]} px: give one boolean per pixel"
        )
    if not mask.any():
        raise ConditioningError("the reference's mask marks no pixel: mark the thing in the photo")
    if not bool(np.isfinite(rgb).all()) or rgb.min() < 0.0 or rgb.max() > 1.0:
        raise ConditioningError("the reference has values outside [0, 1]: give RGB between 0 and 1")
