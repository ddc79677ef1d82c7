"""Keeping the known region known (eq. 5 and 6): the noisy latent before each model call, x0 after it.

M is the latent mask, 1 = repaint. The first blend is the paper's; without the second, the scheduler's history
and the last latent carry what the model made up outside the hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from intarsia.sampling.errors import SamplingError

if TYPE_CHECKING:
    from torch import Tensor

KnownNoise = Literal["fresh", "fixed"]
"""Of the known region: drawn anew at each step, or once."""


@dataclass(frozen=True, eq=False)
class KnownRegion:
    """`latents` (1 or B, C, h, w): the scaled clean latent to hold on to outside the mask.

    `before`: blend the noisy latent before each model call (eq. 5/6); `after`: overwrite the predicted x0;
    `noise`: drawn anew at each step, or once, or (B, C, h, w) given. `mask` (1 or B, 1, h, w), 1 = free: instead of the
    model's own mask, or for a model without one. `until`: the share of the schedule's steps during which it is held;
    `first`: the step from which on it is. `finish`: put it into the latents of the schedule's last step as well.
    """

    latents: Tensor
    before: bool = True
    after: bool = True
    noise: KnownNoise | Tensor = "fresh"
    mask: Tensor | None = None
    until: float = 1.0
    first: int = 0
    finish: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.noise, str) and self.noise not in get_args(KnownNoise):
            raise SamplingError(
                f"known-region noise {self.noise!r} is unknown: use one of {get_args(KnownNoise)}"
            )
        if not 0 <= self.until <= 1:
            raise SamplingError(f"until {self.until} is no share of the steps: use 0 to 1")

    def holds(self, step: int, steps: int) -> bool:
        """Whether it is held in a step of a schedule."""
        return self.first <= step < self.until * steps


def blend_noisy(
    x: Tensor, known: Tensor, noise: Tensor, mask: Tensor, scheduler: Any, timestep: Tensor
) -> Tensor:
    """x·M + add_noise(known, noise, t)·(1 - M), in the scheduler's own units  (eq. 5: known = z^L; eq. 6:
    known = z^G).

    x, noise (B, C, h, w); known (1 or B, C, h, w); mask (1 or B, 1, h, w); timestep 0-d.
    """
    times = timestep.reshape(1).expand(len(x))
    noisy: Tensor = scheduler.add_noise(known.to(x).expand_as(x), noise, times)
    return x * mask + noisy * (1 - mask)


def blend_denoised(denoised: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """x0·M + known·(1 - M): the model's prediction counts inside the hole only."""
    return denoised * mask + known.to(denoised) * (1 - mask)
