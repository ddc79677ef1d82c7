"""The one place that turns a model's prediction into the clean latent and back.

Every scheduler holds x = alpha·x0 + sigma·noise in its own units: variance preserving (alpha² + sigma² = 1:
DDIM, DPM-Solver, UniPC) or "sigma space" (alpha = 1: Euler). Both factors are read off the scheduler's own
`add_noise`, so no family needs a special case. The model always sees x / √(alpha² + sigma²): that is what
`scale_model_input` does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intarsia.sampling.errors import SchedulerError

if TYPE_CHECKING:
    from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class NoiseLevel:
    """x = alpha · x0 + sigma · noise."""

    alpha: float
    sigma: float

    @property
    def norm(self) -> float:
        """Root mean square of x for unit-variance x0 and noise."""
        return float((self.alpha**2 + self.sigma**2) ** 0.5)


def noise_levels(scheduler: Any, start: int, end: int) -> list[NoiseLevel]:
    """alpha and sigma of each of the steps [start, end) of a scheduler made ready by `set_steps`, which is left as it
    is. All are read before the first step, so that no step waits for a number from an accelerator."""
    if not hasattr(scheduler, "set_begin_index"):
        return [noise_level(scheduler, scheduler.timesteps[step]) for step in range(start, end)]
    own, found = copy.deepcopy(scheduler), []
    for step in range(start, end):
        own.set_begin_index(step)
        found.append(noise_level(own, own.timesteps[step]))
    return found


def noise_level(scheduler: Any, timestep: Tensor) -> NoiseLevel:
    """alpha and sigma of the scheduler's current step; `timestep` (0-d) is that step's entry of its
    timesteps."""
    import torch

    one = torch.ones(1, 1, 1, 1, device=timestep.device)
    zero, time = torch.zeros_like(one), timestep.reshape(1)
    return NoiseLevel(
        alpha=float(scheduler.add_noise(one, zero, time)), sigma=float(scheduler.add_noise(zero, one, time))
    )


def denoised_from(prediction: Tensor, x: Tensor, level: NoiseLevel, prediction_type: str) -> Tensor:
    """The clean latent x0 (B, C, h, w) that a prediction at x means.

    With n = √(alpha² + sigma²), a = alpha/n, s = sigma/n and y = x/n, a prediction p means
    x0 = (y - s·p) / a as epsilon, and x0 = a·y - s·p as v_prediction.
    """
    a, s, scaled = level.alpha / level.norm, level.sigma / level.norm, x / level.norm
    if prediction_type == "epsilon":
        if a == 0:
            raise SchedulerError(
                "an epsilon prediction says nothing at pure noise: "
                "do not rescale the schedule to zero terminal SNR"
            )
        return (scaled - s * prediction) / a
    if prediction_type == "v_prediction":
        return a * scaled - s * prediction
    raise SchedulerError(f"prediction type {prediction_type!r} is unknown: use one of {PREDICTION_TYPES}")


def prediction_from(denoised: Tensor, x: Tensor, level: NoiseLevel, prediction_type: str) -> Tensor:
    """The prediction that means `denoised` at x; the inverse of `denoised_from`."""
    a, s, scaled = level.alpha / level.norm, level.sigma / level.norm, x / level.norm
    if prediction_type == "epsilon":
        return (scaled - a * denoised) / s
    if prediction_type == "v_prediction":
        return (a * scaled - denoised) / s
    raise SchedulerError(f"prediction type {prediction_type!r} is unknown: use one of {PREDICTION_TYPES}")
