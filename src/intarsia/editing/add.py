"""Adding on an instruction: an instruction model finds place and shape, and only there the scene changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from intarsia.editing.change_mask import BoolArray
from intarsia.editing.edit import paint_mask
from intarsia.editing.environment import environment_of
from intarsia.editing.inputs import Inputs, repainted
from intarsia.editing.loras import fused_in
from intarsia.editing.paint import PaintProgress
from intarsia.editing.pictures import FloatArray, mask_sha256, seen_by_model
from intarsia.editing.propose import Proposal, propose, seen_at
from intarsia.editing.words import encode_words, words_of
from intarsia.imaging import Composite, Mask, Picture, Window, composite
from intarsia.perception import Instruction, parse_instruction, place_of
from intarsia.request import EditRequest
from intarsia.result import EditResult, Recipe, StageRecord
from intarsia.sampling import late_start, plan_stages

if TYPE_CHECKING:
    from intarsia.adapters import Lora
    from intarsia.backbones import Backbone

_PLACE_SHARE = 0.5
"""The share of the window's side that a given place fills: what is added has surroundings to stand in."""
_LEAST_WINDOW = 0.25
"""The least share of the scene's sides that is shown beside a place, however small it is."""


@dataclass
class _Steps:
    """Counts the steps of all models' work."""

    total: int
    progress: PaintProgress | None
    done: int = 0

    def advance(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def run_add(
    backbone: Backbone,
    model: Backbone,
    request: EditRequest,
    inputs: Inputs,
    progress: PaintProgress | None = None,
    loras: Sequence[Lora] = (),
) -> EditResult:
    """Add what the request's instructions say, one after the other, each seeing those before it.

    `model`, an instruction model, sees the scene (or the window around the request's place) at its own size. What
    it changed is found by `find_change`. Then `finish="repaint"` paints the thing that the instruction names there
    with `backbone`, an inpainting model, as `insert` would, but starts from the instruction model's pixels under
    the noise of `repaint_strength`, and with the request's `loras`; `finish="direct"` takes these pixels. Outside the
    result's support every byte is the scene's. `change_masks` has what each instruction proposed.

    Raises:
        InstructionError: nothing to add in the words. NothingAddedError, SceneLostError: in the picture.
        IntarsiaError: settings a model cannot use, NaN from a model.
    """
    began = time.perf_counter()
    instructions = [parse_instruction(text) for text in request.instruction]
    window, place = _window(request, inputs, model)
    words = _words(instructions, place)
    each = request.steps * request.candidates
    if request.finish == "repaint":
        each += request.steps - late_start(plan_stages(request.steps), request.repaint_strength)[0].start
    steps = _Steps(each * len(words), progress)
    size = seen_at(window, model)
    seen = window.read(seen_by_model(inputs.scene), size)
    hint = None if place is None else Mask(place).to_latent(size)
    proposals = propose(model, seen, instructions, words, request, hint, steps.advance)
    picture, support = inputs.scene, np.zeros(inputs.scene.size, bool)
    stages = [
        StageRecord(
            name="add",
            start=0,
            end=request.steps,
            window=(window.top, window.left, window.height, window.width),
            size=size,
        )
    ] * len(proposals)
    masks = []
    for instruction, proposal in zip(instructions, proposals, strict=True):
        mask = proposal.change.in_scene(window, picture.size)
        draft = _draft(picture, proposal, window, request)
        if request.finish == "repaint":
            inserted = _insertion(request, instruction, mask, proposal.seed)
            finished, painted = _repaint(backbone, inserted, Inputs(picture, mask), draft, request, steps, loras)
            stages += painted
        else:
            area = repainted(request, mask)
            finished = composite(picture, draft, area, growth=request.growth, feather=request.feather)
        picture, support = finished.picture, support | finished.support
        masks.append(mask.array)
    used = [instruction.prompt for instruction in instructions] if request.finish == "repaint" else words
    recipe = Recipe(
        request=request.replace(model_hash=backbone.hash, add_model_hash=model.hash),
        weights=backbone.hash,
        prompt_used="; ".join(used),
        removed_attributes=(),
        stages=tuple(stages),
        environment=environment_of(backbone),
    )
    return EditResult(picture, support, recipe, time.perf_counter() - began, tuple(masks))


def _window(request: EditRequest, inputs: Inputs, model: Backbone) -> tuple[Window, BoolArray | None]:
    """Which part of the scene the instruction model sees, and the place in it, if one is given."""
    if request.place is None:
        return Window.full(inputs.scene.size), None
    margin = request.local_margin
    window = Window.around(
        inputs.mask.box, inputs.scene.size, margin=margin, share=_PLACE_SHARE, minimum_fraction=_LEAST_WINDOW
    )
    return window, window.crop(inputs.mask.array)


def _words(instructions: list[Instruction], place: BoolArray | None) -> list[str]:
    """What the model is told. Where a place is given, it is the words' place as well."""
    if place is None:
        return [instruction.told for instruction in instructions]
    return [instruction.at(place_of(place)) for instruction in instructions]


def _insertion(request: EditRequest, instruction: Instruction, mask: Mask, seed: int) -> EditRequest:
    """The thing painted into the mask: a request like any other insertion's."""
    return request.replace(
        verb="insert",
        instruction=(),
        place=None,
        prompt=instruction.prompt,
        mask_sha256=mask_sha256(mask),
        seed=seed,
        guidance_scale=request.repaint_guidance_scale,
    )


def _repaint(
    backbone: Backbone,
    insertion: EditRequest,
    inputs: Inputs,
    draft: FloatArray,
    request: EditRequest,
    steps: _Steps,
    loras: Sequence[Lora],
) -> tuple[Composite, tuple[StageRecord, ...]]:
    words = words_of(insertion, None, backbone.background_prompt)
    with fused_in(backbone, insertion, None, loras):
        encoded = encode_words(backbone, words, insertion.negative_prompt, 0.0)
        return paint_mask(
            backbone,
            insertion,
            inputs,
            encoded,
            progress=lambda _done, _total: steps.advance(),
            draft=draft if request.repaint_strength < 1 else None,
            strength=request.repaint_strength,
        )


def _draft(picture: Picture, proposal: Proposal, window: Window, request: EditRequest) -> FloatArray:
    """The scene with the instruction model's pixels in it: picture + enlarged (result - source).

    What the model's size cannot hold of the picture stays where little has changed (in a shadow), and goes with the
    change: nothing of a table's grain shows through a mug.
    """
    change, view = proposal.change, seen_by_model(picture)
    part = window.crop(view)
    added = Window.resize(change.result, window.size, "bicubic")
    lost = part - Window.resize(proposal.before, window.size, "bicubic")
    kept = np.clip(1 - change.difference / (2 * request.change_threshold), 0, 1)
    part[...] = np.clip(added + Window.resize(kept, window.size, "bilinear")[..., None] * lost, 0.0, 1.0)
    return view
