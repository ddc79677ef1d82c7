"""What a caller learns about the state of the learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["name", "paint", "encode", "train", "done"]


@dataclass(frozen=True)
class LearnProgress:
    """`step` of `total` in this phase is done; `loss` only while training."""

    phase: Phase
    step: int
    total: int
    loss: float | None = None
    message: str = ""


Report = Callable[[LearnProgress], None]


def ignore(progress: LearnProgress) -> None:
    """The report of somebody who does not want to know."""
