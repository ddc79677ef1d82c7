"""Presets are data: preset -> the values of the fields that a request does not name.

`paper` is what was published and released: DreamMix (2024) for words and learned subjects, LAR-Gen (2024) for
references and outpainting, Paint by Inpaint (2024) for additions. `default` is what measured best here. What a verb
or a reference changes is a table of its own, laid over the preset's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Table = Mapping[str, Mapping[str, Any]]


def _table(paper: dict[str, Any], default: dict[str, Any]) -> Table:
    return MappingProxyType({"paper": MappingProxyType(paper), "default": MappingProxyType(default)})


STRENGTH_BESIDE_WORDS = 0.45
"""β of `default` where words say something as well; `paper` has LAR-Gen's shipped 0.45."""
DETAIL_MODE = "clean"
"""How `default` shows the reference's detail: noised at each step (LAR-Gen), or clean, once for the picture."""
DETAIL_GUIDED = True
"""Whether guidance amplifies that detail in `default`; in `paper` it does not."""

_COMMON: dict[str, Any] = {
    "steps": 30,
    "guidance_scale": 4.0,
    "guidance_rescale": 0.0,
    "guidance_interval": (0.0, 1.0),
    "guidance_mode": "joint",
    "scheduler": "dpmpp_2m_sde_karras",
    "lam": 0.7,
    "local_margin": 0.15,
    "remove_attributes": "auto",
    "attribute_strength": 1.0,
    "subject_strength": 1.0,
    "start": "fill",
    "mask_shape": "drawn",
    "reference_strength": 1.0,
    "reference_blocks": (1.0, 1.0, 1.0),
    "reference_interval": (0.0, 1.0),
    "reference_schedule": (1.0,),
    "reference_guidance_scale": 2.0,
    "detail_strength": 1.0,
    "detail_mode": "noised",
    "detail_guided": False,
    "rim": 0,
    "image_guidance_scale": 1.5,
    "place_hold": 0.0,
    "candidates": 1,
    "repaint_guidance_scale": 5.0,
    "repaint_strength": 1.0,
    "change_threshold": 0.12,
    "finish": "repaint",
    "chain": "restored",
}

PRESETS = _table(
    paper={
        **_COMMON,
        "local_share": None,
        "local_minimum_fraction": 0.5,
        "context_share": None,
        "growth": 0,
        "feather": 31,
        "seam_strength": 0.0,
        "keep_detail": False,
    },
    default={
        **_COMMON,
        "steps": 20,
        "guidance_scale": 3.0,
        "scheduler": "dpmpp_2m_karras",
        "lam": 1.0,
        "local_share": 0.8,
        "local_minimum_fraction": 0.0,
        "context_share": 0.42,
        "growth": 0,
        "feather": 4,
        "seam_strength": 1.0,
        "keep_detail": True,
    },
)
"""The values of every field. `default` differs from DreamMix in its windows (adaptive, so that small objects are
painted at full size), in keeping the local window's detail, and in matching colours at the seam instead of a wide
blend; its sampler, guidance and λ were chosen on the miniature (docs/sampling.md has the numbers). Both blend the
known region before and after each call of the model.
"""

_REMOVAL: dict[str, Any] = {"growth": 4, "remove_attributes": "none"}
REMOVAL = _table(paper=_REMOVAL, default={**_REMOVAL, "lam": 0.7, "guidance_scale": 2.0, "local_share": 0.6})
"""What removal changes in each preset: masks drawn tightly would leave the object's rim standing, and emptiness
needs less guidance and more of the surroundings than an object does (measured, docs/sampling.md).
"""

SUBJECT = _table(paper={}, default={"guidance_scale": 4.0, "attribute_strength": 0.5})
"""What a learned subject changes. Attributes wholly projected out (eq. 9) take much of the subject with them where the
text encoder's tokens all lie close together, and half of it obeys the words as well (measured, docs/experiments.md).
"""

_RELEASED: dict[str, Any] = {"steps": 50, "guidance_scale": 7.5, "guidance_rescale": 0.5, "scheduler": "ddim"}
REFERENCE = _table(
    paper={**_RELEASED, "lam": 1.0, "local_share": 1 / 1.3, "local_minimum_fraction": 0.0},
    default={"detail_mode": DETAIL_MODE, "detail_guided": DETAIL_GUIDED},
)
"""What a reference changes. `paper`: LAR-Gen's released sampler, and its one window of 1.3 times the mask's box."""

REFERENCE_AND_WORDS = _table(
    paper={"reference_strength": 0.45, "mask_shape": "box"},
    default={
        "reference_strength": STRENGTH_BESIDE_WORDS,
        "guidance_mode": "apart",
        "guidance_scale": 5.0,
        "reference_guidance_scale": 1.5,
    },
)
"""What changes on top where words (a prompt, a learned subject) stand beside a reference."""

_OUTPAINT: dict[str, Any] = {"lam": 1.0, "remove_attributes": "none"}
OUTPAINT = _table(
    paper={**_OUTPAINT, **_RELEASED, "rim": 5, "feather": 0},
    default={**_OUTPAINT, "guidance_scale": 2.0, "rim": 4},
)
"""What outpainting changes. `paper` repaints LAR-Gen's rim of five pixels; `default` blends over its rim."""

_ADD: dict[str, Any] = {"feather": 4, "lam": 1.0, "remove_attributes": "none"}
ADD = _table(
    paper={**_ADD, "steps": 50, "scheduler": "euler_a", "guidance_scale": 7.0, "finish": "direct", "chain": "plain"},
    default={
        **_ADD,
        "guidance_scale": 5.5,
        "image_guidance_scale": 2.0,
        "change_threshold": 0.3,
        "place_hold": 0.4,
        "candidates": 4,
        "repaint_strength": 0.8,
    },
)
"""What adding changes. `paper`: the sampler and the two guidance scales that the authors recommend, the model's own
pixels, several instructions one after the other in latent space. `default` takes the best of several proposals, holds
the scene outside a place that is said, repaints what was proposed with the inpainting model, and keeps the latents of
what an instruction has not changed; its numbers were chosen on the miniature (docs/add.md).
"""


def defaults(preset: str, verb: str, *, subject: bool, reference: bool, words: bool) -> dict[str, Any]:
    """The values of an unnamed field, by preset and by what the request is."""
    values = dict(PRESETS[preset])
    if verb == "remove":
        values |= REMOVAL[preset]
    if verb == "outpaint":
        values |= OUTPAINT[preset]
    if verb == "add":
        values |= ADD[preset]
    if subject:
        values |= SUBJECT[preset]
    if reference:
        values |= REFERENCE[preset]
        values |= REFERENCE_AND_WORDS[preset] if words else {}
    return values
