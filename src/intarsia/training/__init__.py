"""Pre-training recipes of the miniature, from rendered pictures to weights."""

from intarsia.training.judges import AttributeJudge, InstanceJudge
from intarsia.training.masks import draw_mask
from intarsia.training.recipe import SCALES, Recipe, recipe
from intarsia.training.towers import TOWER_SIDE as JUDGE_SIDE

__all__ = ["JUDGE_SIDE", "SCALES", "AttributeJudge", "InstanceJudge", "Recipe", "draw_mask", "recipe"]
