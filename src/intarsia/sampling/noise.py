"""Random numbers: one generator per sample, so that no sample depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from intarsia.sampling.errors import SamplingError

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


def make_generators(seeds: Sequence[int]) -> list[Generator]:
    """One CPU generator per seed; noise is drawn on the CPU so that it is the same on every device."""
    import torch

    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def draw_noise(
    generators: Sequence[Generator],
    shape: Sequence[int],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Standard normal noise (len(generators), *shape), sample k from generator k alone."""
    import torch

    if not generators:
        raise SamplingError("no generators were given: pass one per sample")
    drawn = [
        torch.randn(tuple(shape), generator=generator, device=generator.device).cpu()
        for generator in generators
    ]
    return torch.stack(drawn).to(device, torch.float32 if dtype is None else dtype)


def start_latents(scheduler: Any, noise: Tensor, clean: Tensor | None = None, *, step: int = 0) -> Tensor:
    """Where step `step` starts, in the units of a scheduler that `set_steps` made ready for that step.

    Without `clean`: noise (B, C, h, w) · init_noise_sigma, which is right for step 0 only. With `clean`
    (1 or B, C, h, w): clean and noise mixed by the scheduler's own `add_noise` at that step.
    """
    if clean is None:
        if step != 0:
            raise SamplingError(
                f"step {step} cannot start from pure noise: give the clean latents to start from"
            )
        pure: Tensor = noise * scheduler.init_noise_sigma
        return pure
    timestep = scheduler.timesteps[step].reshape(1).expand(len(noise))
    started: Tensor = scheduler.add_noise(clean.to(noise).expand_as(noise), noise, timestep)
    return started
