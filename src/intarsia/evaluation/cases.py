"""Held-out insertion and removal cases of Tabletop: a scene file, a mask, the words, and the truth."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from intarsia.tabletop import Level, Scene, Subject, photo_scenes, render, sample_scene, split_seed
from intarsia.training import draw_mask

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def as_float(pixels: Pixels) -> npt.NDArray[np.float32]:
    """uint8 (H, W, 3) → float32 in [0, 1]."""
    return (pixels / np.float32(255)).astype(np.float32)


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


_CHUNK = 24


def make_cases(
    count: int, world: Level, seed: int, side: int = 192, subjects: list[Subject] | None = None
) -> list[Case]:
    """``count`` cases with subjects and scenes of the test split; given subjects are used in order.

    Scenes in which the subject is hidden, tiny or cut off by the frame are passed over.
    """
    cases: list[Case] = []
    index = 0
    while len(cases) < count:
        scenes, draws = [], []
        for _ in range(min(_CHUNK, count - len(cases))):
            draw = random.Random(f"case-{seed}-{index}")
            subject = (
                subjects[len(cases) % len(subjects)]
                if subjects
                else Subject.sample(split_seed("test", 5_000 * seed + index), world)
            )
            others = draw.choice((1, 2, 3))
            scenes.append(sample_scene(50_000 * seed + index, world, (subject,), others, "test"))
            draws.append(draw)
            index += 1
            if subjects:
                break
        pixels, numbers = pixels_of([*scenes, *(s.without(0) for s in scenes)], side)
        for n, (scene, draw) in enumerate(zip(scenes, draws, strict=True)):
            present, absent, silhouette = pixels[n], pixels[len(scenes) + n], numbers[n] == 1
            if silhouette.sum() < 0.01 * side * side or _cut_off(silhouette):
                continue
            full = (np.abs(present.astype(int) - absent.astype(int)) > 5).any(2) | silhouette
            mask = draw_mask(draw.choice(("box", "bulge")), silhouette, draw)
            cases.append(Case(scene, scene.placements[0].subject, absent, present, mask, silhouette, full))
    return cases


def _cut_off(mask: Bools) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def photos_of(
    subjects: Sequence[Subject], world: Level, count: int, side: int = 128, seed: int = 0
) -> list[list[tuple[Pixels, Bools]]]:
    """ "Photos" of each subject alone on other tables, from other sides, with their exact masks."""
    scenes = [scene for subject in subjects for scene in photo_scenes(subject, world, count, seed)]
    shots: list[tuple[Pixels, Bools]] = []
    for start in range(0, len(scenes), 2 * _CHUNK):
        pixels, numbers = pixels_of(scenes[start : start + 2 * _CHUNK], side)
        shots += [(p, n == 1) for p, n in zip(pixels, numbers, strict=True)]
    return [shots[i : i + count] for i in range(0, len(shots), count)]
