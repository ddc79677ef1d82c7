"""A room's names that are loaded when they are first asked for (PEP 562), so that importing the room is instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__``. ``homes``: name -> file below the package, ``FILE:NAME`` where it has another name
    there, ``""`` for a file or folder of that name itself."""

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        file, _, inner = homes[name].partition(":")
        module = import_module(f"{package}.{file or name}")
        return getattr(module, inner or name) if file else module

    return load
