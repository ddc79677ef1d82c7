"""The step ``remove``: K removals of each thing, and a decoy, for a batch of rows at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from intarsia.engines.pairs.growth import decoy_of, grown_mask
from intarsia.engines.pairs.options import PairOptions
from intarsia.engines.pairs.removers import RemovalTask, Remover, RemoverOption
from intarsia.engines.pairs.samples import Row, box_in, mask_of, photo_of, png, rounded, seed_of


def make_remove(remover: RemoverOption, options: PairOptions) -> Callable[[list[Row]], list[list[Row]]]:
    """The step ``remove``, over batches of rows."""
    return partial(remove, remover=remover.load(), options=options)


def remove(rows: list[Row], *, remover: Remover, options: PairOptions) -> list[list[Row]]:
    """Adds ``candidate_0.png`` … (the whole picture, as the remover gives it), ``painted.png`` (what was painted anew),
    ``seeds`` (JSON), ``grown`` (its area by the mask's), ``remover``; and for the share of rows that get a decoy
    ``decoy.png``, ``decoy_mask.png`` and its box ``decoy``. Seeds follow from the row's key and the candidate's number.
    """
    tasks: list[RemovalTask] = []
    started: list[Row] = []
    for row in rows:
        row = dict(row)
        photo, mask = photo_of(row), mask_of(row["mask.png"])
        others = [(int(x), int(y), int(w), int(h)) for x, y, w, h in json.loads(row["others"])]
        painted = grown_mask(photo.rgb, mask, row["key"], options, others)
        seeds = [seed_of(row["key"], number) for number in range(options.candidates)]
        places = [painted] * len(seeds)
        # The blends of both places must not meet.
        gap = 2 * round(options.blend_width * max(mask.shape)) + 2
        decoy = decoy_of(row["key"], painted, [*others, box_in(row)], options.decoys, gap)
        if decoy is not None:
            row |= {"decoy_mask.png": png(decoy)}
            places.append(decoy)
            seeds.append(seed_of(row["key"], "decoy"))
        tasks += [
            RemovalTask(photo, mask, place, row["class"], seed) for place, seed in zip(places, seeds, strict=True)
        ]
        row |= {
            "painted.png": png(painted),
            "seeds": json.dumps(seeds[: options.candidates]),
            "grown": rounded(float(painted.sum() / mask.sum())),
            "remover": remover.name,
        }
        started.append(row)
    pictures = iter(remover.remove(tasks))
    for row in started:
        for number in range(options.candidates):
            row[f"candidate_{number}.png"] = png(next(pictures))
        if "decoy_mask.png" in row:
            row["decoy.png"] = png(next(pictures))
    return [[row] for row in started]


def candidates_of(row: Row) -> list[bytes]:
    """The PNG bytes of a row's candidates."""
    found: list[bytes] = []
    while (data := row.get(f"candidate_{len(found)}.png")) is not None:
        found.append(data)
    return found
