"""What is in a picture, as plain data: subjects, placements, scenes; all drawn from seeds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

from intarsia.errors import IntarsiaError
from intarsia.tabletop.vocabulary import COLOURS, LEVELS, RGB, TABLE_COLOURS, WALL_COLOURS, Level

SPLITS = ("train", "validation", "test")


class UnknownLevelError(IntarsiaError):
    """A level name that the world does not have."""


def level(name: str) -> Level:
    """The level called ``name``; raises :class:`UnknownLevelError`, listing those there are."""
    if name not in LEVELS:
        raise UnknownLevelError(f"unknown Tabletop level {name!r}; choose one of: {', '.join(LEVELS)}")
    return LEVELS[name]


def split_of(seed: int) -> str:
    """Train, validation or test, decided by the subject's seed alone: 8 of 10 train, 1 and 1 the others."""
    return {8: "validation", 9: "test"}.get(seed % 10, "train")


def split_seed(split: str, index: int) -> int:
    """The ``index``-th subject seed of a split (the inverse of :func:`split_of`)."""
    if split not in SPLITS:
        raise IntarsiaError(f"unknown split {split!r}; choose one of: {', '.join(SPLITS)}")
    if split == "train":
        return index // 8 * 10 + index % 8
    return index * 10 + (8 if split == "validation" else 9)


@dataclass(frozen=True)
class Subject:
    """One toy. The words name class to accessory; everything in ``marks`` has no words and makes its identity."""

    seed: int
    name: str
    colour: str
    material: str
    pattern: str = "plain"
    second_colour: str = "white"
    accessory: str = "none"
    accessory_colour: str = "red"
    proportions: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    frequency: float = 1.0
    phase: float = 0.0
    marks: tuple[tuple[float, float, float], ...] = ()
    mark_colour: RGB = (0.05, 0.05, 0.06)

    @property
    def attributes(self) -> dict[str, str]:
        """The named attributes that a picture of it shows."""
        named = {
            "class": self.name,
            "colour": self.colour,
            "material": self.material,
            "pattern": self.pattern,
        }
        if self.pattern != "plain":
            named["second_colour"] = self.second_colour
        named["accessory"] = self.accessory
        if self.accessory != "none":
            named["accessory_colour"] = self.accessory_colour
        return named

    @staticmethod
    def sample(seed: int, world: Level) -> Subject:
        """The subject of a seed: the same at every call, different attributes and marks for different seeds."""
        draw = random.Random(f"subject-{seed}")
        name, colour = draw.choice(world.classes), draw.choice(world.colours)
        pattern = draw.choice(world.patterns)
        second = draw.choice([c for c in world.colours if c != colour])
        accessory = draw.choice(world.accessories)
        worn = draw.choice([c for c in world.colours if c not in (colour, second)])
        mark = draw.choice([c for c in COLOURS if c not in (colour, second)])
        count = draw.choice((1, 2, 2))
        marks = tuple(
            (draw.uniform(-math.pi, math.pi), draw.uniform(0.25, 0.75), draw.uniform(0.08, 0.14))
            for _ in range(count)
        )
        return Subject(
            seed, name, colour, draw.choice(world.materials), pattern, second, accessory, worn,
            (draw.uniform(-1, 1), draw.uniform(-1, 1), draw.uniform(-1, 1), draw.uniform(-1, 1)),
            draw.uniform(0.85, 1.2), draw.uniform(0, 2 * math.pi), marks, COLOURS[mark],
        )  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """A subject standing on the table: x, z in table units, yaw in radians, scale 1 = one unit high."""

    subject: Subject
    x: float
    z: float
    yaw: float
    scale: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking at ``target``; ``focal`` is in half picture heights."""

    position: tuple[float, float, float] = (0.0, 1.4, 3.6)
    target: tuple[float, float, float] = (0.0, 0.4, 0.0)
    focal: float = 2.6


@dataclass(frozen=True)
class Scene:
    """Everything that a picture is rendered from."""

    placements: tuple[Placement, ...] = ()
    camera: Camera = field(default_factory=Camera)
    table: str = "wood"
    table_colour: RGB = TABLE_COLOURS[0]
    wall_colour: RGB = WALL_COLOURS[0]
    light: tuple[float, float, float] = (-0.5, 1.0, 0.5)
    ambient: float = 1.0
    seed: int = 0

    def without(self, index: int) -> Scene:
        """The same scene with one object taken away: the ground truth of removal."""
        if not 0 <= index < len(self.placements):
            raise IntarsiaError(f"the scene has {len(self.placements)} objects, there is no object {index}")
        return replace(self, placements=self.placements[:index] + self.placements[index + 1 :])

    def with_subject(self, index: int, subject: Subject) -> Scene:
        """The same scene with the subject of one placement exchanged."""
        changed = replace(self.placements[index], subject=subject)
        return replace(self, placements=(*self.placements[:index], changed, *self.placements[index + 1 :]))


def _stage(draw: random.Random, world: Level, seed: int) -> Scene:
    camera = Camera(
        (draw.uniform(-0.8, 0.8), draw.uniform(1.1, 1.8), draw.uniform(3.3, 3.9)),
        (draw.uniform(-0.1, 0.1), draw.uniform(0.32, 0.45), 0.0),
        draw.uniform(2.3, 2.9),
    )
    jitter = draw.uniform(0.85, 1.1)
    r, g, b = draw.choice(TABLE_COLOURS)
    return Scene(
        (),
        camera,
        draw.choice(world.tables),
        (r * jitter, g * jitter, b * jitter),
        draw.choice(WALL_COLOURS),
        (draw.uniform(-0.8, 0.8), 1.0, draw.uniform(0.2, 0.9)),
        draw.uniform(0.9, 1.1),
        seed,
    )


def sample_scene(
    seed: int,
    world: Level,
    subjects: tuple[Subject, ...] = (),
    objects: int | None = None,
    split: str = "train",
) -> Scene:
    """A scene of one seed: given subjects first, then drawn ones of the split until there are ``objects`` (1-3)."""
    draw = random.Random(f"scene-{split}-{seed}")
    scene = _stage(draw, world, seed)
    wanted = max(len(subjects), draw.choice((1, 2, 3, 3)) if objects is None else objects)
    places: list[tuple[float, float, float]] = []
    for _ in range(200):
        if len(places) == wanted:
            break
        x, z, scale = draw.uniform(-1.0, 1.0), draw.uniform(-0.8, 0.6), draw.uniform(0.55, 0.85)
        if abs(x) < 1.0 - 0.35 * max(z, 0) and all(
            math.hypot(x - px, (z - pz) * 0.8) > 0.62 * (scale + ps) for px, pz, ps in places
        ):
            places.append((x, z, scale))
    chosen = list(subjects)
    while len(chosen) < len(places):
        chosen.append(Subject.sample(split_seed(split, draw.randrange(2_000_000)), world))
    return replace(
        scene,
        placements=tuple(
            Placement(
                s,
                x,
                z,
                draw.uniform(-math.pi, math.pi) if s.name == "ball" else draw.uniform(-1.1, 1.1),
                size,
            )
            for s, (x, z, size) in zip(chosen, places, strict=False)
        ),
    )


def photo_scenes(subject: Subject, world: Level, count: int, seed: int = 0) -> list[Scene]:
    """Scenes of one subject alone, seen from other sides and in other places: what a user's photos would show."""
    scenes = []
    for index in range(count):
        draw = random.Random(f"photo-{subject.seed}-{seed}-{index}")
        stage = _stage(draw, world, seed)
        yaw = (index + draw.uniform(0.1, 0.9)) / count * 2.2 - 1.1
        place = Placement(
            subject, draw.uniform(-0.3, 0.3), draw.uniform(-0.3, 0.5), yaw, draw.uniform(0.75, 0.9)
        )
        # Whoever photographs one thing steps up to it: the camera looks at the toy through a longer lens.
        target = (place.x + draw.uniform(-0.08, 0.08), 0.55 * place.scale, place.z)
        camera = replace(stage.camera, target=target, focal=draw.uniform(3.4, 4.4))
        scenes.append(replace(stage, placements=(place,), camera=camera))
    return scenes
