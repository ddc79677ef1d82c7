"""One edit from request to result: the only place where all rooms meet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from intarsia.editing.environment import environment_of
from intarsia.editing.errors import EditingError
from intarsia.editing.inputs import Inputs, repainted
from intarsia.editing.loras import fused_in
from intarsia.editing.outpaint import paint_frame
from intarsia.editing.paint import PaintOptions, PaintProgress, paint, seam_ring
from intarsia.editing.pictures import FloatArray, seen_by_model
from intarsia.editing.reference_models import reference_in
from intarsia.editing.words import encode_words, words_of
from intarsia.imaging import Composite, composite, match_seam
from intarsia.request import EditRequest
from intarsia.result import EditResult, Recipe, StageRecord

if TYPE_CHECKING:
    from intarsia.adapters import Lora, ReferenceAdapters
    from intarsia.backbones import Backbone
    from intarsia.conditioning import Conditioning, ScheduledConditioning
    from intarsia.learning import Subject

Words = tuple["Conditioning | ScheduledConditioning", "Conditioning | None"]


def run_edit(
    backbone: Backbone,
    request: EditRequest,
    inputs: Inputs,
    subject: Subject | None = None,
    adapters: ReferenceAdapters | None = None,
    progress: PaintProgress | None = None,
    loras: Sequence[Lora] = (),
) -> EditResult:
    """Paint, match colours at the seam, composite. The backbone comes back unchanged, also after an error.

    What the request does not have (words, a subject, references) the model does not see at all; references need
    their `adapters`, and the request's LoRA files their `loras`, in order.

    Raises:
        IntarsiaError: a subject of another base, settings the model cannot use, NaN from the model.
    """
    began = time.perf_counter()
    if inputs.references and adapters is None:
        raise EditingError("the edit has a reference but no adapters that could show it: give them as well")
    if len(loras) != len(request.lora):
        raise EditingError(f"the edit has {len(request.lora)} LoRAs but {len(loras)} were given: give each")
    if subject is not None:
        subject.require_base(backbone)
    words = words_of(request, subject, backbone.background_prompt)
    with fused_in(backbone, request, subject, loras):
        encoded = encode_words(backbone, words, request.negative_prompt, request.attribute_strength)
        if request.verb == "outpaint":
            finished, stages = paint_frame(backbone, request, inputs.scene, encoded, progress)
        else:
            finished, stages = paint_mask(backbone, request, inputs, encoded, adapters, progress)
    recipe = Recipe(
        request=request.replace(
            model_hash=backbone.hash, reference_hash=adapters.hash if inputs.references and adapters else None
        ),
        weights=backbone.hash,
        prompt_used=words.prompt,
        removed_attributes=words.removed,
        stages=stages,
        environment=environment_of(backbone),
    )
    return EditResult(finished.picture, finished.support, recipe, time.perf_counter() - began)


def paint_mask(
    backbone: Backbone,
    request: EditRequest,
    inputs: Inputs,
    encoded: Words,
    adapters: ReferenceAdapters | None = None,
    progress: PaintProgress | None = None,
    draft: FloatArray | None = None,
    strength: float = 1.0,
) -> tuple[Composite, tuple[StageRecord, ...]]:
    """An insertion or a removal, and the windows that were painted in; `draft` and `strength` as in `paint`."""
    mask = repainted(request, inputs.mask).grow(request.growth)
    view = seen_by_model(inputs.scene)
    with reference_in(backbone, adapters, inputs.references, request) as reference:
        painted = paint(
            backbone,
            view,
            mask.array,
            positive=encoded[0],
            negative=encoded[1],
            options=PaintOptions.of(request),
            seed=request.seed,
            reference=reference,
            draft=draft,
            strength=strength,
            progress=progress,
        )
    ring = seam_ring(painted.stages, request.feather, backbone.latent_factor)
    matched = match_seam(painted.rgb, view, mask, ring=ring, strength=request.seam_strength)
    return composite(inputs.scene, matched, mask, growth=0, feather=request.feather), painted.stages
