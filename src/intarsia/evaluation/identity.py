"""What measured values belong to: the weights beside the model's own, and the settings of an edit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
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


_OF_ADDING = {
    "instruction",
    "place",
    "place_hold",
    "candidates",
    "image_guidance_scale",
    "repaint_guidance_scale",
    "repaint_strength",
    "change_threshold",
    "finish",
    "chain",
    "add_model",
    "add_model_hash",
}
"""Fields that have no part in an edit with a photo."""


def settings_hash() -> str:
    """Of the settings that edits with a photo get by default: values of single cases are of no use for others."""
    told = [
        EditRequest(verb="insert", scene="scene", box="0,0,8,8", reference=("photo",), prompt=prompt).to_json()
        for prompt in ("", "words")
    ]
    return hashlib.sha256("".join(_without(text, _OF_ADDING) for text in told).encode()).hexdigest()


def add_settings_hash() -> str:
    """Of the settings that adding gets by default."""
    told = EditRequest(verb="add", scene="scene", instruction=("add a mug",)).to_json()
    return hashlib.sha256(told.encode()).hexdigest()


def add_model_hash(name: str) -> str:
    """The hash of an instruction model. Raises BackboneError: it cannot be loaded."""
    from intarsia.backbones import load_instruct_model

    return str(load_instruct_model(name).hash)


def _without(request: str, fields: Collection[str]) -> str:
    kept = {name: value for name, value in json.loads(request).items() if name not in fields}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
