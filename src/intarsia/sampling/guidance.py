"""Classifier-free guidance: by the whole condition, or by words and reference apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intarsia.sampling.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Block:
    """One part of a model call's batch: does it see the prompt, or the negative; does it see the
    reference?"""

    text: bool
    reference: bool


FULL, REFERENCE_ONLY, NEITHER = Block(True, True), Block(False, True), Block(False, False)


@dataclass(frozen=True)
class Guidance:
    """`scale` 1 (or less) is no guidance. `rescale` in [0, 1] pulls the guided spread back to the conditional
    one (Lin et al. 2023, eq. 15-16). `interval`: the part of the steps, as fractions [from, to), that is
    guided (Kynkäänniemi et al. 2024).

    `reference_scale` None guides words and reference together (the paper): away from the negative prompt
    without the reference. A number guides them apart (Brooks et al. 2023, eq. 3, the reference first):
    `scale` is then the words' alone, and any value of both counts; only 1 and 1 is no guidance. Where nothing
    is referred to, it says nothing.
    """

    scale: float = 5.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    reference_scale: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < float("inf"):
            raise SamplingError(f"guidance scale {self.scale} is not usable: use a number of 0 or more")
        if not 0.0 <= self.rescale <= 1.0:
            raise SamplingError(f"guidance rescale {self.rescale} is outside its range: use 0 to 1")
        if not 0.0 <= self.interval[0] <= self.interval[1] <= 1.0:
            raise SamplingError(f"guidance interval {self.interval} is no part of the steps: use 0 ≤ from ≤ to ≤ 1")
        if self.reference_scale is not None and not 0.0 <= self.reference_scale < float("inf"):
            raise SamplingError(
                f"reference guidance scale {self.reference_scale} is not usable: use a number of 0 or more"
            )

    def active(self, step: int, steps: int) -> bool:
        """Whether step `step` of `steps` is guided."""
        apart = self.reference_scale is not None and (self.scale, self.reference_scale) != (1.0, 1.0)
        return (self.scale > 1.0 or apart) and self.interval[0] <= step / steps < self.interval[1]

    def blocks(self, step: int, steps: int) -> tuple[Block, ...]:
        """What the model is asked at a step, the whole condition last; `combine` takes the answers.

        Predictions that would count zero times are not asked for: apart guidance with two equal scales is
        joint guidance, and with a reference scale of 1 leads away from the reference alone.
        """
        if not self.active(step, steps):
            return (FULL,)
        if self.reference_scale is None or self.reference_scale == self.scale:
            return NEITHER, FULL
        return (REFERENCE_ONLY, FULL) if self.reference_scale == 1.0 else (NEITHER, REFERENCE_ONLY, FULL)


def combine(predictions: Mapping[Block, Tensor], guidance: Guidance) -> Tensor:
    """The guided prediction (B, C, h, w) from the predictions of `Guidance.blocks`."""
    full = predictions[FULL]
    if len(predictions) == 1:
        return full
    if len(predictions) == 2:
        (other,) = (prediction for block, prediction in predictions.items() if block != FULL)
        return guide(full, other, guidance)
    return guide_apart(full, predictions[REFERENCE_ONLY], predictions[NEITHER], guidance)


def guide(positive: Tensor, negative: Tensor, guidance: Guidance) -> Tensor:
    """negative + scale · (positive - negative), per sample rescaled; all (B, C, h, w)."""
    return _rescaled(negative + guidance.scale * (positive - negative), positive, guidance.rescale)


def guide_apart(full: Tensor, reference_only: Tensor, neither: Tensor, guidance: Guidance) -> Tensor:
    """e(0,0) + s_R · (e(0,R) - e(0,0)) + s_T · (e(T,R) - e(0,R)), per sample rescaled; all (B, C, h, w).

    s_T is `scale`, s_R is `reference_scale`. The sum is ordered so that s_T = s_R = 1 gives e(T,R) exactly.
    """
    if guidance.reference_scale is None:
        raise SamplingError("guiding words and reference apart needs a reference_scale: give a number")
    words = (guidance.scale - 1.0) * (full - reference_only)
    subject = (guidance.reference_scale - 1.0) * (reference_only - neither)
    return _rescaled(full + words + subject, full, guidance.rescale)


def _rescaled(guided: Tensor, full: Tensor, rescale: float) -> Tensor:
    """φ · guided · std(full) / std(guided) + (1 - φ) · guided  (Lin et al. 2023, eq. 15-16)."""
    if rescale == 0.0:
        return guided
    axes = list(range(1, full.ndim))
    matched = guided * (full.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True))
    return rescale * matched + (1 - rescale) * guided
