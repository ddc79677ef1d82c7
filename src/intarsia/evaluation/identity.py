"""What measured values of references belong to: the weights that show them, and the settings of an edit."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from intarsia.editing import Studio
from intarsia.imaging import Picture
from intarsia.request import EditRequest


def adapters_hash(studio: Studio, **options: Any) -> str:
    """The hash of the weights that show references, by the recipe of a tiny edit.

    Raises:
        ReferenceModelError: the model has none.
    """
    grey = np.full((32, 32, 3), 128, np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    picture = Picture.from_array(grey)
    result = studio.insert(picture, mask=mask, reference=picture, reference_mask=mask, steps=1, **options)
    return str(result.recipe.request.reference_hash)


def settings_hash() -> str:
    """Of the settings that edits with a photo get by default: values of single cases are of no use for others."""
    told = [
        EditRequest(verb="insert", scene="scene", box="0,0,8,8", reference=("photo",), prompt=prompt).to_json()
        for prompt in ("", "words")
    ]
    return hashlib.sha256("".join(told).encode()).hexdigest()
