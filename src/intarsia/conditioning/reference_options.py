"""How a reference is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from intarsia.conditioning.errors import ConditioningError

DetailMode = Literal["noised", "clean"]
MAX_STRENGTH = 2.0


@dataclass(frozen=True)
class ReferenceOptions:
    """How strongly a reference is followed, where in the U-Net, and when.

    Args:
        strength: β of the image tokens in every cross-attention, 0 to 2. At 0 they do not exist.
        blocks: factors on β in the U-Net's down, mid and up blocks, each 0 to 2.
        interval: the part of the steps, as fractions [from, to), in which the reference (tokens and detail)
            exists.
        schedule: factors on β and on `detail_strength`, each 0 to 1, at equal distances from the first step to the
            last, linear between them. Where the factor is 0 the reference does not exist.
        detail_strength: how much the decoder reads of the reference's own features, 0 to 1. At 0, or where
            the adapters have no Refine, the reference U-Net does not run.
        detail_mode: the reference U-Net sees the thing "noised" to each step's timestep (the paper), or
            "clean", and then runs once for the whole picture.
        refine_unconditional: detail is there in all blocks of guidance (the paper: it is not amplified), or
            only in those that see the reference.

    Raises:
        ConditioningError: a value outside its range.
    """

    strength: float = 1.0
    blocks: tuple[float, float, float] = (1.0, 1.0, 1.0)
    interval: tuple[float, float] = (0.0, 1.0)
    schedule: tuple[float, ...] = (1.0,)
    detail_strength: float = 1.0
    detail_mode: DetailMode = "noised"
    refine_unconditional: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= MAX_STRENGTH:
            raise ConditioningError(
                f"reference strength {self.strength} is outside its range: use 0 to {MAX_STRENGTH:g}"
            )
        if len(self.blocks) != 3 or not all(0.0 <= factor <= MAX_STRENGTH for factor in self.blocks):
            raise ConditioningError(
                f"reference blocks {self.blocks} cannot be used: "
                f"give three factors (down, mid, up) of 0 to {MAX_STRENGTH:g}"
            )
        if not 0.0 <= self.interval[0] <= self.interval[1] <= 1.0:
            raise ConditioningError(
                f"reference interval {self.interval} is no part of the steps: use 0 ≤ from ≤ to ≤ 1"
            )
        if not self.schedule or not all(0.0 <= factor <= 1.0 for factor in self.schedule):
            raise ConditioningError(
                f"reference schedule {self.schedule} cannot be used: give one factor or more, each 0 to 1"
            )
        if not 0.0 <= self.detail_strength <= 1.0:
            raise ConditioningError(f"detail strength {self.detail_strength} is outside its range: use 0 to 1")
        if self.detail_mode not in get_args(DetailMode):
            raise ConditioningError(f"detail mode {self.detail_mode!r} is unknown: use one of {get_args(DetailMode)}")

    def factor(self, step: int, steps: int) -> float:
        """What β and the detail's strength are multiplied by at step `step` of `steps`; 0: no reference."""
        if not self.interval[0] <= step / steps < self.interval[1]:
            return 0.0
        place = (len(self.schedule) - 1) * step / max(1, steps - 1)
        before = min(int(place), len(self.schedule) - 1)
        after = min(before + 1, len(self.schedule) - 1)
        return self.schedule[before] + (place - before) * (self.schedule[after] - self.schedule[before])
