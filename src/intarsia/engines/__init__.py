"""Data engines: pure functions of one row, and a runner that takes rows through them into committed shards.

Filters write scores and hard rules set ``row["rejected"]``; thresholds are given to `run_engine` apart from the
steps, so that the samples of rows that fall by them stay in the shards and `recut` can decide anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.engines.errors import (
    EngineBusyError,
    EngineChangedError,
    EngineError,
    MissingExtraError,
    RowError,
    ThresholdError,
)
from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.engines import pairs, quadruplets
    from intarsia.engines.runner.funnel import Funnel, StepCount
    from intarsia.engines.runner.kills import KillReport, different_files, measure_kills
    from intarsia.engines.runner.output import verify_output
    from intarsia.engines.runner.plan import EnginePlan, PlannedStep, plan_run
    from intarsia.engines.runner.recut import recut
    from intarsia.engines.runner.rows import JSON, BatchFunction, Row, Step, StepFunction, children, safe_key
    from intarsia.engines.runner.run import EngineReport, Progress, StepRate, run_engine
    from intarsia.engines.runner.samples import iterate_samples, read_dead_rows, read_rows
    from intarsia.engines.runner.thresholds import Thresholds, decide, load_thresholds

# Loaded when first asked for, so that importing the room is instant: name -> file below `engines`.
_LAZY = {
    "pairs": "",
    "quadruplets": "",
    "JSON": "runner.rows",
    "BatchFunction": "runner.rows",
    "EnginePlan": "runner.plan",
    "EngineReport": "runner.run",
    "Funnel": "runner.funnel",
    "KillReport": "runner.kills",
    "PlannedStep": "runner.plan",
    "Progress": "runner.run",
    "Row": "runner.rows",
    "Step": "runner.rows",
    "StepCount": "runner.funnel",
    "StepFunction": "runner.rows",
    "StepRate": "runner.run",
    "Thresholds": "runner.thresholds",
    "children": "runner.rows",
    "decide": "runner.thresholds",
    "different_files": "runner.kills",
    "iterate_samples": "runner.samples",
    "load_thresholds": "runner.thresholds",
    "measure_kills": "runner.kills",
    "plan_run": "runner.plan",
    "read_dead_rows": "runner.samples",
    "read_rows": "runner.samples",
    "recut": "runner.recut",
    "run_engine": "runner.run",
    "safe_key": "runner.rows",
    "verify_output": "runner.output",
}

__all__ = [
    "JSON",
    "BatchFunction",
    "EngineBusyError",
    "EngineChangedError",
    "EngineError",
    "EnginePlan",
    "EngineReport",
    "Funnel",
    "KillReport",
    "MissingExtraError",
    "PlannedStep",
    "Progress",
    "Row",
    "RowError",
    "Step",
    "StepCount",
    "StepFunction",
    "StepRate",
    "ThresholdError",
    "Thresholds",
    "children",
    "decide",
    "different_files",
    "iterate_samples",
    "load_thresholds",
    "measure_kills",
    "pairs",
    "plan_run",
    "quadruplets",
    "read_dead_rows",
    "read_rows",
    "recut",
    "run_engine",
    "safe_key",
    "verify_output",
]

__getattr__ = lazy_names(__name__, _LAZY)
