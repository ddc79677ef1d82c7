"""The words and looks of the Tabletop world: classes, colours, patterns, materials, accessories, levels."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]

CLASSES: dict[str, tuple[str, ...]] = {
    "mug": ("mug", "cup"),
    "duck": ("duck", "toy duck"),
    "robot": ("robot", "toy robot"),
    "mushroom": ("mushroom", "toadstool"),
    "rocket": ("rocket", "toy rocket"),
    "teapot": ("teapot", "tea pot"),
    "vase": ("vase", "flower vase"),
    "ball": ("ball", "toy ball"),
    "car": ("car", "toy car"),
    "tree": ("tree", "toy tree"),
}
"""Class name → the words captions use for it; the first is the canonical one."""

COLOURS: dict[str, RGB] = {
    "red": (0.80, 0.06, 0.06),
    "yellow": (0.95, 0.78, 0.08),
    "green": (0.08, 0.52, 0.14),
    "blue": (0.07, 0.20, 0.80),
    "purple": (0.46, 0.10, 0.62),
    "white": (0.93, 0.92, 0.89),
    "orange": (0.95, 0.40, 0.04),
    "pink": (0.96, 0.45, 0.62),
    "black": (0.04, 0.04, 0.05),
    "brown": (0.34, 0.17, 0.08),
    "teal": (0.03, 0.55, 0.55),
}
"""Linear albedo of each named colour."""

PATTERNS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "striped": ("stripes", "bands"),
    "dotted": ("dots", "spots"),
    "checked": ("checks", "squares"),
    "zigzag": ("zigzags", "zigzag lines"),
}
"""Pattern → the nouns captions use for it; every pattern but plain has a second colour."""

EVEN_PATTERNS = ("striped", "checked", "zigzag")
"""Patterns whose two colours cover equal parts, so that either may be called the colour of the toy."""

MATERIALS: dict[str, tuple[str, ...]] = {
    "clay": ("clay", "matte"),
    "metal": ("metal", "metallic"),
    "glass": ("glass", "transparent"),
    "glossy": ("glossy", "shiny plastic"),
}
ACCESSORIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "hat": ("hat", "top hat"),
    "scarf": ("scarf",),
    "bow": ("bow", "ribbon"),
}
TABLES: dict[str, tuple[str, ...]] = {
    "plain": ("plain table", "table"),
    "wood": ("wooden table", "table"),
    "cloth": ("checked tablecloth", "table"),
    "marble": ("marble table", "table"),
}
TABLE_COLOURS: tuple[RGB, ...] = (
    (0.55, 0.36, 0.20),
    (0.70, 0.70, 0.68),
    (0.30, 0.20, 0.15),
    (0.75, 0.30, 0.25),
    (0.40, 0.50, 0.60),
    (0.45, 0.55, 0.40),
)
WALL_COLOURS: tuple[RGB, ...] = (
    (0.80, 0.78, 0.70),
    (0.55, 0.65, 0.70),
    (0.75, 0.60, 0.60),
    (0.50, 0.60, 0.50),
    (0.85, 0.85, 0.85),
    (0.62, 0.58, 0.68),
)

IDENTITY_TOKEN = "sks"
"""A token of the miniature's vocabulary that no caption gives a meaning to."""


@dataclass(frozen=True)
class Level:
    """How much of the world is in use; training and measurement name the level they ran on."""

    name: str
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    patterns: tuple[str, ...]
    materials: tuple[str, ...]
    accessories: tuple[str, ...]
    tables: tuple[str, ...]

    def values(self, kind: str) -> tuple[str, ...]:
        """The attribute values of one kind: class, colour, pattern, material or accessory."""
        return {
            "class": self.classes,
            "colour": self.colours,
            "pattern": self.patterns,
            "material": self.materials,
            "accessory": self.accessories,
        }[kind]


ATTRIBUTE_KINDS = ("class", "colour", "pattern", "material", "accessory")

LEVELS: dict[str, Level] = {
    "small": Level(
        name="small",
        classes=("mug", "duck", "robot", "mushroom", "rocket", "teapot"),
        colours=("red", "yellow", "green", "blue", "purple", "white"),
        patterns=("plain", "striped", "dotted"),
        materials=("clay", "metal", "glass"),
        accessories=("none", "hat", "scarf"),
        tables=("plain", "wood", "cloth"),
    ),
    "full": Level(
        name="full",
        classes=tuple(CLASSES),
        colours=tuple(COLOURS),
        patterns=tuple(PATTERNS),
        materials=tuple(MATERIALS),
        accessories=tuple(ACCESSORIES),
        tables=tuple(TABLES),
    ),
}
