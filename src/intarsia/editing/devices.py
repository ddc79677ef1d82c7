"""Where a model runs, and in which number format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from intarsia.editing.errors import EditingError

if TYPE_CHECKING:
    import torch

SMALL_MODEL = 200_000_000
"""Parameters; smaller models stay in float32."""


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


def choose_dtype(dtype: str | torch.dtype, device: str = "cpu", parameters: Callable[[], int] = int) -> torch.dtype:
    """A floating-point format by its name. "auto": on CUDA bfloat16 where it can (else float16), on MPS float16; and
    float32 on a CPU, and for a model of few `parameters`, which gains nothing from less."""
    import torch

    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if not isinstance(dtype, str):
        return dtype
    if dtype != "auto":
        if dtype not in names:
            raise EditingError(f"number format {dtype!r} is not known: use auto, {', '.join(names)}")
        return names[dtype]
    kind = torch.device(device).type
    if kind not in ("cuda", "mps") or parameters() < SMALL_MODEL:
        return torch.float32
    able = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if able else torch.float16
