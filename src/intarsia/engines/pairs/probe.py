"""Does the source give the edit away? A small classifier that tries to find the painted place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.calibration import area_under_curve
from intarsia.engines.pairs.engine import Pair, read_pairs
from intarsia.engines.pairs.samples import BoolArray, Pixels, draw_of
from intarsia.perception import Box, box_of, box_overlap

FloatArray = NDArray[np.float64]
LEAST_PAIRS = 20
_FOLDS = 5
_PENALTY = 1.0
_LUMA = np.array([0.299, 0.587, 0.114])
_OPPONENT = np.array([[0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])
_TRIES = 64
_SIDES = (1.0, 0.5)
_QUANTILES = (0.25, 0.5)
_LEAST = 2e-3


@dataclass(frozen=True)
class ProbeReport:
    """``where``: AUC of telling the painted place from another place of the same source (its decoy where it has one,
    else one at random); ``whether``: AUC of telling the painted place of a source from the same place of an untouched
    picture; ``prior``: ``where`` asked of the untouched pictures: what content alone tells of good places, which is
    no leak. Both None without such pictures. 0.5: nothing leaks. Intervals by bootstrap over pairs, 95 %."""

    pairs: int
    where: float
    where_interval: tuple[float, float]
    whether: float | None = None
    whether_interval: tuple[float, float] | None = None
    prior: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "where": self.where,
            "where_interval": list(self.where_interval),
            "whether": self.whether,
            "whether_interval": None if self.whether_interval is None else list(self.whether_interval),
            "prior": self.prior,
        }


def edit_detection_auc(run: str | Path, *, cut: str | Path | None = None, most: int = 2000) -> float:
    """``where`` of `probe_edits` on the kept pairs of a run."""
    return probe_edits(read_pairs(run, cut=cut), most=most).where


def probe_edits(pairs: Iterable[Pair], *, untouched: Sequence[Pixels] | None = None, most: int = 2000) -> ProbeReport:
    """Try to find the painted places of up to ``most`` sources.

    A place is seen as noise residuals and their change from inside to around (`features`), and judged by a logistic
    regression that was fitted on other pictures (five folds by picture). What a model that learns to add would use to
    cheat is just this. ``untouched``: for each pair, in order, a picture of the same kind that nothing was painted in.

    Raises EngineError: fewer than 20 pairs, or another number of untouched pictures.
    """
    places, groups, clean = [], [], []
    for number, pair in enumerate(pairs):
        if number >= most:
            break
        found = _places(pair)
        if found is None:
            continue
        places.append([features(pair.source, one) for one in found])
        groups.append(str(pair.row["source"]))
        if untouched is not None:
            if number >= len(untouched) or untouched[number].shape != pair.source.shape:
                raise EngineError(f"the pair {pair.row['key']} has no untouched picture of its size; give one for each")
            clean.append([features(untouched[number], one) for one in found])
    if len(places) < LEAST_PAIRS or len(set(groups)) < _FOLDS:
        raise EngineError(
            f"{len(places)} pairs of {len(set(groups))} pictures are too few to probe; make {LEAST_PAIRS}"
        )
    painted = np.array(places)
    where = _compared(painted, groups)
    if untouched is None:
        return ProbeReport(len(places), *where)
    bare = np.array(clean)
    whether = _compared(np.stack([painted[:, 0], bare[:, 0]], axis=1), groups)
    return ProbeReport(len(places), *where, *whether, _compared(bare, groups)[0])


def features(rgb: Pixels, place: Box) -> FloatArray:
    """Of a place (x, y, w, h) in a picture: logarithms of two quantiles of the magnitudes of noise residuals (luma and
    two opponent colours; differences of first and second order, one and two pixels apart) inside its box, and inside
    the middle of it, by the same around the box. Quantiles, as things' edges are few pixels and paint is everywhere."""
    x, y, w, h = place
    margin = max(4, round(0.5 * max(w, h)))
    top, left = max(0, y - margin), max(0, x - margin)
    part = rgb[top : y + h + margin, left : x + w + margin].astype(np.float64) / 255
    planes = np.stack([part @ _LUMA, *(part @ row for row in _OPPONENT)])
    inside = np.zeros(part.shape[:2], bool)
    inside[y - top : y - top + h, x - left : x - left + w] = True
    values = []
    for residual in _residuals(planes):
        around = np.quantile(residual[:, ~inside], _QUANTILES, axis=1)
        for share in _SIDES:
            within = np.quantile(residual[:, _middle(inside, share)], _QUANTILES, axis=1)
            values.append((np.log(within + _LEAST) - np.log(around + _LEAST)).ravel())
    return np.concatenate(values)


def _residuals(planes: FloatArray) -> Iterator[FloatArray]:
    """Magnitudes (P, H, W) of high-pass filters."""
    for step in (1, 2):
        padded = np.pad(planes, ((0, 0), (step, step), (step, step)), mode="reflect")
        middle = padded[:, step:-step, step:-step]
        up, down = padded[:, : -2 * step, step:-step], padded[:, 2 * step :, step:-step]
        before, after = padded[:, step:-step, : -2 * step], padded[:, step:-step, 2 * step :]
        yield np.abs(down - middle) + np.abs(after - middle)
        yield np.abs(up + down + before + after - 4 * middle)


def _middle(inside: BoolArray, share: float) -> BoolArray:
    ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    h, w = max(1, round(share * len(ys))), max(1, round(share * len(xs)))
    top, left = ys[0] + (len(ys) - h) // 2, xs[0] + (len(xs) - w) // 2
    result = np.zeros_like(inside)
    result[top : top + h, left : left + w] = True
    return result


def _places(pair: Pair) -> tuple[Box, Box] | None:
    """The painted place, and another one of its size; None where the painted place fills the picture."""
    painted = box_of(pair.painted)
    if painted is None:
        return None
    decoy = pair.decoy
    if decoy is not None:
        return painted, decoy
    _, _, w, h = painted
    height, width = pair.painted.shape
    draw = draw_of(pair.row["key"], "probe")
    for _ in range(_TRIES):
        place = (int(draw.integers(0, width - w + 1)), int(draw.integers(0, height - h + 1)), w, h)
        if box_overlap(place, painted) < 0.1 * w * h:
            return painted, place
    return None


def _compared(values: FloatArray, groups: Sequence[str]) -> tuple[float, tuple[float, float]]:
    """AUC of the first of each two places, (N, 2, F), with its interval."""
    names = sorted(set(groups))
    fold = np.array([names.index(group) % _FOLDS for group in groups])
    scores = np.zeros(values.shape[:2])
    for held in range(_FOLDS):
        known, asked = values[fold != held], values[fold == held]
        if not len(asked):
            continue
        labels = np.tile([1.0, 0.0], len(known))
        judge = _fitted(known.reshape(-1, values.shape[2]), labels)
        scores[fold == held] = judge(asked.reshape(-1, values.shape[2])).reshape(-1, 2)
    positive = np.tile([True, False], len(scores))
    draw = np.random.default_rng(0)
    chosen = [draw.integers(0, len(scores), len(scores)) for _ in range(200)]
    spread = [area_under_curve(scores[one].ravel(), positive) for one in chosen]
    low, high = np.quantile(spread, [0.025, 0.975])
    return area_under_curve(scores.ravel(), positive), (float(low), float(high))


def _fitted(values: FloatArray, labels: FloatArray) -> Any:
    """Logistic regression with an L2 penalty by Newton's method, on standardised features."""
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    inputs = np.c_[np.clip((values - mean) / scale, -5, 5), np.ones(len(values))]
    weights = np.zeros(inputs.shape[1])
    penalty = _PENALTY * np.eye(len(weights))
    penalty[-1, -1] = 1e-6
    for _ in range(12):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (chance - labels) + penalty @ weights
        curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + penalty
        weights -= np.linalg.solve(curve, slope)
    return lambda asked: np.c_[np.clip((asked - mean) / scale, -5, 5), np.ones(len(asked))] @ weights
