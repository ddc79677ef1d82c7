"""Held-out insertion and removal cases of Tabletop: a scene file, a mask, the words, and the truth."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intarsia.tabletop import Level, Scene, Subject, photo_scenes, render, sample_scene, split_seed
from intarsia.training import draw_mask

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """``absent``/``present``: the whole scene (H, W, 3) without and with the subject; ``mask``: a box or bulge around
    it; ``silhouette``: where it truly stands."""

    scene: Scene
    subject: Subject
    absent: Pixels
    present: Pixels
    mask: Bools
    silhouette: Bools
    full: Bools


def pixels_of(scenes: list[Scene], side: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Rendered scenes (N, side, side, 3) and object numbers (N, side, side)."""
    rendering = render(scenes, (side, side))
    return (rendering.images.permute(0, 2, 3, 1) * 255).round().byte().numpy(), rendering.numbers.numpy()


def make_cases(
    count: int, world: Level, seed: int, side: int = 192, subjects: list[Subject] | None = None
) -> list[Case]:
    """``count`` cases with subjects and scenes of the test split; given subjects are used in order."""
    cases: list[Case] = []
    index = 0
    while len(cases) < count:
        draw = random.Random(f"case-{seed}-{index}")
        subject = (
            subjects[len(cases) % len(subjects)]
            if subjects
            else Subject.sample(split_seed("test", 5_000 * seed + index), world)
        )
        scene = sample_scene(50_000 * seed + index, world, (subject,), draw.choice((1, 2, 3)), "test")
        index += 1
        both, numbers = pixels_of([scene, scene.without(0)], side)
        silhouette = numbers[0] == 1
        if silhouette.sum() < 0.01 * side * side or _cut_off(silhouette):
            continue
        full = (np.abs(both[0].astype(int) - both[1].astype(int)) > 5).any(2) | silhouette
        mask = draw_mask(draw.choice(("box", "bulge")), silhouette, draw)
        cases.append(Case(scene, subject, both[1], both[0], mask, silhouette, full))
    return cases


def _cut_off(mask: Bools) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def photos_of(
    subject: Subject, world: Level, count: int, side: int = 128, seed: int = 0
) -> list[tuple[Pixels, Bools]]:
    """ "Photos" of a subject alone on other tables, from other sides, with their exact masks."""
    pictures, numbers = pixels_of(photo_scenes(subject, world, count, seed), side)
    return [(p, n == 1) for p, n in zip(pictures, numbers, strict=True)]
