"""Where an added thing stands: on the table, clear of other things, and where the words say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from intarsia.evaluation.cases import Bools, pixels_of
from intarsia.perception import PLACES
from intarsia.tabletop import Scene

FOOT_SHARE = 0.1
"""The lowest tenth of a change is its foot."""
ON_TABLE = 0.9
"""This share of the foot must be in front of the table."""
OVERLAP = 0.1
"""At most this share of any other thing may be covered."""
SLACK = 1 / 30
"""How far outside the cell that the words name the middle may be, as a share of the picture: a tenth of a cell."""


@dataclass(frozen=True)
class Placement:
    """``place``: None where no words say one."""

    table: bool
    clear: bool
    place: bool | None

    @property
    def right(self) -> bool:
        """All that is asked."""
        return self.table and self.clear and self.place is not False


def placement_of(change: Bools, table: Bools, others: list[Bools], place: str | None) -> Placement:
    """Judge the mask (H, W) of what has changed, shadow and all.

    Args:
        change: not empty.
        table: `table_area` of the scene.
        others: the visible masks of the things that stood there before.
        place: one of `PLACES`, or None.
    """
    ys, xs = np.nonzero(change)
    foot = ys >= np.quantile(ys, 1 - FOOT_SHARE)
    covered = [float(change[other].mean()) for other in others if other.any()]
    return Placement(
        bool(table[ys[foot], xs[foot]].mean() >= ON_TABLE),
        all(share <= OVERLAP for share in covered),
        None if place is None else is_at(change, place),
    )


def is_at(change: Bools, place: str) -> bool:
    """Whether the middle (centroid) of a mask (H, W) is in the cell of one of `PLACES`, or `SLACK` beside it."""
    ys, xs = np.nonzero(change)
    middle = (ys.mean() + 0.5) / change.shape[0], (xs.mean() + 0.5) / change.shape[1]
    cells = divmod(PLACES.index(place), 3)
    return all(cell / 3 - SLACK <= at <= (cell + 1) / 3 + SLACK for at, cell in zip(middle, cells, strict=True))


def free_places(others: list[Bools], side: int) -> list[str]:
    """Of "the left", "the center" and "the right", where there is room: things cover less than a tenth of the cell."""
    covered = np.any(others, axis=0) if others else np.zeros((side, side), bool)
    third = [round(side * edge / 3) for edge in range(4)]
    return [
        PLACES[3 + column]
        for column in range(3)
        if covered[third[1] : third[2], third[column] : third[column + 1]].mean() < OVERLAP
    ]


def table_area(scene: Scene, side: int) -> Bools:
    """Where the empty scene shows its table (side, side): all that does not follow the wall's colour."""
    bare = replace(scene, placements=())
    dark, bright = (replace(bare, wall_colour=(value, value, value)) for value in (0.0, 1.0))
    (one, other), _ = pixels_of([dark, bright], side)
    return np.asarray(np.abs(one.astype(int) - other.astype(int)).max(2) < 32)


def other_masks(scene: Scene, side: int) -> list[Bools]:
    """The visible masks (side, side) of a scene's things."""
    _, (numbers,) = pixels_of([scene], side)
    return [numbers == number for number in range(1, len(scene.placements) + 1)]
