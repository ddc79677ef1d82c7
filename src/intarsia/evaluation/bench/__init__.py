"""Benchmarks as files: build a manifest, run methods over it, score what they made, report it; and a blind study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark, BenchSubject, Fault, Row, Shot, Truth, write_benchmark
from intarsia.evaluation.bench.methods import METHODS, Method, method_of, sweep_methods
from intarsia.evaluation.bench.results_folder import Result, read_results
from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.evaluation.bench.build_coco import build_coco as make_coco
    from intarsia.evaluation.bench.build_tabletop import build_tabletop as make_tabletop
    from intarsia.evaluation.bench.coco import PlaceFilter
    from intarsia.evaluation.bench.encoders import EncoderSet, check_encoders, encoder_set
    from intarsia.evaluation.bench.report import write_report
    from intarsia.evaluation.bench.run import RunOptions
    from intarsia.evaluation.bench.score import score as score_results
    from intarsia.evaluation.bench.scores_folder import read_left_out, read_scores
    from intarsia.evaluation.bench.study import make_study
    from intarsia.evaluation.bench.study_report import write_study_tables
    from intarsia.evaluation.bench.study_table import tabulate_study
    from intarsia.evaluation.bench.workers import run_benchmark

# What needs torch is loaded when first asked for, so that --help is instant. No name is that of a file: a file that is
# imported would take its place.
_LAZY = {
    "EncoderSet": "encoders",
    "PlaceFilter": "coco",
    "RunOptions": "run",
    "check_encoders": "encoders",
    "encoder_set": "encoders",
    "make_coco": "build_coco:build_coco",
    "make_tabletop": "build_tabletop:build_tabletop",
    "read_left_out": "scores_folder",
    "read_scores": "scores_folder",
    "run_benchmark": "workers",
    "score_results": "score:score",
    "write_report": "report",
    "make_study": "study",
    "tabulate_study": "study_table",
    "write_study_tables": "study_report",
}

__all__ = [
    "METHODS",
    "BenchError",
    "BenchSubject",
    "Benchmark",
    "EncoderSet",
    "Fault",
    "Method",
    "PlaceFilter",
    "Result",
    "Row",
    "RunOptions",
    "Shot",
    "Truth",
    "check_encoders",
    "encoder_set",
    "make_coco",
    "make_study",
    "make_tabletop",
    "method_of",
    "read_left_out",
    "read_results",
    "read_scores",
    "run_benchmark",
    "score_results",
    "sweep_methods",
    "tabulate_study",
    "write_benchmark",
    "write_report",
    "write_study_tables",
]

__getattr__ = lazy_names(__name__, _LAZY)
