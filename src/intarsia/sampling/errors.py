"""What can go wrong while sampling."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, NonFiniteError


class SamplingError(IntarsiaError):
    """Settings or tensors that do not fit together."""


class SchedulerError(SamplingError):
    """A scheduler that is unknown, or that this loop cannot drive."""


class NonFinitePredictionError(SamplingError, NonFiniteError):
    """The model predicted NaN or infinity at a step."""

    def __init__(self, step: int, timestep: float) -> None:
        super().__init__(
            f"the model predicted values that are not finite at step {step} (timestep {timestep:g}): "
            "load it in float32, or lower the guidance scale"
        )
        self.step = step
        self.timestep = timestep
