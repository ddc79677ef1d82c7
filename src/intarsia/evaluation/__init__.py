"""Measurements: held-out judges, benchmark cases with known truth, and the tables made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.evaluation.results import Results, ResultsError
from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.evaluation import bench, quadruplets
    from intarsia.evaluation.add import AddBench
    from intarsia.evaluation.case_values import CaseValues
    from intarsia.evaluation.image_judge import ImageJudge, ImageJudgeError
    from intarsia.evaluation.judges import Judges, JudgesError
    from intarsia.evaluation.miniature import MiniatureBench
    from intarsia.evaluation.removals import write_removals
    from intarsia.evaluation.zero_shot import ZeroShotBench

# What needs torch is loaded when first asked for, so that --help is instant.
_LAZY = {
    "bench": "",
    "quadruplets": "",
    "AddBench": "add",
    "CaseValues": "case_values",
    "ImageJudge": "image_judge",
    "ImageJudgeError": "image_judge",
    "Judges": "judges",
    "JudgesError": "judges",
    "MiniatureBench": "miniature",
    "ZeroShotBench": "zero_shot",
    "write_removals": "removals",
}

__all__ = [
    "AddBench",
    "CaseValues",
    "ImageJudge",
    "ImageJudgeError",
    "Judges",
    "JudgesError",
    "MiniatureBench",
    "Results",
    "ResultsError",
    "ZeroShotBench",
    "bench",
    "quadruplets",
    "write_removals",
]

__getattr__ = lazy_names(__name__, _LAZY)
