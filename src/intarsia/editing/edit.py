"""One edit from request to result: the only place where all rooms meet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from intarsia.editing.environment import environment_of
from intarsia.editing.inputs import Inputs
from intarsia.editing.paint import PaintOptions, PaintProgress, paint, seam_ring
from intarsia.editing.words import encode_words, words_of
from intarsia.imaging import Picture, composite, match_seam
from intarsia.request import EditRequest
from intarsia.result import EditResult, Recipe

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.editing.detail import FloatArray
    from intarsia.learning import Subject


def run_edit(
    backbone: Backbone,
    request: EditRequest,
    inputs: Inputs,
    subject: Subject | None = None,
    progress: PaintProgress | None = None,
) -> EditResult:
    """Paint, match colours at the seam, composite. The backbone comes back unchanged, also after an error.

    Raises:
        IntarsiaError: a subject of another base, settings the model cannot use, NaN from the model.
    """
    began = time.perf_counter()
    if subject is not None:
        subject.require_base(backbone)
    words = words_of(request, subject, backbone.background_prompt)
    positive, negative = encode_words(backbone, words, request.negative_prompt, request.attribute_strength)
    mask = inputs.mask.grow(request.growth)
    view = seen_by_model(inputs.scene)
    with subject_in(backbone, subject, request.subject_strength):
        painted = paint(
            backbone,
            view,
            mask.array,
            positive=positive,
            negative=negative,
            options=PaintOptions.of(request),
            seed=request.seed,
            progress=progress,
        )
    ring = seam_ring(painted.stages, request.feather, backbone.latent_factor)
    matched = match_seam(painted.rgb, view, mask, ring=ring, strength=request.seam_strength)
    finished = composite(inputs.scene, matched, mask, growth=0, feather=request.feather)
    recipe = Recipe(
        request=request.replace(model_hash=backbone.hash),
        weights=backbone.hash,
        prompt_used=words.prompt,
        removed_attributes=words.removed,
        stages=painted.stages,
        environment=environment_of(backbone),
    )
    return EditResult(finished.picture, finished.support, recipe, time.perf_counter() - began)


def seen_by_model(scene: Picture) -> FloatArray:
    """The scene's colours (H, W, 3); transparent pixels are laid on white, as what they hide is void."""
    rgb = scene.rgb()
    if not scene.has_alpha:
        return rgb
    alpha = scene.alpha()[..., None]
    return (rgb * alpha + (1 - alpha)).astype(np.float32)


@contextmanager
def subject_in(backbone: Backbone, subject: Subject | None, strength: float) -> Iterator[None]:
    """The subject's LoRA in the U-Net for the duration, ejected whatever happens; strength 0: nothing."""
    if subject is None or strength == 0:
        yield
        return
    lora = subject.adapter()
    lora.scale = strength
    with lora.inject(backbone.unet):
        yield
