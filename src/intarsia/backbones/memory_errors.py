"""Running out of memory, said in one line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from intarsia.backbones.errors import DeviceMemoryError
from intarsia.backbones.offload import offload_of

if TYPE_CHECKING:
    from intarsia.backbones.backbone import Backbone

_SAID = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "alloc_failed")
"""In the messages of torch's back ends, of which only CUDA's has an exception of its own."""
_ADVICE = {
    "full": "use memory model or group (--memory)",
    "model": "use memory group (--memory)",
    "group": "use device cpu",
}


@contextmanager
def no_memory_explained(doing: str, backbone: Backbone | None = None, advice: str | None = None) -> Iterator[None]:
    """Raises `DeviceMemoryError` with what to do where memory runs out; what was held for the work is let go of.

    advice: instead of another memory mode than the backbone's.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        explained = memory_error_of(error, doing, backbone, advice)
        if explained is None:
            raise
        traceback.clear_frames(error.__traceback__)  # else the tensors in there live as long as the error
        raise explained from error


def memory_error_of(
    error: BaseException, doing: str = "working", backbone: Backbone | None = None, advice: str | None = None
) -> DeviceMemoryError | None:
    """What to say of an error; None if it is not about memory."""
    said = str(error).lower()
    kinds = {kind.__name__ for kind in type(error).__mro__}
    alike = isinstance(error, RuntimeError) and any(words in said for words in _SAID)
    if not (alike or kinds & {"OutOfMemoryError", "MemoryError"}):
        return None
    device = next((name for name in ("cuda", "mps", "xpu", "hip") if name in said), "cpu")
    if advice is None:
        offload = None if backbone is None else offload_of(backbone)
        mode = "full" if offload is None else offload.plan.mode
        advice = {"cpu": "use a smaller model", "mps": "use device cpu"}.get(device, _ADVICE[mode])
    asked = _asked(str(error))
    return DeviceMemoryError(f"{device} ran out of memory while {doing}{asked}: close other programs, or {advice}")


def _asked(message: str) -> str:
    """` (2.00 GiB more were wanted)`, where torch says it."""
    _, found, rest = message.partition("ried to allocate ")
    size = " ".join(rest.split()[:2]).rstrip(".")
    return f" ({size} more were wanted)" if found and size else ""
