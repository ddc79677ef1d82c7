"""A prompt as the U-Net sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from intarsia.conditioning.errors import ConditioningError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SubstitutedStages = Literal["both", "local", "none"]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """`tokens` (B, L, D): both towers' penultimate states side by side; `pooled` (B, P): the second
    tower's, P = 0 where there is none."""

    tokens: Tensor
    pooled: Tensor

    def __post_init__(self) -> None:
        if self.tokens.ndim != 3 or self.pooled.ndim != 2 or len(self.tokens) != len(self.pooled):
            raise ConditioningError(
                f"tokens {tuple(self.tokens.shape)} and pooled {tuple(self.pooled.shape)} do not fit: "
                "give (B, L, D) and (B, P)"
            )

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.tokens)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> Conditioning:
        """A copy on another device or in another number format."""
        return Conditioning(self.tokens.to(device, dtype), self.pooled.to(device, dtype))

    def repeat(self, count: int) -> Conditioning:
        """Every prompt `count` times in a row."""
        return Conditioning(
            self.tokens.repeat_interleave(count, dim=0), self.pooled.repeat_interleave(count, dim=0)
        )


@dataclass(frozen=True, eq=False)
class ScheduledConditioning:
    """Which conditioning each stage of the local-global framework uses.

    `stages` says where the substituted one applies: "both" (the paper), "local" only, or "none".
    """

    plain: Conditioning
    substituted: Conditioning
    stages: SubstitutedStages = "both"

    def __post_init__(self) -> None:
        if self.stages not in get_args(SubstitutedStages):
            raise ConditioningError(
                f"stages {self.stages!r} is unknown: use one of {get_args(SubstitutedStages)}"
            )

    def for_stage(self, stage: str) -> Conditioning:
        """The conditioning of the stage named "local" or "global"."""
        if stage not in ("local", "global"):
            raise ConditioningError(f'stage {stage!r} is unknown: use "local" or "global"')
        substituted = self.stages == "both" or (self.stages == "local" and stage == "local")
        return self.substituted if substituted else self.plain
