"""The step ``prescore``: whether the thing is seen well enough to be worth a removal; and the gate behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from intarsia.engines.pairs.errors import InstanceError
from intarsia.engines.pairs.samples import Row, box_in, image_of, mask_of, rgb_of, rounded
from intarsia.engines.pairs.views import region_view
from intarsia.engines.quadruplets.quality import sharpness
from intarsia.engines.runner.thresholds import Thresholds, decide
from intarsia.perception import Helpers, PictureEmbedder, QualityScorer

BEFORE = (
    "area",
    "border",
    "side",
    "side_share",
    "fill",
    "largest_part",
    "crowding",
    "class_similarity",
    "sharpness",
)
"""Scores that are known before a removal."""


def scorer_of(helpers: Helpers) -> PictureEmbedder:
    """The scorer, which must give embeddings as well. Raises HelperError, InstanceError."""
    scorer: QualityScorer = helpers.load_scorer()
    if not hasattr(scorer, "embed"):
        raise InstanceError(f"the scorer {scorer.name} gives no embeddings: use towers:MODEL or clip:MODEL")
    return scorer  # type: ignore[return-value]


def class_text(class_name: str) -> str:
    """What a place is compared with."""
    return f"a photo of a {class_name}"


def make_prescore(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``prescore``."""
    return partial(prescore, scorer=scorer_of(helpers))


def prescore(row: Row, *, scorer: QualityScorer) -> list[Row]:
    """Adds ``class_similarity``, the cosine of the thing in softened surroundings and its class, and ``sharpness``, the
    mean absolute Laplacian of the luma inside the mask."""
    rgb, mask, box = rgb_of(image_of(row)), mask_of(row["mask.png"]), box_in(row)
    similarity = scorer.similarity([region_view(rgb, mask, box)], [class_text(row["class"])])[0, 0]
    values: Mapping[str, Any] = {
        "class_similarity": rounded(float(similarity)),
        "sharpness": rounded(sharpness(rgb, mask, box)),
    }
    return [{**row, **values}]


def make_gate(bounds: Thresholds) -> Callable[[Row], list[Row]]:
    """The step ``gate``."""
    return partial(gate, bounds=bounds)


def gate(row: Row, *, bounds: Thresholds) -> list[Row]:
    """Rejects what the thresholds on scores of `BEFORE` would cut, so that no removal is spent on it."""
    reason = decide(row, bounds)
    return [row if reason is None else {**row, "rejected": reason}]
