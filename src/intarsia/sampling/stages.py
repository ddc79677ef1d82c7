"""The disentangled local-global framework as data: which steps are painted in which window (eq. 3-6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from intarsia.sampling.errors import SamplingError

StageName = Literal["local", "global"]


@dataclass(frozen=True)
class Stage:
    """Steps [start, end) of the schedule, painted in one window.

    `size`: the window's (height, width) in latent cells, or None where the caller decides when it crops.
    """

    name: StageName
    start: int
    end: int
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.name not in ("local", "global"):
            raise SamplingError(f'stage {self.name!r} is unknown: use "local" or "global"')
        if not 0 <= self.start < self.end:
            raise SamplingError(
                f"stage {self.name!r} has no steps in [{self.start}, {self.end}): use start < end"
            )


def late_start(stages: Sequence[Stage], strength: float) -> list[Stage]:
    """The plan without its first (1 - strength)·steps steps, rounded, for painting that starts from a draft
    (Meng et al. 2022, SDEdit): 1 is the whole plan, and one step at least is left.

    Raises:
        SamplingError: strength outside (0, 1].
    """
    if not 0.0 < strength <= 1.0:
        raise SamplingError(f"strength {strength} is outside its range: use above 0 (the draft) to 1 (painted anew)")
    steps = stages[-1].end
    first = min(math.floor((1 - strength) * steps + 0.5), steps - 1)
    return [replace(stage, start=max(stage.start, first)) for stage in stages if stage.end > first]


def plan_stages(
    steps: int,
    lam: float = 0.7,
    *,
    local_size: tuple[int, int] | None = None,
    global_size: tuple[int, int] | None = None,
) -> list[Stage]:
    """The first λ·steps in the local window, the rest in the global one; λ = 0 is global only, λ = 1 local
    only.

    λ·steps is rounded to the nearest whole number, halves up. For 0 < λ < 1 and two steps or more each stage
    keeps at least one step; of a single step, λ ≥ 0.5 makes it local.

    Raises:
        SamplingError: fewer than one step, or λ outside [0, 1].
    """
    if steps < 1:
        raise SamplingError(f"{steps} steps are too few: use 1 or more")
    if not 0.0 <= lam <= 1.0:
        raise SamplingError(f"λ = {lam} is outside its range: use 0 (global only) to 1 (local only)")
    # The small term undoes binary rounding, so that e.g. 0.35 of 10 is a half that goes up.
    switch = math.floor(lam * steps + 0.5 + 1e-9)
    if 0.0 < lam < 1.0 and steps >= 2:
        switch = min(max(switch, 1), steps - 1)
    stages: list[Stage] = []
    if switch > 0:
        stages.append(Stage("local", 0, switch, local_size))
    if switch < steps:
        stages.append(Stage("global", switch, steps, global_size))
    return stages
