"""What the loop tells whoever shows a reference to the U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Generator, Tensor


class ReferenceBranch(Protocol):
    """Shows a reference to the U-Net of the coming calls; `intarsia.conditioning.ReferenceGuide` is one.

    The loop's own generators and scheduler are only lent: a branch draws nothing from them and steps nothing,
    so that the picture's own noise is the same with and without a reference.
    """

    def begin(self, generators: Sequence[Generator], samples: int) -> None:
        """A loop of `samples` samples starts. Randomness of the branch's own must come from generators
        derived from these generators' seeds (`initial_seed`), one per sample."""
        ...

    def prepare(
        self,
        *,
        step: int,
        steps: int,
        timestep: Tensor,
        scheduler: Any,
        size: tuple[int, int],
        present: Sequence[bool],
    ) -> None:
        """The next U-Net call has `len(present)` blocks of B rows each; block k sees the reference where
        `present[k]`.

        Args:
            timestep: 0-d, that of step `step` of `steps`. scheduler: ready for this step; its `add_noise` and
                `scale_model_input` give latents in the units that the U-Net expects.
            size: (h, w) of the latents that are painted.
        """
        ...

    def end(self) -> None:
        """The loop is over, perhaps by an error: the U-Net is as if there had been no reference. May be
        called twice."""
        ...
