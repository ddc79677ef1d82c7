"""The benchmark of Tabletop: held-out subjects in held-out scenes, in three sizes, with the truth of every row."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import (
    SIZE_CLASSES,
    BenchSubject,
    MaskShape,
    Row,
    Shot,
    SizeClass,
    Task,
    Truth,
    file_sha256,
    size_class,
    write_benchmark,
)
from intarsia.evaluation.cases import Bools, Pixels, photos_of, pixels_of
from intarsia.evaluation.edits import Edit, edits_of
from intarsia.imaging import Picture
from intarsia.tabletop import Level, Scene, Subject, level, object_frame, sample_scene, split_seed
from intarsia.training import draw_mask

PHOTOS = 5
_SIDES: dict[SizeClass, tuple[float, float]] = {"small": (0.09, 0.122), "medium": (0.145, 0.235), "large": (0.27, 0.46)}
"""Drawn shares of the scene's side that the subject's longer side has; a box mask has up to 1.5 times that."""
_SHAPES: tuple[MaskShape, ...] = ("box", "silhouette")
_TEMPLATES = ("a photo of a {}", "a picture of a {}", "a photo of one {}")
_LEAST_PIXELS = 60
_TRIES = 400


@dataclass(frozen=True)
class _Wanted:
    """A row to be: everything but its pictures."""

    id: str
    subject: str
    task: Task
    size: SizeClass
    shape: MaskShape
    prompt: str
    edit: Edit | None


def build_tabletop(
    folder: Path,
    *,
    subjects: int = 30,
    per_subject: int = 20,
    seed: int = 1,
    side: int = 192,
    overwrite: bool = False,
    world: str = "small",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render `subjects` times `per_subject` rows into a folder: half identity, half editing, subject by subject.

    Sizes (the mask's box under 1/8, 1/4, 1/2 of the scene's side) and shapes (boxes with up to a quarter to spare on
    each side, silhouettes) are balanced; edits are of colour, material and accessory in turn. Everything is drawn from
    the seed, so the same call writes the same bytes. Subjects and scenes are of the test split.

    Raises:
        BenchError: the folder holds a benchmark already and `overwrite` is false, or numbers out of range.
    """
    _check(folder, subjects, per_subject, side, overwrite)
    known = level(world)
    seeds = {f"s{number:02d}": split_seed("test", 200_000 * seed + number) for number in range(subjects)}
    for name in ("scenes", "masks", "truth", "subjects"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    people = {key: Subject.sample(value, known) for key, value in seeds.items()}
    described = {key: _write_subject(folder, key, person, known) for key, person in people.items()}
    rows: list[Row] = []
    for number, (key, person) in enumerate(people.items()):
        for wanted in _wanted(key, person, known, number, per_subject, seed):
            rows.append(_write_row(folder, wanted, person, known, seed, side))
            if progress is not None:
                progress(len(rows), subjects * per_subject)
    settings = {
        "seed": seed,
        "subjects": subjects,
        "per_subject": per_subject,
        "level": world,
        "side": side,
        "subject_seeds": seeds,
        "photos": PHOTOS,
        "size_classes": dict(SIZE_CLASSES),
    }
    write_benchmark(folder, "tabletop", rows, described, settings)


def _check(folder: Path, subjects: int, per_subject: int, side: int, overwrite: bool) -> None:
    for name, value, least in (("subjects", subjects, 1), ("rows per subject", per_subject, 1), ("side", side, 160)):
        if value < least:
            raise BenchError(f"{value} {name} cannot be used: give {least} or more")
    if (folder / "benchmark.json").exists() and not overwrite:
        raise BenchError(f"{folder} holds a benchmark already; choose another folder or ask to overwrite it")
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder; choose another name")


def _wanted(key: str, subject: Subject, world: Level, number: int, count: int, seed: int) -> list[_Wanted]:
    draw = random.Random(f"bench-{seed}-{key}")
    sizes = list(_SIDES)
    rows: list[_Wanted] = []
    edits: list[Edit] = []
    for index in range(count):
        task: Task = "identity" if index % 2 == 0 else "editing"
        # Another start for each subject, and sizes that drift against the kinds of edit, so that a few subjects are
        # balanced together.
        turn = index // 2 + index // 6 + number
        size, shape = sizes[turn % 3], _SHAPES[turn // 3 % 2]
        if task == "identity":
            prompt, edit = draw.choice(_TEMPLATES).format(subject.name), None
        else:
            edits = edits or edits_of(subject, world, draw)
            edit = edits.pop(0)
            prompt = edit.prompt
        rows.append(_Wanted(f"{key}-{index:02d}", key, task, size, shape, prompt, edit))
    return rows


def _write_subject(folder: Path, key: str, subject: Subject, world: Level) -> BenchSubject:
    home = Path("subjects") / key
    (folder / home).mkdir(exist_ok=True)
    shots = []
    for index, (pixels, mask) in enumerate(photos_of([subject], world, PHOTOS)[0]):
        image, cut = (home / f"{index}.png").as_posix(), (home / f"{index}-mask.png").as_posix()
        shots.append(Shot(image, _save(folder, image, pixels), cut, _save(folder, cut, _as_picture(mask))))
    return BenchSubject(subject.name, tuple(shots), subject.attributes)


def _write_row(folder: Path, wanted: _Wanted, subject: Subject, world: Level, seed: int, side: int) -> Row:
    draw = random.Random(f"bench-{seed}-{wanted.id}")
    shown = subject if wanted.edit is None else wanted.edit.apply(subject)
    for _ in range(_TRIES):
        scene = _placed(draw, shown, world, wanted.size)
        if scene is None:
            continue
        pixels, numbers = pixels_of([scene, scene.without(0)], side)
        silhouette = numbers[0] == 1
        mask = draw_mask("box", silhouette, draw) if wanted.shape == "box" and silhouette.any() else silhouette
        if _fits(mask, silhouette, wanted.size):
            break
    else:
        raise BenchError(f"no scene was found for row {wanted.id} ({wanted.size}); build with another seed or side")
    names = {kind: f"{kind}/{wanted.id}.png" for kind in ("scenes", "masks", "truth")}
    digests = {
        "scenes": _save(folder, names["scenes"], pixels[1]),
        "masks": _save(folder, names["masks"], _as_picture(mask)),
        "truth": _save(folder, names["truth"], pixels[0]),
    }
    changes = {} if wanted.edit is None else dict(wanted.edit.changes)
    return Row(
        id=wanted.id,
        task=wanted.task,
        scene=names["scenes"],
        scene_sha256=digests["scenes"],
        mask=names["masks"],
        mask_sha256=digests["masks"],
        subject=wanted.subject,
        class_noun=subject.name,
        prompt=wanted.prompt,
        seed=draw.randrange(2**31),
        size=wanted.size,
        shape=wanted.shape,
        edit=None if wanted.edit is None else wanted.edit.kind,
        truth=Truth(names["truth"], digests["truth"], shown.attributes, changes),
    )


def _placed(draw: random.Random, subject: Subject, world: Level, size: SizeClass) -> Scene | None:
    """A drawn scene in which the subject, first of the placements, has about a drawn size; None where it does not fit
    between the others."""
    scene = sample_scene(draw.randrange(2**31), world, (subject,), draw.choice((1, 2, 3)), "test")
    wanted = draw.uniform(*_SIDES[size])
    place = scene.placements[0]
    for _ in range(4):
        left, top, right, bottom = object_frame(replace(scene, placements=(place,)), 0)
        place = replace(place, scale=place.scale * wanted / max(right - left, bottom - top))
    others = scene.placements[1:]
    scene = replace(scene, placements=(place, *others))
    if any(math.hypot(place.x - o.x, (place.z - o.z) * 0.8) <= 0.6 * (place.scale + o.scale) for o in others):
        return None
    return None if any(_hides(scene, number) for number in range(1, len(others) + 1)) else scene


def _hides(scene: Scene, other: int) -> bool:
    """Whether another thing stands before the first one, by their boxes in the picture."""
    a, b = object_frame(scene, 0), object_frame(scene, other)
    apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    return not apart and scene.placements[other].z > scene.placements[0].z


def _fits(mask: Bools, silhouette: Bools, size: SizeClass) -> bool:
    """Seen, whole, and of its size class."""
    if silhouette.sum() < _LEAST_PIXELS or mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return False
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    longer = max(int(ys[-1] - ys[0]), int(xs[-1] - xs[0])) + 1
    return size_class(longer / len(mask)) == size


def _as_picture(mask: Bools) -> Pixels:
    return np.repeat((mask * np.uint8(255))[..., None], 3, axis=2)


def _save(folder: Path, name: str, pixels: Pixels) -> str:
    Picture.from_array(np.ascontiguousarray(pixels)).save(folder / name, overwrite=True)
    return file_sha256(folder / name)
