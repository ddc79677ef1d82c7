"""Scores on disk -> numbers with intervals: means, distances of sets, and differences of two methods on common rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark, Row
from intarsia.evaluation.bench.measures import in_order, measure_of
from intarsia.evaluation.bench.resampling import (
    DRAWS,
    Counts,
    Floats,
    cluster_weights,
    interval_of_mean,
    kernel_draws,
    percentiles,
)
from intarsia.evaluation.bench.scores_folder import (
    ENCODERS,
    FEATURES,
    LEFT_OUT,
    LINES,
    REFERENCE,
    SCORES,
    TRUTH,
    Features,
    read_features,
)
from intarsia.evaluation.card import interval as wilson

KERNEL_DRAWS, FRECHET_DRAWS, SEED = 200, 30, 0
FEWEST_FOR_FRECHET, FEWEST_FOR_SETS = 2_000, 10
_KEPT_WEIGHTS = 12
NUMBERS = "the mean; in brackets its 95 % interval (percentile bootstrap, subjects drawn first, then rows of each)"


@dataclass(frozen=True)
class Cell:
    """``n``: what it is a mean over. ``low``, ``high``: the 95 % interval, None where there is none. ``note``: how it
    came about, where that is not as usual; ``shown``: in tables for people, and not only in the files."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    draws: int = 0
    note: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Difference:
    """First minus second method, on the ``n`` rows of ``subjects`` subjects that both have."""

    mean: float
    low: float
    high: float
    n: int
    subjects: int


@dataclass(frozen=True, eq=False)
class ScoreSet:
    """``values``: method -> row -> metric -> number; what is null or not finite is not in it but in ``nulls`` (by
    method and metric). ``about``: the encoders; ``left_out``: what scoring passed over; ``broken``: lines that were no
    scores."""

    folder: Path
    encoders: str
    values: Mapping[str, Mapping[str, Mapping[str, float]]]
    about: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    broken: int = 0

    @staticmethod
    def open(results: Path, encoders: str = "tabletop") -> ScoreSet:
        """Read `scores/ENCODERS` of a results folder.

        Raises:
            BenchError: no such scores, or not one line that is a score.
        """
        root = Path(results) / SCORES
        folder = root / encoders
        if not (folder / LINES).is_file():
            found = sorted(path.parent.name for path in root.glob(f"*/{LINES}"))
            there = f"use one of: {', '.join(found)}" if found else "make some with `intarsia bench score`"
            raise BenchError(f"{results} has no scores by encoders {encoders!r}: {there}")
        values, nulls, broken = _read_lines(folder / LINES)
        if not values:
            raise BenchError(f"{folder / LINES} holds no scores ({broken} broken lines): score again")
        about, left_out = _object(folder / ENCODERS), _object(folder / LEFT_OUT)
        return ScoreSet(folder, encoders, values, about, left_out, nulls, broken)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """All methods and variants, in the order of the tables."""
        return tuple(in_order(set(self.values)))

    @cached_property
    def metrics(self) -> frozenset[str]:
        """All metrics of rows that some method has a number of."""
        return frozenset(metric for rows in self.values.values() for row in rows.values() for metric in row)

    def features(self, name: str) -> Features | None:
        """Of a method, or of the real pictures: ``reference``. None if there are none.

        Raises:
            BenchError: the file is damaged.
        """
        found = read_features(self.folder, name)
        sizes = () if found is None else [len(one) for one in (found.crop, found.whole) if len(one)]
        if found is not None and found.rows and any(size != len(found.rows) for size in sizes):
            raise BenchError(f"{self.folder / FEATURES / name}.npz has not one line a row: run `intarsia bench score`")
        return found


class Cells:
    """Numbers of one benchmark's scores. Every interval is of the same resamples of the same rows."""

    def __init__(self, benchmark: Benchmark, scores: ScoreSet, draws: int = DRAWS) -> None:
        self.benchmark, self.scores, self.draws = benchmark, scores, draws
        self._subject = {row.id: row.subject for row in benchmark.rows}
        self._weights: dict[tuple[str, ...], Counts] = {}
        self._features: dict[str, Features | None] = {}
        self._distances: dict[tuple[str, str, tuple[str, ...]], Cell | None] = {}

    def cell(self, method: str, metric: str, rows: Sequence[Row]) -> Cell | None:
        """None where the method has no number of any of the rows."""
        if measure_of(metric).of_set:
            key = (method, metric, tuple(row.id for row in rows))
            if key not in self._distances:
                self._distances[key] = self._distance(method, metric, rows)
            return self._distances[key]
        known = self.scores.values.get(method, {})
        ids = tuple(row.id for row in rows if metric in known.get(row.id, {}))
        if not ids:
            return None
        values = np.asarray([known[row][metric] for row in ids], np.float64)
        mean, n = float(values.mean()), len(ids)
        if n == 1:
            return Cell(mean, None, None, 1, note="one row")
        if measure_of(metric).share and values.min() == values.max() and values[0] in (0.0, 1.0):
            return Cell(mean, *wilson(mean, n), n, note="all rows alike: Wilson's interval")
        return Cell(mean, *interval_of_mean(values, self.weights(ids)), n, self.draws)

    def difference(self, first: str, second: str, metric: str, rows: Sequence[Row]) -> Difference | None:
        """Of the means over common rows; None where there is none or the metric is of sets."""
        one, other = self.scores.values.get(first, {}), self.scores.values.get(second, {})
        ids = tuple(row.id for row in rows if metric in one.get(row.id, {}) and metric in other.get(row.id, {}))
        if not ids:
            return None
        values = np.asarray([one[row][metric] - other[row][metric] for row in ids], np.float64)
        low, high = interval_of_mean(values, self.weights(ids))
        return Difference(float(values.mean()), low, high, len(ids), len({self._subject[row] for row in ids}))

    def weights(self, ids: tuple[str, ...]) -> Counts:
        """The resamples of these rows."""
        if ids not in self._weights:
            while len(self._weights) >= _KEPT_WEIGHTS:
                del self._weights[next(iter(self._weights))]
            self._weights[ids] = cluster_weights([self._subject[row] for row in ids], self.draws, SEED)
        return self._weights[ids]

    def _of(self, name: str) -> Features | None:
        if name not in self._features:
            self._features[name] = self.scores.features(name)
        return self._features[name]

    def _distance(self, method: str, metric: str, rows: Sequence[Row]) -> Cell | None:
        from intarsia.evaluation.bench.metrics.distances import frechet_distance, kernel_distance

        kind, place = metric.split("_")
        if method == TRUTH:  # it is what the others are compared with
            return None
        ids = [row.id for row in rows]
        own, real = self._of(method), self._of(REFERENCE)
        if own is None or real is None:
            return None
        (there, sample), (_, reference) = _features_of(own, place, ids), _features_of(real, place, ids)
        n, least = len(there), min(len(there), len(reference))
        if least < FEWEST_FOR_SETS:
            return None
        if kind == "kid":
            value = float(kernel_distance(sample, reference))
            draws = kernel_draws(sample, reference, self.weights(there)[:KERNEL_DRAWS])
            low, high = percentiles(draws[np.isfinite(draws)])
            return Cell(value, low, high, n, len(draws))
        value = float(frechet_distance(sample, reference))
        if least < FEWEST_FOR_FRECHET:
            note = f"biased: fewer than {FEWEST_FOR_FRECHET} pictures; no interval"
            return Cell(value, None, None, n, note=note, shown=False)
        low, high = self._frechet_interval(value, sample, reference, self.weights(there)[:FRECHET_DRAWS])
        return Cell(value, low, high, n, FRECHET_DRAWS, note="resamples moved to lie around the value")

    @staticmethod
    def _frechet_interval(value: float, sample: Floats, reference: Floats, weights: Counts) -> tuple[float, float]:
        """Resamples repeat rows and so look farther off than the sample is: only their spread is used."""
        from intarsia.evaluation.bench.metrics.distances import frechet_distance

        repeated: list[npt.NDArray[np.int64]] = [np.repeat(np.arange(len(sample)), w.astype(np.int64)) for w in weights]
        draws = np.asarray([frechet_distance(sample[rows], reference) for rows in repeated], np.float64)
        low, high = percentiles(draws - draws.mean() + value)
        return low, high


def _features_of(features: Features, place: str, rows: Sequence[str]) -> tuple[tuple[str, ...], Floats]:
    """Ids and features (N, D) of those of ``rows`` that are there and finite; all of them where they have no ids."""
    values = np.asarray(features.crop if place == "crop" else features.whole, np.float64)
    if not values.size:
        return (), np.empty((0, 0))
    good = np.isfinite(values).all(axis=1).reshape(-1)
    if not features.rows:
        return (), values[good]
    index = {row: number for number, row in enumerate(features.rows) if good[number]}
    there = tuple(row for row in rows if row in index)
    return there, values[[index[row] for row in there]]


def _object(path: Path) -> dict[str, Any]:
    """A JSON file's; empty where it is absent or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_lines(
    path: Path,
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[tuple[str, str], int], int]:
    values: dict[str, dict[str, dict[str, float]]] = {}
    nulls: Counter[tuple[str, str]] = Counter()
    broken = 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
            method, row, scores = str(one["method"]), str(one["row"]), dict(one["values"])
            good = {
                str(name): float(value) for name, value in scores.items() if value is not None and math.isfinite(value)
            }
        except (ValueError, TypeError, KeyError):
            broken += 1
            continue
        if row in values.setdefault(method, {}):
            continue
        values[method][row] = good
        nulls.update((method, str(name)) for name in scores if name not in good)
    return {method: rows for method, rows in values.items() if rows}, dict(nulls), broken
