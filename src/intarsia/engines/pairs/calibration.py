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
    "crowding": False,
    "class_similarity": True,
    "sharpness": True,
    "consensus": False,
    "distance": False,
    "multimodal_excepted": False,
    "margin": False,
    "likeness": False,
    "strangeness": False,
    "outline": False,
    "change": True,
    "importance": False,
}
"""Scores that can be swept, in the order of the paper's filters (and of `survival`), and whether more of them is
better."""
LEAST_LABELS = 20
_MOST_POINTS = 60
_FLAT = 0.25
_MOST_REJECTED, _SHARE = 0.6, 0.5
_ERRORS = 2.0
_TRUE, _FALSE = ("1", "true", "yes", "success", "good"), ("0", "false", "no", "fail", "failure", "bad")


@dataclass(frozen=True)
class CalibrationCurve:
    """One score swept over all labelled rows, no other score asked: for each threshold the share that it rejects, the
    share of successes among the kept ones, and how many are kept. ``more``: rows with more of the score are kept.
    ``auc``: how well the score tells success from failure, 0.5 being chance.

    ``chosen``: the threshold that is taken, as an index, for what the scores before it have left (`calibrate`); None
    where none raises the success there. ``together``: (share of all labelled rows that is rejected, success of the
    kept) by this score and those before it."""

    score: str
    more: bool
    thresholds: tuple[float, ...]
    rejected: tuple[float, ...]
    success: tuple[float, ...]
    kept: tuple[int, ...]
    auc: float
    chosen: int | None
    together: tuple[float, float]

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
        lines = [
            f"# From {self.labelled} labels, {self.success:.1%} of them successes without any filter. Each threshold",
            "# is chosen on what those above it leave. Bounds on area, border and sides are not chosen: add your own.",
        ]
        for curve in self.curves:
            if curve.chosen is None:
                lines.append(f"# {curve.score}: no threshold raises the success further (AUC alone {curve.auc:.2f})")
                continue
            rejected, success = curve.together
            lines.append(
                f"{curve.score}: {{{'min' if curve.more else 'max'}: {curve.threshold:.6f}}}  # so far: success "
                f"{success:.1%} at {rejected:.1%} rejected; AUC alone {curve.auc:.2f}"
            )
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        curves = {
            curve.score: {
                "auc": curve.auc,
                "threshold": curve.threshold,
                "keep": "more" if curve.more else "less",
                "together": {"rejected": curve.together[0], "success": curve.together[1]},
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
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"key", "success"} <= set(reader.fieldnames or ()):
                raise AnnotationsError(f"the labels {path} must have the columns key and success")
            lines = list(reader)
    except OSError as error:
        raise AnnotationsError(f"the labels {path} cannot be read ({error.strerror}): check the path") from error
    except (UnicodeError, csv.Error) as error:
        raise AnnotationsError(f"the labels {path} are no CSV text ({error}): save them as CSV in UTF-8") from error
    labels: dict[str, bool] = {}
    for line in lines:
        word = (line["success"] or "").strip().lower()
        if word not in _TRUE + _FALSE:
            raise AnnotationsError(f"the label {word!r} of {line['key']} is none: write 1 for success, 0 for failure")
        labels[str(line["key"])] = word in _TRUE
    return labels


def calibrate(run: str | Path, labels: Mapping[str, bool], scores: Sequence[str] = tuple(FILTERS)) -> Calibration:
    """Sweep the thresholds of each score over the labelled rows of a run that were not rejected before their removal,
    and choose thresholds that can stand in one file.

    They are chosen one after the other in the order of `FILTERS`, each on the rows that those before it leave; a score
    that raises the success of these no further gets none, and nothing is chosen once all that is left succeeded. On
    the curve of success over rejected share the threshold is where the slope flattens: of all whose success is above
    that of no filter by more than twice its standard error, the first one from which no later one gains a quarter as
    much per rejected row as it did itself. All together reject at most 60 % of the labelled rows, and each at most half
    of what may still be rejected, so that no score uses up what later ones need.

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
    curves, left = [], np.ones(len(rows), np.bool_)
    names = [name for name in FILTERS if name in scores]
    for name in names:
        values = [row.get(name) for row in rows]
        if any(value is None for value in values):
            raise EngineError(f"not all labelled rows have the score {name!r}; leave it out")
        gone = float(1 - left.mean())
        most = gone + (_MOST_REJECTED - gone) * (1.0 if name == names[-1] else _SHARE)
        curve, left = _curve(name, np.array(values, np.float64), truth, left, most)
        curves.append(curve)
    return Calibration(len(rows), float(truth.mean()), tuple(curves))


def _curve(
    name: str, values: NDArray[np.float64], truth: NDArray[np.bool_], left: NDArray[np.bool_], most: float
) -> tuple[CalibrationCurve, NDArray[np.bool_]]:
    """The curve of a score, and what its threshold leaves of what was ``left``: of all rows it and those before it
    reject the share ``most``, or less."""
    more = FILTERS[name]
    goodness = values if more else -values
    levels = np.unique(goodness)
    if len(levels) > _MOST_POINTS:
        levels = np.unique(np.quantile(goodness, np.linspace(0, 1, _MOST_POINTS), method="lower"))
    kept = [goodness >= level for level in levels]
    chosen = _knee([one & left for one in kept], truth, left, most)
    if chosen is not None:
        left = left & kept[chosen]
    curve = CalibrationCurve(
        name,
        more,
        tuple(float(level if more else -level) for level in levels),
        tuple(float(1 - one.mean()) for one in kept),
        tuple(float(truth[one].mean()) for one in kept),
        tuple(int(one.sum()) for one in kept),
        area_under_curve(goodness, truth),
        chosen,
        (float(1 - left.mean()), float(truth[left].mean())),
    )
    return curve, left


def _knee(
    kept: Sequence[NDArray[np.bool_]], truth: NDArray[np.bool_], left: NDArray[np.bool_], most: float
) -> int | None:
    """See `calibrate`. ``kept``: for each threshold, from the loosest on, what it keeps of what is ``left``."""
    base = float(truth[left].mean())
    rejected = [float(1 - one.sum() / left.sum()) for one in kept]
    success = [float(truth[one].mean()) if one.any() else base for one in kept]
    usable = [
        number
        for number, one in enumerate(kept)
        if 1 - one.mean() <= most
        and success[number] - base > _ERRORS * float(np.sqrt(max(base * (1 - base), 1e-4) / one.sum()))
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
    return None


def area_under_curve(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive has a higher value than a negative; ties count half (Mann-Whitney)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    yes, no = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))
