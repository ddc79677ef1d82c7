"""The step ``caption``: two short captions of each candidate, one in its surroundings and one cut out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from intarsia.engines.quadruplets.samples import Row, mask_of, photo_of, rounded
from intarsia.perception import Captioner, Helpers, box_of


def make_caption(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``caption``."""
    return partial(caption, captioner=helpers.load_captioner())


def caption(row: Row, *, captioner: Captioner) -> list[Row]:
    """Adds ``caption``, ``second_caption`` (of the cut-out: a check, not an alternative) and ``caption_score``, the
    lower one of theirs. A candidate without a mask gets none."""
    mask = mask_of(row["mask.png"]) if row["instance"] else None
    box = None if mask is None else box_of(mask)
    if mask is None or box is None:
        return [row]
    photo = photo_of(row)
    first = captioner.caption(photo, box, mask, "context")
    second = captioner.caption(photo, box, mask, "cutout")
    scores = [one.score for one in (first, second) if one.score is not None]
    return [
        {
            **row,
            "caption": first.text,
            "second_caption": second.text,
            "caption_score": rounded(min(scores, default=None)),
        }
    ]
