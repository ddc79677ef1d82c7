"""Intarsia paints your subject into your picture, at a mask, as words tell it to.

`Studio`, `EditRequest` and `EditResult` are loaded when first used (PEP 562), so that `import intarsia` is
instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intarsia.editing import Studio
    from intarsia.request import EditRequest
    from intarsia.result import EditResult

__version__ = "0.1.0"
__all__ = ["EditRequest", "EditResult", "Studio", "__version__"]

_HOMES = {
    "Studio": "intarsia.editing",
    "EditRequest": "intarsia.request",
    "EditResult": "intarsia.result",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
