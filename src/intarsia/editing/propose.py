"""What an instruction model makes of a scene: instructions one after the other in latent space."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from intarsia.conditioning import empty_conditioning, encode_prompt
from intarsia.editing.change_mask import BoolArray, Change, find_change
from intarsia.editing.errors import NothingAddedError, SceneLostError
from intarsia.editing.paint import to_array, to_tensor
from intarsia.editing.pictures import FloatArray
from intarsia.errors import NonFiniteError
from intarsia.imaging import Mask, Window, fill_hole
from intarsia.perception import Instruction, place_box, place_of, place_region
from intarsia.request import EditRequest
from intarsia.sampling import (
    DenoiseStep,
    Guidance,
    KnownRegion,
    denoise,
    draw_noise,
    make_generators,
    make_scheduler,
    set_steps,
    start_latents,
)

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

_BESIDE = 0.25
"""How far beyond a given place things may reach, as a share of its longer side."""
_LOST = 0.8
"""Share of the picture that nothing which is added covers."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """What one instruction changed. `before` (h, w, 3): its source as decoded; `seed`: of its noise."""

    words: str
    before: FloatArray
    change: Change
    seed: int


def propose(
    model: Backbone,
    image: FloatArray,
    instructions: Sequence[Instruction],
    words: Sequence[str],
    request: EditRequest,
    place: BoolArray | None,
    step: Callable[[], None],
) -> tuple[Proposal, ...]:
    """Follow instructions in an image (h, w, 3) of the model's size; `words` are what it is told of each.

    The image is encoded once. Each result's latents, unscaled, are the source of the next instruction: every trip
    through the VAE would cost detail. With `chain="restored"` latents of what an instruction did not change go back to
    its source, so that losses do not add up either. Decoding serves the change masks and the pixels.

    Of several candidates one at the place that is named is taken, and of these the one that hides least of the scene.

    Raises:
        NothingAddedError, SceneLostError: a result that is its source, or another picture altogether.
        NonFiniteError: NaN or infinity from the model.
    """
    import torch

    made: list[Proposal] = []
    with torch.no_grad():
        moments = model.encode_moments(to_tensor(image).to(model.device))
        scaled = model.latents_from_moments(moments).float()
        source = moments.chunk(2, dim=1)[0].float()
        before = _decoded(model, scaled)
        for index, (instruction, said) in enumerate(zip(instructions, words, strict=True)):
            near = _near(place, instruction.place, before.shape[:2])
            known = _held(scaled, near, request.place_hold)
            cell = None if place is not None else _cell(instruction.place, before.shape[:2])
            tried = []
            for number in range(request.candidates):
                seed = chain_seed(request.seed, index, number)
                latents = _follow(model, source, said, request, seed, step, known)
                after = _decoded(model, latents)
                change = find_change(
                    before,
                    after,
                    threshold=request.change_threshold,
                    place=place,
                    cell=cell,
                    count=instruction.count,
                )
                fault = _fault(before, change, None if place is not None else instruction.place)
                tried.append((fault, number, Proposal(said, before, change, seed), latents, after))
            _, _, proposal, latents, after = min(tried, key=lambda one: one[:2])
            change = proposal.change
            _check(change, said, request)
            made.append(proposal)
            if index + 1 == len(words):
                break
            if request.chain == "restored":
                changed = torch.from_numpy(Mask(change.mask).to_latent((latents.shape[-2], latents.shape[-1])))
                latents = torch.where(changed.to(latents.device), latents, scaled)
                after = _decoded(model, latents)
            scaled, source, before = latents, model.source_from_latents(latents), after
    return tuple(made)


def _cell(place: str | None, size: tuple[int, ...]) -> BoolArray | None:
    """The part of the picture that the words name."""
    if place is None:
        return None
    left, top, width, height = place_box(place, (size[0], size[1]))
    return Mask.from_box((left, top, width, height), (size[0], size[1])).array


def chain_seed(seed: int, index: int, candidate: int = 0) -> int:
    """The seed of an instruction's candidate: the request's for the first, so that no two have the same noise."""
    if index == candidate == 0:
        return seed
    words = f"instruction {index} of seed {seed}" + (f", candidate {candidate}" if candidate else "")
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1


def _fault(before: FloatArray, change: Change, place: str | None) -> tuple[bool, bool, float]:
    """What speaks against a change, the worst first: that it is none; that its middle is not at the place that is
    named; how much of the scene it hides, the mean distance of the colours there to a smooth continuation of those
    around."""
    mask = change.mask
    if not mask.any() or mask.mean() > _LOST:
        return True, True, 0.0
    hidden = float(np.abs(before - fill_hole(before, mask))[mask].mean())
    return False, place is not None and place_of(mask) != place, hidden


def _near(place: BoolArray | None, named: str | None, size: tuple[int, ...]) -> BoolArray | None:
    """Where something may be added: around the place that was given, or that the words name."""
    if place is not None:
        box = Mask(place).box
        return Mask(place).grow(max(1, round(_BESIDE * max(box[2:])))).array
    return None if named is None else place_region(named, (size[0], size[1]))


def _held(scaled: Tensor, near: BoolArray | None, hold: float) -> KnownRegion | None:
    """The scene outside of it, for the first steps: they decide where things are."""
    import torch

    if near is None or hold == 0:
        return None
    cells = torch.from_numpy(Mask(near).to_latent((scaled.shape[-2], scaled.shape[-1])))
    return KnownRegion(scaled, mask=cells[None, None], until=hold)


def _follow(
    model: Backbone,
    source: Tensor,
    words: str,
    request: EditRequest,
    seed: int,
    step: Callable[[], None],
    known: KnownRegion | None,
) -> Tensor:
    """The scaled latents (1, C, h, w) of the source, with what the words say."""
    scheduler = make_scheduler(model, request.scheduler)
    generators = make_generators([seed])
    noise = draw_noise(generators, source.shape[1:], model.device)

    def advance(_step: DenoiseStep) -> None:
        step()

    negative = encode_prompt(model, request.negative_prompt) if request.negative_prompt else empty_conditioning(model)
    return denoise(
        model,
        scheduler,
        start_latents(set_steps(make_scheduler(model, request.scheduler), request.steps, 0, model.device), noise),
        image_latents=source,
        positive=encode_prompt(model, words),
        negative=negative,
        generators=generators,
        steps=request.steps,
        guidance=Guidance(
            request.guidance_scale,
            request.guidance_rescale,
            request.guidance_interval,
            request.image_guidance_scale,
        ),
        known=known,
        callback=advance,
    ).latents


def _decoded(model: Backbone, latents: Tensor) -> FloatArray:
    picture = to_array(model.decode(latents))
    if not np.isfinite(picture).all():
        raise NonFiniteError("the model painted NaN or infinity; load it in float32, or try another seed")
    return np.clip(picture, 0.0, 1.0).astype(np.float32)


def _check(change: Change, words: str, request: EditRequest) -> None:
    if not change.mask.any():
        where = "" if request.place is None else f" near {request.place}"
        raise NothingAddedError(
            f"{words!r} added nothing{where}: try another seed than {request.seed}, a higher guidance_scale than "
            f"{request.guidance_scale:g}, a lower change_threshold than {request.change_threshold:g}, or "
            + ("a place x,y,w,h" if request.place is None else "another place")
        )
    if change.mask.mean() > _LOST:
        raise SceneLostError(
            f"{words!r} changed {change.mask.mean():.0%} of the picture instead of adding to it: try another seed than "
            f"{request.seed}, or a higher image_guidance_scale than {request.image_guidance_scale:g}"
        )


def seen_at(window: Window, model: Backbone) -> tuple[int, int]:
    """(height, width) at which the model sees a window: its native area, the window's aspect."""
    return window.native_size(model.native_size, model.size_multiple)
