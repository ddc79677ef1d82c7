"""Classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from intarsia.sampling.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """`scale` 1 (or less) is no guidance. `rescale` in [0, 1] pulls the guided spread back to the conditional
    one (Lin et al. 2023, eq. 15-16). `interval`: the part of the steps, as fractions [from, to), that is
    guided (Kynkäänniemi et al. 2024).
    """

    scale: float = 5.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < float("inf"):
            raise SamplingError(f"guidance scale {self.scale} is not usable: use a number of 0 or more")
        if not 0.0 <= self.rescale <= 1.0:
            raise SamplingError(f"guidance rescale {self.rescale} is outside its range: use 0 to 1")
        if not 0.0 <= self.interval[0] <= self.interval[1] <= 1.0:
            raise SamplingError(
                f"guidance interval {self.interval} is no part of the steps: use 0 ≤ from ≤ to ≤ 1"
            )

    def active(self, step: int, steps: int) -> bool:
        """Whether step `step` of `steps` is guided."""
        return self.scale > 1.0 and self.interval[0] <= step / steps < self.interval[1]


def guide(positive: Tensor, negative: Tensor, guidance: Guidance) -> Tensor:
    """negative + scale · (positive - negative), per sample rescaled; all (B, C, h, w)."""
    guided = negative + guidance.scale * (positive - negative)
    if guidance.rescale == 0.0:
        return guided
    axes = list(range(1, positive.ndim))
    matched = guided * (positive.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True))
    return guidance.rescale * matched + (1 - guidance.rescale) * guided
