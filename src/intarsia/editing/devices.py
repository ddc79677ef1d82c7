"""Where a model runs, and in which number format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from intarsia.editing.errors import EditingError

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone

SMALL_MODEL = 200_000_000
"""Parameters; smaller models stay in float32."""
_NAMES = ("float32", "float16", "bfloat16")


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


def is_small(backbone: Backbone) -> bool:
    """Whether a model has fewer than `SMALL_MODEL` parameters."""
    parts = backbone.modules().values()
    parameters: int = sum(value.numel() for part in parts for value in part.parameters())
    return parameters < SMALL_MODEL


def choose_dtype(dtype: str | torch.dtype, device: str = "cpu", parameters: Callable[[], int] = int) -> torch.dtype:
    """A floating-point format by its name. "auto": on CUDA bfloat16 where it can (else float16), on MPS float16; and
    float32 on a CPU, and for a model of few `parameters`, which gains nothing from less."""
    import torch

    if not isinstance(dtype, str):
        return dtype
    if dtype != "auto":
        _check_name(dtype)
        found: torch.dtype = getattr(torch, dtype)
        return found
    if _gains_nothing(device, parameters):
        return torch.float32
    able = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if able else torch.float16


def learning_dtype(dtype: str, device: str = "cpu", parameters: Callable[[], int] = int) -> str:
    """The name of the format to load a model in, to learn with it. "auto": as `choose_dtype`, but where that gives
    float16, whose small gradients vanish, bfloat16 if the device has it (MPS: from macOS 14 on), else float32.

    Raises:
        EditingError: float16, or an unknown format or device.
    """
    check_learning_dtype(dtype)
    if dtype != "auto":
        return dtype
    device = choose_device(device)
    return "bfloat16" if not _gains_nothing(device, parameters) and _has_bfloat16(device) else "float32"


def check_learning_dtype(dtype: str) -> None:
    """Whether a model may be loaded in a format to learn with it, without asking a device. Raises EditingError."""
    if dtype == "float16":
        raise EditingError("float16 loses small gradients: use auto, bfloat16 or float32 to learn a subject")
    if dtype != "auto":
        _check_name(dtype)


def _check_name(dtype: str) -> None:
    if dtype not in _NAMES:
        raise EditingError(f"number format {dtype!r} is not known: use auto, {', '.join(_NAMES)}")


def _gains_nothing(device: str, parameters: Callable[[], int]) -> bool:
    """Whether fewer than 32 bits make nothing faster: on a CPU, or with a small model."""
    return device.partition(":")[0] not in ("cuda", "mps") or parameters() < SMALL_MODEL


def _has_bfloat16(device: str) -> bool:
    import torch

    if device.partition(":")[0] == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
