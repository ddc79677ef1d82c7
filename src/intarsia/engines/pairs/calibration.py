"""Choosing thresholds by labels: what share of the kept removals succeeded, against how many are rejected."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.errors import AnnotationsError
from intarsia.engines.runner.samples import read_rows

FILTERS: Mapping[str, bool] = {
    "consensus": False,
    "multimodal": False,
    "margin": False,
    "likeness": False,
    "distance": False,
    "outline": False,
    "strangeness": False,
    "change": True,
    "importance": False,
    "crowding": False,
    "class_similarity": True,
    "sharpness": True,
}
"""Scores that can be swept, and whether more of them is better."""
LEAST_LABELS = 20
_MOST_POINTS = 60
_FLAT = 0.25
_MOST_REJECTED = 0.6
_TRUE, _FALSE = ("1", "true", "yes", "success", "good"), ("0", "false", "no", "fail", "failure", "bad")


@dataclass(frozen=True)
class CalibrationCurve:
    """One score swept: for each threshold the share of labelled rows that it rejects, the share of successes among the
    kept ones, and how many are kept. ``more``: rows with more of the score are kept. ``chosen``: where the slope
    flattens, as an index; None where no threshold raises the success. ``auc``: how well the score tells success from
    failure, 0.5 being chance."""

    score: str
    more: bool
    thresholds: tuple[float, ...]
    rejected: tuple[float, ...]
    success: tuple[float, ...]
    kept: tuple[int, ...]
    auc: float
    chosen: int | None

    @property
    def threshold(self) -> float | None:
        """The chosen threshold."""
        return None if self.chosen is None else self.thresholds[self.chosen]

    @property
    def bound(self) -> tuple[float | None, float | None] | None:
        """(lowest, highest) kept value, as thresholds want it."""
        if self.threshold is None:
            return None
        return (self.threshold, None) if self.more else (None, self.threshold)


@dataclass(frozen=True)
class Calibration:
    """``labelled`` rows that have scores, ``success``: share of them that succeeded; a curve for each score."""

    labelled: int
    success: float
    curves: tuple[CalibrationCurve, ...]

    def thresholds_yaml(self) -> str:
        """Lines for a file of thresholds; what the labels leave open is a comment."""
        lines = [f"# From {self.labelled} labels, {self.success:.1%} of them successes without any filter."]
        for curve in self.curves:
            if curve.chosen is None:
                lines.append(f"# {curve.score}: no threshold raises the success (AUC {curve.auc:.2f})")
                continue
            at = curve.chosen
            lines.append(
                f"{curve.score}: {{{'min' if curve.more else 'max'}: {curve.thresholds[at]:.6g}}}  # alone: success "
                f"{curve.success[at]:.1%} at {curve.rejected[at]:.1%} rejected, AUC {curve.auc:.2f}"
            )
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        curves = {
            curve.score: {
                "auc": curve.auc,
                "threshold": curve.threshold,
                "keep": "more" if curve.more else "less",
                "thresholds": list(curve.thresholds),
                "rejected": list(curve.rejected),
                "success": list(curve.success),
            }
            for curve in self.curves
        }
        return {"labelled": self.labelled, "success": self.success, "scores": curves}


def read_labels(path: str | Path) -> dict[str, bool]:
    """key -> success, of a CSV file with the columns ``key`` and ``success`` (1 or 0, yes or no). Raises
    AnnotationsError."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not {"key", "success"} <= set(reader.fieldnames or ()):
                raise AnnotationsError(f"the labels {path} must have the columns key and success")
            lines = list(reader)
    except OSError as error:
        raise AnnotationsError(f"the labels {path} cannot be read ({error.strerror}): check the path") from error
    labels: dict[str, bool] = {}
    for line in lines:
        word = (line["success"] or "").strip().lower()
        if word not in _TRUE + _FALSE:
            raise AnnotationsError(f"the label {word!r} of {line['key']} is none: write 1 for success, 0 for failure")
        labels[str(line["key"])] = word in _TRUE
    return labels


def calibrate(run: str | Path, labels: Mapping[str, bool], scores: Sequence[str] = tuple(FILTERS)) -> Calibration:
    """Sweep the thresholds of each score over the labelled rows of a run that were not rejected before their removal.

    A threshold is chosen where the curve of success over rejected share flattens: of all whose success is above that of
    no filter by at least its standard error, the last one before the mean slope of what follows falls below a quarter
    of the slope so far.

    Raises:
        EngineError: fewer than 20 labelled rows with scores, labels of one kind only, or a score that no row has.
    """
    unknown = [name for name in scores if name not in FILTERS]
    if unknown:
        raise EngineError(f"the score {unknown[0]!r} cannot be calibrated: use {', '.join(FILTERS)}")
    table = read_rows(run).to_pylist()
    rows = [row for row in table if row["key"] in labels and row.get("rejected") is None]
    if len(rows) < LEAST_LABELS:
        raise EngineError(f"{len(rows)} labelled rows of {run} have scores; label at least {LEAST_LABELS}, better 500")
    truth = np.array([labels[row["key"]] for row in rows])
    if truth.all() or not truth.any():
        raise EngineError(f"all {len(rows)} labels say the same; label successes and failures")
    curves = []
    for name in scores:
        values = [row.get(name) for row in rows]
        if any(value is None for value in values):
            raise EngineError(f"not all labelled rows have the score {name!r}; leave it out")
        curves.append(_curve(name, np.array(values, np.float64), truth, FILTERS[name]))
    return Calibration(len(rows), float(truth.mean()), tuple(curves))


def _curve(name: str, values: NDArray[np.float64], truth: NDArray[np.bool_], more: bool) -> CalibrationCurve:
    goodness = values if more else -values
    levels = np.unique(goodness)
    if len(levels) > _MOST_POINTS:
        levels = np.unique(np.quantile(goodness, np.linspace(0, 1, _MOST_POINTS), method="lower"))
    kept = [goodness >= level for level in levels]
    rejected = tuple(float(1 - one.mean()) for one in kept)
    success = tuple(float(truth[one].mean()) for one in kept)
    counts = tuple(int(one.sum()) for one in kept)
    bounds = tuple(float(level if more else -level) for level in levels)
    return CalibrationCurve(
        name,
        more,
        bounds,
        rejected,
        success,
        counts,
        area_under_curve(goodness, truth),
        _knee(rejected, success, counts),
    )


def _knee(rejected: Sequence[float], success: Sequence[float], kept: Sequence[int]) -> int | None:
    """See `calibrate`."""
    base = success[0]
    usable = [
        number
        for number in range(1, len(rejected))
        if rejected[number] <= _MOST_REJECTED
        and success[number] - base > float(np.sqrt(max(base * (1 - base), 1e-4) / kept[number]))
    ]
    for number in usable:
        so_far = (success[number] - base) / rejected[number]
        later = [
            (success[n] - success[number]) / (rejected[n] - rejected[number])
            for n in usable
            if rejected[n] > rejected[number] + 0.02
        ]
        if not later or max(later) < _FLAT * so_far:
            return number
    return max(usable, key=lambda number: success[number], default=None)


def area_under_curve(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive has a higher value than a negative; ties count half (Mann-Whitney)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    yes, no = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
