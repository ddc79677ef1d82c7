"""Where a model runs, and in which number format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.editing.errors import EditingError

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> str:
    """A device torch can use; "auto" takes the fastest there is. `EditingError` for one that is not there."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise EditingError(f"device {device!r} cannot be used ({reason}): use auto or cpu") from error
    return device


def choose_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A floating-point format by its name."""
    import torch

    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if isinstance(dtype, str):
        if dtype not in names:
            raise EditingError(f"number format {dtype!r} is not known: use one of {', '.join(names)}")
        return names[dtype]
    return dtype
