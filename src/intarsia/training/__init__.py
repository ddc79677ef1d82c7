"""Pre-training recipes of the miniature, from rendered pictures to weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.lazy import lazy_names
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
    "JUDGE_SIDE": "towers:TOWER_SIDE",
    "AttributeJudge": "judges",
    "InstanceJudge": "judges",
    "ShardStream": "pair_stream",
    "run_instruct": "instruct_stage",
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

__getattr__ = lazy_names(__name__, _LAZY)
