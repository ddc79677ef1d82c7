"""The state between two steps, on disk, so that a run can go on exactly where it stopped."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.imaging import write_file_atomically
from intarsia.learning.errors import ResumeError

if TYPE_CHECKING:
    from torch import Tensor

FILE = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """`lora` (diffusers' keys) and `optimizer` (AdamW's) after `step` steps of the run `fingerprint`."""

    fingerprint: str
    step: int
    lora: dict[str, Tensor]
    optimizer: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write `folder/checkpoint.pt`, whole or not at all."""
        import torch

        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_file_atomically(folder / FILE, buffer.getvalue(), overwrite=True)

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> Checkpoint | None:
        """The folder's checkpoint, or None where there is none.

        Raises:
            ResumeError: unreadable, or of other photos, settings or another base model.
        """
        import torch

        path = folder / FILE
        if not path.exists():
            return None
        try:
            found = cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises many kinds for a file cut short
            raise ResumeError(f"{path} cannot be read: delete it, or use resume=False to begin anew") from error
        if found.fingerprint != fingerprint:
            raise ResumeError(
                f"{path} is of a run with other photos, settings or another model: choose another "
                "work folder, or use resume=False to begin anew"
            )
        return found
