"""Measurements: held-out judges, benchmark cases with known truth, and the tables made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intarsia.evaluation.results import Results, ResultsError

if TYPE_CHECKING:
    from intarsia.evaluation.judges import Judges, JudgesError
    from intarsia.evaluation.miniature import MiniatureBench

# What needs torch is loaded when first asked for, so that --help is instant.
_LAZY = {"Judges": "judges", "JudgesError": "judges", "MiniatureBench": "miniature"}

__all__ = ["Judges", "JudgesError", "MiniatureBench", "Results", "ResultsError"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
