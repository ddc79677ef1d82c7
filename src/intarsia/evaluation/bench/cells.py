"""Scores -> numbers with intervals: means, distances of sets, and differences of two methods on common rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.manifest import Benchmark, Row
from intarsia.evaluation.bench.measures import measure_of
from intarsia.evaluation.bench.metrics.distances import frechet_distance, kernel_distance
from intarsia.evaluation.bench.resampling import (
    DRAWS,
    Counts,
    Floats,
    cluster_weights,
    interval_of_mean,
    kernel_draws,
    percentiles,
    rule_of_three,
)
from intarsia.evaluation.bench.score_set import ScoreSet
from intarsia.evaluation.bench.scores_folder import REFERENCE, TRUTH, Features
from intarsia.evaluation.card import interval as wilson

KERNEL_DRAWS, FRECHET_DRAWS, SEED = 200, 30, 0
FEWEST_FOR_FRECHET, FEWEST_FOR_SETS = 2_000, 10
FEWEST_SUBJECTS = 10
"""Below, the bootstrap of whole subjects is too narrow: of 5 it covers 83 % in place of 95, of 10 it covers 90."""
_KEPT_WEIGHTS = 12
NUMBERS = "the mean; in brackets its 95 % interval (percentile bootstrap, whole subjects are drawn)"
NO_ROW_DIFFERS, ALL_DIFFER = "no row differs", "all rows differ alike"


@dataclass(frozen=True)
class Cell:
    """``n``: what it is a mean over, of ``subjects`` subjects. ``low``, ``high``: the 95 % interval, None where there
    is none. ``note``: how it came about, where that is not as usual; ``shown``: in tables for people, and not only in
    the files."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    subjects: int = 0
    draws: int = 0
    note: str = ""
    shown: bool = True


@dataclass(frozen=True)
class Difference:
    """First minus second method, on the ``n`` rows of ``subjects`` subjects that both have. ``note``: set where it is
    the same on all rows, so that no bootstrap can tell how sure it is."""

    mean: float
    low: float
    high: float
    n: int
    subjects: int
    note: str = ""


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
        measure = measure_of(metric)
        if measure.of_set:
            key = (method, metric, tuple(row.id for row in rows))
            if key not in self._distances:
                self._distances[key] = self._distance(method, metric, rows)
            return self._distances[key]
        known = self.scores.values.get(method, {})
        ids = tuple(row.id for row in rows if metric in known.get(row.id, {}))
        if not ids:
            return None
        values = np.asarray([known[row][metric] for row in ids], np.float64)
        mean, n, subjects = float(values.mean()), len(ids), self.subjects(ids)
        if n == 1:
            return Cell(mean, None, None, 1, 1, note="one row")
        if values.min() < values.max():
            return Cell(mean, *interval_of_mean(values, self.weights(ids)), n, subjects, self.draws)
        if not (measure.share and mean in (0.0, 1.0)):
            return Cell(mean, None, None, n, subjects, note="all rows alike: no interval")
        # Rows of a subject are no independent tries.
        units, what = (subjects, "subjects") if subjects > 1 else (n, "rows")
        note = f"all rows alike: Wilson's interval of {units} {what}"
        return Cell(mean, *wilson(mean, units), n, subjects, note=note)

    def difference(self, first: str, second: str, metric: str, rows: Sequence[Row]) -> Difference | None:
        """Of the means over common rows; None where there is none or the metric is of sets."""
        one, other = self.scores.values.get(first, {}), self.scores.values.get(second, {})
        ids = tuple(row.id for row in rows if metric in one.get(row.id, {}) and metric in other.get(row.id, {}))
        if not ids:
            return None
        values = np.asarray([one[row][metric] - other[row][metric] for row in ids], np.float64)
        mean, subjects = float(values.mean()), self.subjects(ids)
        if values.min() < values.max():
            return Difference(mean, *interval_of_mean(values, self.weights(ids)), len(ids), subjects)
        units = subjects if subjects > 1 else len(ids)
        low, high = rule_of_three(mean, units) if measure_of(metric).share else (mean, mean)
        return Difference(mean, low, high, len(ids), subjects, ALL_DIFFER if mean else NO_ROW_DIFFERS)

    def subjects(self, ids: Sequence[str]) -> int:
        """How many the rows are of."""
        return len({self._subject[row] for row in ids})

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
        """A reference of rows (true renders) is that of the same rows, and is resampled with them."""
        kind, place = metric.split("_")
        if method == TRUTH:  # it is what the others are compared with
            return None
        own, real = self._of(method), self._of(REFERENCE)
        if own is None or real is None:
            return None
        mine, theirs = _features_of(own, place), _features_of(real, place)
        there = tuple(row.id for row in rows if row.id in mine and (not real.rows or row.id in theirs))
        if min(len(there), len(theirs)) < FEWEST_FOR_SETS:
            return None
        sample = np.stack([mine[row] for row in there])
        reference = np.stack([theirs[row] for row in there] if real.rows else list(theirs.values()))
        n, subjects, weights = len(there), self.subjects(there), self.weights(there)
        if kind == "kid":
            value, weights = float(kernel_distance(sample, reference)), weights[:KERNEL_DRAWS]
            draws = kernel_draws(sample, reference, weights, weights if real.rows else None)
            draws = draws[np.isfinite(draws)]
            low, high = percentiles(draws - draws.mean() + value)
            return Cell(value, low, high, n, subjects, len(draws), "resamples moved to lie around the value")
        value = float(frechet_distance(sample, reference))
        if min(n, len(reference)) < FEWEST_FOR_FRECHET:
            note = f"biased: fewer than {FEWEST_FOR_FRECHET} pictures; no interval"
            return Cell(value, None, None, n, subjects, note=note, shown=False)
        half = 1.96 * _frechet_spread(sample, reference, weights[:FRECHET_DRAWS], bool(real.rows))
        note = f"value ± 1.96 standard deviations of {FRECHET_DRAWS} resamples"
        return Cell(value, value - half, value + half, n, subjects, FRECHET_DRAWS, note)


def _frechet_spread(sample: Floats, reference: Floats, weights: Counts, paired: bool) -> float:
    """The standard deviation of resamples; repeated rows make them look farther off than the sample is."""
    drawn: list[npt.NDArray[np.int64]] = [np.repeat(np.arange(len(sample)), one.astype(np.int64)) for one in weights]
    draws = [frechet_distance(sample[rows], reference[rows] if paired else reference) for rows in drawn]
    return float(np.std(draws, ddof=1))


def _features_of(features: Features, place: str) -> dict[str, Floats]:
    """Row -> its features (D,), of those that are finite; where there are no rows, by number."""
    values = np.asarray(features.crop if place == "crop" else features.whole, np.float64)
    if not values.size:
        return {}
    names = features.rows or [str(number) for number in range(len(values))]
    return {name: one for name, one in zip(names, values, strict=True) if np.isfinite(one).all()}
