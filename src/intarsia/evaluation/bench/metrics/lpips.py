"""The formula of LPIPS (Zhang et al. 2018, eq. 1) for feature maps and linear weights of any network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-8


def lpips(a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """(B,): each layer's weighted squared difference of unit features, averaged over its places, summed over layers.

    ``a``, ``b``: per layer (B, C, h, w). ``weights``: per layer (C,).
    """
    layers = [_difference(*layer).mean((1, 2)) for layer in zip(a, b, weights, strict=True)]
    return sum(layers[1:], layers[0])


def lpips_map(a: Sequence[Tensor], b: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """(B, H, W): the same, each layer enlarged to the pictures' size (bilinearly) in place of its average."""
    from torch.nn import functional

    layers = [
        functional.interpolate(_difference(*layer)[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        for layer in zip(a, b, weights, strict=True)
    ]
    return sum(layers[1:], layers[0])


def _difference(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """(B, h, w)."""
    squared = (_unit(a) - _unit(b)).square()
    return (squared * weights.reshape(1, -1, 1, 1)).sum(1)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + _EPSILON).sqrt()
