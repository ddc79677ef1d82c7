"""Whether one sees where a mask ended."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.metrics.colour import delta_e_2000, lab_of

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
RINGS = (3, 4, 5, 6)
"""How many pixels outside the mask the borders run with which its own is compared."""


def seam_score(pixels: Pixels, mask: Bools) -> float | None:
    """How much steeper colours change across the mask's border than near it; 0 where no seam is to be seen.

    The mean ΔE2000 of the pairs of horizontal or vertical neighbours of (H, W, 3) of which one is in the mask (H, W)
    and one is not, minus the same mean over such pairs at the borders of the mask grown by 3, 4, 5 and 6 pixels
    (squares, so that a box stays a box), all these together. None where there are no such pairs.

    A subject that fills its mask to the border has an edge there by right: compare with the true picture's score.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys):
        return None
    reach = max(RINGS) + 2
    part = slice(max(0, ys[0] - reach), ys[-1] + 1 + reach), slice(max(0, xs[0] - reach), xs[-1] + 1 + reach)
    lab, inside = lab_of(pixels[part] / 255), mask[part]
    across = _across(lab, inside)
    near = np.concatenate([_across(lab, _grown(inside, ring)) for ring in RINGS])
    return float(across.mean() - near.mean()) if len(across) and len(near) else None


def _across(lab: npt.NDArray[np.float64], inside: Bools) -> npt.NDArray[np.float64]:
    """The differences of all neighbours on two sides of a border."""
    down, along = inside[1:] != inside[:-1], inside[:, 1:] != inside[:, :-1]
    first = np.concatenate([lab[1:][down], lab[:, 1:][along]])
    return delta_e_2000(first, np.concatenate([lab[:-1][down], lab[:, :-1][along]]))


def _grown(mask: Bools, by: int) -> Bools:
    """With all pixels of the (2 by + 1)² square around each."""
    rows = mask.copy()
    for step in range(1, by + 1):
        rows[step:] |= mask[:-step]
        rows[:-step] |= mask[step:]
    grown = rows.copy()
    for step in range(1, by + 1):
        grown[:, step:] |= rows[:, :-step]
        grown[:, :-step] |= rows[:, step:]
    return grown
