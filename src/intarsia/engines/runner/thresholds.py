"""Thresholds on scores: read from a file, applied to tables that a run has written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from intarsia.engines.errors import EngineError, ThresholdError
from intarsia.engines.runner.funnel import Funnel, StepCount
from intarsia.engines.runner.output import Output
from intarsia.engines.runner.packing import ROWS, column_names, pack_table, read_table, shard_name
from intarsia.engines.runner.rows import REJECTED

Thresholds: TypeAlias = Mapping[str, tuple[float | None, float | None]]
"""Score -> (lowest, highest) value that is kept; None: no bound on that side."""

STEP = "thresholds"


def load_thresholds(path: str | Path) -> dict[str, tuple[float | None, float | None]]:
    """Thresholds of a YAML file: a line ``score: {min: 0.3, max: 0.9}`` for each score, either bound may be left out.

    Raises ThresholdError.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ThresholdError(f"cannot read the thresholds {path}: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ThresholdError(f"{path} is not valid YAML: {error}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ThresholdError(f"{path} must hold lines such as 'score: {{min: 0.3}}', got {type(content).__name__}")
    bounds: dict[str, tuple[Any, Any]] = {}
    for name, value in content.items():
        if not isinstance(value, dict) or not set(value) <= {"min", "max"}:
            raise ThresholdError(f"{path}: {name} must be like {{min: 0.3, max: 0.9}}, got {value!r}")
        bounds[str(name)] = (value.get("min"), value.get("max"))
    return check_thresholds(bounds)


def check_thresholds(thresholds: Thresholds) -> dict[str, tuple[float | None, float | None]]:
    """The thresholds as floats. Raises ThresholdError for what is no number, or a lowest above a highest value."""
    checked: dict[str, tuple[float | None, float | None]] = {}
    for name, bounds in thresholds.items():
        if not isinstance(bounds, tuple | list) or len(bounds) != 2:
            raise ThresholdError(f"the threshold of {name} must be (lowest, highest), got {bounds!r}")
        for bound in bounds:
            if bound is not None and (
                isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound)
            ):
                raise ThresholdError(f"the threshold of {name} must be a number or nothing, got {bound!r}")
        low, high = (None if bound is None else float(bound) for bound in bounds)
        if low is not None and high is not None and low > high:
            raise ThresholdError(f"the threshold of {name} keeps nothing: lowest {low:g} is above highest {high:g}")
        checked[name] = (low, high)
    return checked


def decide(scores: Mapping[str, Any], thresholds: Thresholds) -> str | None:
    """Why a row falls, by the first threshold that it misses, or None."""
    for name, (low, high) in thresholds.items():
        value = scores.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} missing"
        if low is not None and value < low:
            return f"{name} below {low:g}"
        if high is not None and value > high:
            return f"{name} above {high:g}"
    return None


def select(output: Output, key: str, thresholds: Thresholds) -> tuple[dict[str, list[Any]], StepCount]:
    """One line for each row of the run, with its shard, key and the reason why it is out (None: chosen); and the
    counts. Rows that fell in the run keep the reason that they have.

    Raises ThresholdError for a score that is asked of some row and that no row has, EngineError for a shard that is
    not committed.
    """
    columns: dict[str, list[Any]] = {"shard": [], "key": [], REJECTED: []}
    count = StepCount(STEP)
    known: set[str] = set()
    for index in range(output.shards):
        if output.commit_of(index) is None:
            raise EngineError(f"shard {shard_name(index)} of {output.root} is not committed; run the engine to its end")
        data = output.path(index, ROWS).read_bytes()
        known.update(column_names(data))
        for row in read_table(data, [key, REJECTED, *thresholds]).to_pylist():
            reason = row[REJECTED]
            if reason is None:
                count.entered += 1
                reason = decide(row, thresholds)
                if reason is not None:
                    count.rejected[reason] += 1
                    reason = f"{STEP}: {reason}"
            columns["shard"].append(index)
            columns["key"].append(row[key])
            columns[REJECTED].append(reason)
    for name in thresholds:
        if name not in known and count.rejected[f"{name} missing"]:
            raise ThresholdError(f"no row has the score {name!r}; the run has: {', '.join(sorted(known)) or 'none'}")
    return columns, count


def selection_bytes(columns: dict[str, list[Any]]) -> bytes:
    return pack_table(columns, text=("key", REJECTED))


def with_thresholds(funnel: Funnel, count: StepCount) -> Funnel:
    return Funnel(funnel.source_rows, [*funnel.steps, count])


def thresholds_json(thresholds: Thresholds) -> dict[str, Any]:
    return {name: {"min": low, "max": high} for name, (low, high) in thresholds.items()}
