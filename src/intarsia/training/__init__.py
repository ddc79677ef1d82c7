"""Pre-training recipes of the miniature, from rendered pictures to weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intarsia.training.instruct_recipe import INSTRUCT_PRESETS, PAPER_INSTRUCT, InstructRecipe, instruct_recipe
from intarsia.training.masks import draw_mask
from intarsia.training.recipe import SCALES, Recipe, recipe

if TYPE_CHECKING:
    from intarsia.training.instruct_stage import run_instruct
    from intarsia.training.judges import AttributeJudge, InstanceJudge
    from intarsia.training.pair_stream import ShardStream
    from intarsia.training.towers import TOWER_SIDE as JUDGE_SIDE

# What needs torch is loaded when first asked for, so that --help is instant.
_LAZY = {
    "JUDGE_SIDE": ("towers", "TOWER_SIDE"),
    "AttributeJudge": ("judges", "AttributeJudge"),
    "InstanceJudge": ("judges", "InstanceJudge"),
    "ShardStream": ("pair_stream", "ShardStream"),
    "run_instruct": ("instruct_stage", "run_instruct"),
}

__all__ = [
    "INSTRUCT_PRESETS",
    "JUDGE_SIDE",
    "PAPER_INSTRUCT",
    "SCALES",
    "AttributeJudge",
    "InstanceJudge",
    "InstructRecipe",
    "Recipe",
    "ShardStream",
    "draw_mask",
    "instruct_recipe",
    "recipe",
    "run_instruct",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    file, inner = _LAZY[name]
    return getattr(import_module(f"{__name__}.{file}"), inner)
