"""The quadruplet engine of LAR-Gen: photos in, (scene, mask, subject, local caption) out. See docs/quadruplets.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.engines.quadruplets.engine import (
        Quadruplet,
        quadruplet_steps,
        quadruplet_thresholds,
        read_quadruplets,
        recut_quadruplets,
        run_quadruplets,
    )
    from intarsia.engines.quadruplets.reading import list_photos
    from intarsia.engines.quadruplets.tagging import Blacklist

_LAZY = {
    "Blacklist": "tagging",
    "Quadruplet": "engine",
    "list_photos": "reading",
    "quadruplet_steps": "engine",
    "quadruplet_thresholds": "engine",
    "read_quadruplets": "engine",
    "recut_quadruplets": "engine",
    "run_quadruplets": "engine",
}

__all__ = [
    "Blacklist",
    "Quadruplet",
    "list_photos",
    "quadruplet_steps",
    "quadruplet_thresholds",
    "read_quadruplets",
    "recut_quadruplets",
    "run_quadruplets",
]

__getattr__ = lazy_names(__name__, _LAZY)
