"""Tabletop: a small procedural world in which everything about a picture is known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.lazy import lazy_names
from intarsia.tabletop.captions import (
    background_caption,
    brief_caption,
    caption,
    colour_is_right,
    paraphrase,
    vocabulary_words,
)
from intarsia.tabletop.content import (
    Camera,
    Placement,
    Scene,
    Subject,
    level,
    photo_scenes,
    sample_scene,
    split_of,
    split_seed,
)
from intarsia.tabletop.vocabulary import (
    ACCESSORIES,
    ATTRIBUTE_KINDS,
    COLOURS,
    IDENTITY_TOKEN,
    LEVELS,
    MATERIALS,
    PATTERNS,
    Level,
)

if TYPE_CHECKING:
    from intarsia.tabletop.packing import FULL, Rectangle
    from intarsia.tabletop.renderer import Rendering, render
    from intarsia.tabletop.views import object_frame, zoom_window

# What needs torch is loaded when first asked for, so that the world's words and data stay quick to import.
_LAZY = {
    "FULL": "packing",
    "Rectangle": "packing",
    "Rendering": "renderer",
    "object_frame": "views",
    "render": "renderer",
    "zoom_window": "views",
}

__all__ = [
    "ACCESSORIES",
    "ATTRIBUTE_KINDS",
    "COLOURS",
    "FULL",
    "IDENTITY_TOKEN",
    "LEVELS",
    "MATERIALS",
    "PATTERNS",
    "Camera",
    "Level",
    "Placement",
    "Rectangle",
    "Rendering",
    "Scene",
    "Subject",
    "background_caption",
    "brief_caption",
    "caption",
    "colour_is_right",
    "level",
    "object_frame",
    "paraphrase",
    "photo_scenes",
    "render",
    "sample_scene",
    "split_of",
    "split_seed",
    "vocabulary_words",
    "zoom_window",
]

__getattr__ = lazy_names(__name__, _LAZY)
