"""The step ``pair``: source and target as files, in PIPE's columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.samples import IMAGES, Row, encoded, mask_of, rgb_of
from intarsia.perception import box_of

VERSION = "1"
_BETWEEN = ("source.png", "target.png", "decoy_mask.png", *IMAGES)
_INTERNAL = ("runs", "mask_file", "mask_label", "mask_scaled", "others", "drop", "fault", "pictures")


def make_pair(options: PairOptions, names: Mapping[str, str]) -> Callable[[Row], list[Row]]:
    """The step ``pair``; ``names`` of the helpers become part of each row."""
    return partial(pair, options=options, names=names)


def pair(row: Row, *, options: PairOptions, names: Mapping[str, str]) -> list[Row]:
    """Adds ``source_img.png`` and ``target_img.png`` (or ``.jpg``, both by the same encoder), ``target_img_dataset``,
    the decoy's box, and the provenance; takes out what only the steps before needed."""
    suffix, source = encoded(rgb_of(row["source.png"]), options.codec, options.quality)
    target = encoded(rgb_of(row["target.png"]), options.codec, options.quality)[1]
    kept = {name: value for name, value in row.items() if name not in (*_BETWEEN, *_INTERNAL)}
    decoy = None
    if "decoy_mask.png" in row:
        decoy = json.dumps(box_of(mask_of(row["decoy_mask.png"])))
    return [
        {
            **kept,
            f"source_img.{suffix}": source,
            f"target_img.{suffix}": target,
            "target_img_dataset": row["pictures"],
            "decoy": decoy,
            "helpers": json.dumps(dict(names), sort_keys=True),
            "engine": f"pairs/{VERSION}",
        }
    ]
