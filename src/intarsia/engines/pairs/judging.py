"""The step ``judge``: do the candidates agree, is the thing gone, and which one is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.engines.pairs.blending import alpha_of, blend
from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.prescoring import class_text, scorer_of
from intarsia.engines.pairs.removing import candidates_of
from intarsia.engines.pairs.samples import BoolArray, Pixels, Row, box_in, image_of, mask_of, rgb_of, rounded
from intarsia.engines.pairs.views import cosine, region_view, spread
from intarsia.engines.quadruplets.segmenting import edge_ratio
from intarsia.imaging import fill_hole
from intarsia.perception import Helpers, PictureEmbedder

FloatArray = NDArray[np.float32]
_FLOOR = -1.0


def make_judge(helpers: Helpers, options: PairOptions) -> Callable[[Row], list[Row]]:
    """The step ``judge``."""
    return partial(judge, scorer=scorer_of(helpers), options=options)


def judge(row: Row, *, scorer: PictureEmbedder, options: PairOptions) -> list[Row]:
    """Adds ``candidate``, the number of the one that is taken, and the scores below; all candidates' similarities and
    distances as JSON in ``multimodals`` and ``distances``.

    ``consensus``: spread of the K image embeddings of the painted place (`spread`). ``multimodal``: cosine of the place
    and the class, of the one taken; ``fall``: by how much it fell against the thing itself; ``multimodal_excepted``:
    the same, but -1 where the fall is at least ``exception_fall``: thresholds are set on this one. ``margin``: cosine
    of the place and the class, less that of the place and the words for emptiness; ``likeness``: cosine of the place's
    embedding before and after. ``distance``: mean colour distance inside the mask to the other candidates; ``change``:
    to the thing; ``strangeness``: to a smooth continuation of the surroundings; ``outline``: mean gradient along the
    mask's outline by that beside it (the higher, the more of the thing is left). Of the colour distances 1 is from
    black to white.
    """
    photo, mask, box = rgb_of(image_of(row)), mask_of(row["mask.png"]), box_in(row)
    painted = mask_of(row["painted.png"])
    alpha = alpha_of(painted, round(options.blend_width * max(photo.shape[:2])), options.blend)
    # What is judged is what would be kept.
    candidates = [blend(photo, rgb_of(data), alpha) for data in candidates_of(row)]
    views = [region_view(candidate, mask, box) for candidate in candidates]
    compared = scorer.similarity(views, [class_text(row["class"]), options.empty_words])
    similar = [float(value) for value in compared[:, 0]]
    embedded = scorer.embed([*views, region_view(photo, mask, box)])
    inside = [_inside(candidate, mask) for candidate in candidates]
    distances = _distances(inside)
    outlines = [edge_ratio(candidate, mask, box) or 0.0 for candidate in candidates]
    strange = [strangeness(candidate, photo, mask, painted) for candidate in candidates]
    rankings = [similar] if options.choice == "multimodal" else [distances, strange]
    chosen = best_of(rankings)
    multimodal = similar[chosen]
    fall = float(row["class_similarity"]) - multimodal
    scores: dict[str, Any] = {
        "consensus": spread(embedded[:-1], options.consensus),
        "multimodal": multimodal,
        "fall": fall,
        "multimodal_excepted": _FLOOR if fall >= options.exception_fall else multimodal,
        "margin": float(compared[chosen, 0] - compared[chosen, 1]),
        "likeness": cosine(embedded[chosen], embedded[-1]),
        "distance": distances[chosen],
        "outline": outlines[chosen],
        "change": _distance(inside[chosen], _inside(photo, mask)),
        "strangeness": strange[chosen],
    }
    return [
        {
            **row,
            "candidate": chosen,
            "multimodals": _listed(similar),
            "distances": _listed(distances),
            **{name: rounded(value) for name, value in scores.items()},
        }
    ]


def best_of(rankings: Sequence[Sequence[float]]) -> int:
    """The candidate with the least mean rank over several scores (least is best); the first of equals by the first
    score."""
    ranks = np.mean([np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in rankings], axis=0)
    return min(range(len(ranks)), key=lambda number: (ranks[number], rankings[0][number], number))


def strangeness(candidate: Pixels, photo: Pixels, mask: BoolArray, painted: BoolArray) -> float:
    """Mean colour distance inside the mask between a removal and the smooth continuation of the photo from outside the
    painted place: textures are near it, invented things are not."""
    expected = fill_hole(photo.astype(np.float32) / np.float32(255), painted)
    return _distance(_inside(candidate, mask), expected[mask])


def make_importance(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``importance``."""
    return partial(importance, scorer=scorer_of(helpers))


def importance(row: Row, *, scorer: PictureEmbedder) -> list[Row]:
    """Adds ``importance``, the cosine of the whole source and the whole target: near 1 the thing hardly matters."""
    source, target = scorer.embed([rgb_of(row["source.png"]), rgb_of(row["target.png"])])
    return [{**row, "importance": rounded(cosine(source, target))}]


def _inside(rgb: Pixels, mask: BoolArray) -> FloatArray:
    return np.asarray(rgb[mask], np.float32) / np.float32(255)


def _distance(one: FloatArray, other: FloatArray) -> float:
    return float(np.abs(one - other).mean())


def _distances(inside: Sequence[FloatArray]) -> list[float]:
    """Of each candidate to the others, the mean."""
    count = len(inside)
    table = [[_distance(one, other) for other in inside] for one in inside]
    return [sum(line) / (count - 1) for line in table]


def _listed(values: Sequence[float]) -> str:
    return json.dumps([rounded(value) for value in values])
