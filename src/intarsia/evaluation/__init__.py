"""Measurements: held-out judges, benchmark cases with known truth, and the tables made of them."""

from intarsia.evaluation.judges import Judges, JudgesError
from intarsia.evaluation.miniature import MiniatureBench
from intarsia.evaluation.results import Results

__all__ = ["Judges", "JudgesError", "MiniatureBench", "Results"]
