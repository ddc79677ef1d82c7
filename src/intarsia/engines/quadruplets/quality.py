"""The step ``quality``: whether picture, mask, tag and caption of a candidate agree with each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from intarsia.engines.quadruplets.samples import BoolArray, Pixels, Row, mask_of, photo_of, rounded
from intarsia.engines.quadruplets.words import Statement, agreement, same_thing, says
from intarsia.perception import Box, Helpers, QualityScorer, Tagger, Vocabulary, box_of, crop

_SURROUNDINGS = 0.12
_NOTHING_TO_COMPARE = 1.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def make_quality(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``quality``."""
    return partial(quality, tagger=helpers.load_tagger(), scorer=helpers.load_scorer(), vocabulary=Vocabulary.load())


def quality(row: Row, *, tagger: Tagger, scorer: QualityScorer, vocabulary: Vocabulary) -> list[Row]:
    """Adds, for a candidate with mask and caption:

    ``words``; ``sharpness`` (mean absolute Laplacian of the luma inside the mask); ``second_tag`` (the score of the
    tag when the tagger looks at the box alone, 0 if it says something else); ``noun_agrees`` (1: the caption says the
    tag, and no other tag of the picture); ``captions_agree`` (see `agreement`); and by the image-text encoder, on the
    box with some surroundings: ``similarity`` of the caption, ``colour_margin``, ``noun_margin`` (the caption's colour
    and noun against the best other one) and ``worn_margin`` (the caption against itself without what it says that
    the thing wears or bears, the least of them). A margin is 1 where the caption gives nothing to compare.
    """
    if not row["instance"] or row.get("caption") is None:
        return [row]
    photo, mask = photo_of(row), mask_of(row["mask.png"])
    box = box_of(mask)
    if box is None:
        return [row]
    tag, text = str(row["tag"]), str(row["caption"])
    others = [word for word, _ in json.loads(row["picture_tags"]) if not same_thing(word, tag)]
    statement, second = Statement.of(text, vocabulary), Statement.of(str(row["second_caption"]), vocabulary)
    seen = [found for found in tagger.tag(photo, box) if same_thing(found.text, tag)]
    return [
        {
            **row,
            "words": len(text.split()),
            "sharpness": rounded(sharpness(photo.rgb, mask, box)),
            "second_tag": rounded(max((1.0 if one.score is None else one.score for one in seen), default=0.0)),
            "noun_agrees": int(says(text, tag) and not any(says(text, word) for word in others)),
            "captions_agree": rounded(agreement(statement, second, tag)),
            **_margins(crop(photo.rgb, box, _SURROUNDINGS), statement, tag, others, scorer, vocabulary),
        }
    ]


def _margins(
    pixels: Pixels, said: Statement, tag: str, others: Sequence[str], scorer: QualityScorer, vocabulary: Vocabulary
) -> dict[str, Any]:
    colour = said.colours[0] if said.colours else ""
    borne = {inner.value for mention in said.borne for inner in mention.qualifiers}
    colours = [word for word in vocabulary.values("colour") if word not in borne and word not in said.colours]
    texts = [said.text, said.body(tag, colour)]
    colour_texts = [said.body(tag, word) for word in colours] if colour else []
    noun_texts = [said.body(word, colour) for word in others]
    worn_texts = [said.without(mention) for mention in said.borne]
    values = scorer.similarity([pixels], [*texts, *colour_texts, *noun_texts, *worn_texts])[0]
    caption, body = float(values[0]), float(values[1])
    parts = np.split(values[2:], [len(colour_texts), len(colour_texts) + len(noun_texts)])
    margins = [
        whole - float(part.max()) if len(part) else _NOTHING_TO_COMPARE
        for whole, part in zip((body, body, caption), parts, strict=True)
    ]
    return {
        "similarity": rounded(caption),
        "colour_margin": rounded(margins[0]),
        "noun_margin": rounded(margins[1]),
        "worn_margin": rounded(margins[2]),
    }


def sharpness(rgb: Pixels, mask: BoolArray, box: Box) -> float:
    """Mean absolute Laplacian of the luma in [0, 1] inside the mask; blurred things are near 0."""
    x, y, w, h = box
    luma = np.pad(rgb[y : y + h, x : x + w].astype(np.float32) @ _LUMA / 255, 1, mode="edge")
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    return float(np.abs(laplacian)[mask[y : y + h, x : x + w]].mean())
