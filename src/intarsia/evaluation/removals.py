"""Removal with truth: scenes rendered without each of their things, and when a removal counts as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from intarsia.engines import pairs
from intarsia.errors import OutputError, PictureError
from intarsia.evaluation.cases import Bools, Pixels, as_float, pixels_of
from intarsia.imaging import Picture
from intarsia.perception import Truth, truth_path
from intarsia.tabletop import level, sample_scene

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.evaluation.judges import Judges

REMOVED_PSNR = 20.0
"""dB inside the thing's mask, against the scene without it: what a removal must reach at least, as the model card's
floor for removals. On 48 held-out scenes, 95 % of things that were left are below 14.7 and of things in exchanged
colours below 13.7; smooth fills have a median of 22."""
OTHER_PSNRS = (16, 24)
"""The same is told at these, for the choice is ours."""
_RECIPE = re.compile(r"tabletop scenes, level (\S+), seed (\d+), (\d+) px(?:, (\w+) split)?\n")
_SAME = 2
"""Channel values that machines may round apart."""


def write_removals(photos: str | Path, output: str | Path, overwrite: bool = False) -> int:
    """Render the scenes of `write_tabletop` without each thing of their truth, as ``output``/NAME-NUMBER.png (NUMBER
    as in the truth's objects). Returns how many were rendered now: those that are there already stay.

    Raises PictureError: ``photos`` holds no scenes of `write_tabletop`, or others than its note says; OutputError.
    """
    source, target = Path(photos), Path(output)
    try:
        told = _RECIPE.fullmatch((source / "scenes.txt").read_text(encoding="utf-8"))
    except OSError:
        told = None
    if told is None:
        raise PictureError(f"{source} holds no rendered scenes (no scenes.txt): make some with intarsia data tabletop")
    world, seed, side = level(told[1]), int(told[2]), int(told[3])
    split = told[4] or "test"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {target}: {error.strerror}; choose another folder") from error
    made = 0
    for path in sorted(path for path in source.glob("*.png") if truth_path(path).is_file()):
        things = Truth.load(path).objects
        files = [pairs.removed_path(target, path.name, number) for number in range(len(things))]
        if not files or (not overwrite and all(file.is_file() for file in files)):
            continue
        scene = sample_scene(100_000 * seed + int(path.stem), world, split=split)
        pictures, seen = pixels_of([scene, *(scene.without(n) for n in range(len(scene.placements)))], side)
        masks = [seen[0] == number for number in range(1, len(pictures))]
        places = [next((n for n, mask in enumerate(masks) if np.array_equal(mask, thing.mask)), -1) for thing in things]
        photo = np.rint(Picture.load(path).rgb() * 255)
        if -1 in places or np.abs(pictures[0] - photo).max() > _SAME:
            raise PictureError(f"{path} is not the scene that scenes.txt describes: render it again")
        for file, place in zip(files, places, strict=True):
            Picture.from_array(pictures[1 + place]).save(file, overwrite=True)
            made += 1
    return made


@dataclass(frozen=True)
class Removal:
    """``psnr`` in dB inside the thing's mask, against the scene without it; ``gone``: the attribute judge sees none."""

    psnr: float
    gone: bool

    @property
    def success(self) -> bool:
        """Both: the pixels are near the truth, and nothing is seen there."""
        return self.gone and self.psnr >= REMOVED_PSNR


def judge_removals(
    judges: Judges, removed: Sequence[Pixels], present: Pixels, absent: Pixels, mask: Bools
) -> list[Removal]:
    """Each of some removals of one thing, uint8 (H, W, 3), beside the true scene with and without it.

    No object is seen where the place is nearer, by cosine in the features of the attribute judge, to the true scene
    without the thing than to the one with it. The judge looks at a square around ``mask`` (H, W), the thing's own.
    """
    from intarsia.evaluation.miniature import psnr

    seen = _features(judges, [present, absent, *removed], mask)
    nearer = seen[2:] @ seen[1] > seen[2:] @ seen[0]
    return [
        Removal(psnr(picture, absent, mask), bool(gone)) for picture, gone in zip(removed, nearer.tolist(), strict=True)
    ]


def _features(judges: Judges, pictures: Sequence[Pixels], mask: Bools) -> Tensor:
    """(N, F), unit length."""
    import torch
    from torch.nn import functional

    from intarsia.evaluation.judges import crop_around

    crops = torch.stack([crop_around(as_float(picture), mask) for picture in pictures])
    with torch.no_grad():
        return functional.normalize(judges.attributes.trunk(crops), dim=1)
