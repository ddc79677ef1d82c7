"""Finding a painted subject among many: views of each candidate, and whose portrait a picture's place is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from intarsia.evaluation.cases import Bools, Pixels, as_float, photos_of
from intarsia.evaluation.edits import Edit
from intarsia.evaluation.judges import Judges, Rgb
from intarsia.tabletop import Subject

GALLERY = 50
VIEWS = 4
EDITED_VIEWS = 2
_SEED = 77
Embed = Callable[[Sequence[Rgb], Sequence[Bools]], Tensor]


def embedded_views(embeds: Sequence[Embed], judges: Judges, subjects: Sequence[Subject], views: int) -> list[Tensor]:
    """For each way to embed, unit embeddings (N, V, D) of views that are no photos to learn from, and no references."""
    rows: list[list[Tensor]] = [[] for _ in embeds]
    for shots in photos_of(subjects, judges.level, views, side=96, seed=_SEED):
        pictures, masks = [as_float(p) for p, _ in shots], [m for _, m in shots]
        for row, embed in zip(rows, embeds, strict=True):
            row.append(embed(pictures, masks))
    return [torch.stack(row) for row in rows]


def portraits_of(judges: Judges, subjects: Sequence[Subject], views: int = VIEWS) -> Tensor:
    """The instance judge's embeddings (N, V, D) of ``views`` views of each subject."""
    return embedded_views([judges.portraits], judges, subjects, views)[0]


def gallery_of(portraits: Tensor) -> Tensor:
    """One unit vector for each candidate (N, D), the mean of its views (N, V, D)."""
    return functional.normalize(portraits.mean(1), dim=1)


def nearest(judges: Judges, gallery: Tensor, pixels: Pixels, mask: Bools) -> int:
    """The row of the gallery (N, D) that a picture's place looks most like."""
    return int((gallery @ judges.portraits([as_float(pixels)], [mask])[0]).argmax())


class Candidates:
    """50 subjects, one of them the one sought, each shown with the same edit.

    The one sought stands at row ``case % 50`` of a fixed list, in the place of whoever is there.
    """

    def __init__(self, judges: Judges, subjects: Sequence[Subject]) -> None:
        self.judges, self.subjects = judges, list(subjects)
        self._kept: dict[Edit | None, Tensor] = {}

    def gallery(self, case: int, subject: Subject, edit: Edit | None = None, own: Tensor | None = None) -> Tensor:
        """(N, D). ``own``: the views (V, D) of the subject, if they are known already."""
        if edit not in self._kept:
            self._kept[edit] = portraits_of(self.judges, [_after(edit, s) for s in self.subjects], _views(edit))
        views = self._kept[edit].clone()
        row = self.row(case)
        if self.subjects[row] != subject:
            views[row] = portraits_of(self.judges, [_after(edit, subject)], _views(edit))[0] if own is None else own
        return gallery_of(views)

    def row(self, case: int) -> int:
        """Where the subject of a case stands."""
        return case % len(self.subjects)


def _after(edit: Edit | None, subject: Subject) -> Subject:
    return subject if edit is None else edit.apply(subject)


def _views(edit: Edit | None) -> int:
    return VIEWS if edit is None else EDITED_VIEWS
