"""The files of a request, loaded and checked. Nothing here needs torch, so faults show before a model is
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from intarsia.adapters import max_references_of
from intarsia.backbones import find_model
from intarsia.editing.errors import EditingError, InputChangedError
from intarsia.editing.instruct_models import find_add_model
from intarsia.editing.loras import with_lora_hashes
from intarsia.editing.pictures import find, load_mask, load_scene, mask_sha256
from intarsia.editing.reference_models import check_count, reference_model_of
from intarsia.editing.references import Reference, check_hashes, load_references
from intarsia.editing.subjects import check_subject_file
from intarsia.imaging import Margins, Mask, Picture, frame_around
from intarsia.perception import parse_instruction
from intarsia.request import EditRequest
from intarsia.sampling import SCHEDULERS, SchedulerError


@dataclass(frozen=True, eq=False)
class Inputs:
    """The scene, what is repainted of it (for outpainting: of its canvas; for adding: the place, or all), and the
    references."""

    scene: Picture
    mask: Mask
    references: tuple[Reference, ...] = ()


def load_inputs(request: EditRequest, folder: Path | None = None) -> tuple[EditRequest, Inputs]:
    """Load what a request names; the request comes back with the hashes filled in.

    Paths that do not exist as they are given are looked for in `folder`.

    Raises:
        PictureError, MaskError: a file that cannot be used. InputChangedError: not what the request's hash
        says. EditingError: a picture that was given from memory and is not here.
    """
    if request.scene is None:
        raise EditingError("the scene was given from memory, so it is not known here; give it again")
    scene = load_scene(find(request.scene, folder))
    if request.verb == "outpaint":
        mask = frame_of(request, scene)
    elif request.verb == "add":
        mask = place_in(request, scene)
    elif request.box is not None:
        mask = Mask.from_box(request.box, scene.size).validate()
    elif request.mask is not None:
        mask = load_mask(find(request.mask, folder), scene, request.mask_from)
    else:
        raise EditingError("the mask was given from memory, so it is not known here; give it again")
    if request.reference_sha256 and not request.reference:
        raise EditingError("the reference was given from memory, so it is not known here; save it and give its path")
    masks = [None if path is None else find(path, folder) for path in request.reference_mask]
    references = load_references([find(path, folder) for path in request.reference], masks, scene)
    inputs = Inputs(scene, mask, references)
    return with_hashes(request, inputs), inputs


def preflight(request: EditRequest, folder: Path | None = None) -> EditRequest:
    """All that can be checked before a model is loaded: scene, mask, references, subject and LoRA files, instructions,
    the names of models and scheduler, and that there are weights for references.

    The request comes back with its hashes. `folder`: see `load_inputs`.

    Raises:
        IntarsiaError: the first fault found.
    """
    request, inputs = load_inputs(request, folder)
    if request.verb == "add":
        check_instructions(request)
    else:
        repainted(request, inputs.mask)
    if request.subject is not None:
        check_subject_file(find(request.subject, folder))
    request = with_lora_hashes(request, folder)
    if request.scheduler not in SCHEDULERS and not request.scheduler.endswith("Scheduler"):
        raise SchedulerError(
            f"unknown scheduler {request.scheduler!r}: use one of {', '.join(sorted(SCHEDULERS))}, "
            "or the class name of a diffusers scheduler"
        )
    name, model_folder = find_model(request.model, beside=folder)
    if request.verb == "add":
        find_model(find_add_model(request.add_model, folder))
    if inputs.references:
        path = reference_model_of(request.reference_model, name, model_folder, folder)
        check_count(len(inputs.references), max_references_of(path))
    return request


def check_instructions(request: EditRequest) -> None:
    """That all instructions say what to add, before a model is loaded. Raises InstructionError."""
    for text in request.instruction:
        parse_instruction(text)


def margins_of(request: EditRequest, size: tuple[int, int]) -> Margins:
    """By how much an outpainting grows a scene of `size` (height, width)."""
    if request.ratio is not None:
        return Margins.of_ratio(size, request.ratio, request.anchor)
    return Margins(request.left, request.right, request.top, request.bottom)


def frame_of(request: EditRequest, scene: Picture) -> Mask:
    """What an outpainting adds: all of the canvas outside the scene.

    Raises:
        KnobError, TooLargeError: nothing to grow, too much, or a rim that leaves nothing of the scene.
    """
    margins = margins_of(request, scene.size).check(scene.size)
    margins.kept(scene.size, request.rim)
    return frame_around(margins.canvas(scene.size), margins.place(scene.size))


def place_in(request: EditRequest, scene: Picture) -> Mask:
    """Where an addition may stand: the request's place, or all of the scene."""
    if request.place is None:
        return Mask(np.ones(scene.size, bool))
    return Mask.from_box(request.place, scene.size).validate(allow_full=True)


def repainted(request: EditRequest, mask: Mask) -> Mask:
    """The mask as drawn, or (`mask_shape="box"`) the whole of its bounding box; `FullMaskError` if that is all."""
    return mask.rectangle().validate() if request.mask_shape == "box" else mask


def with_hashes(request: EditRequest, inputs: Inputs) -> EditRequest:
    """The request with the hashes of scene, mask and references; `InputChangedError` where it had others."""
    found = {"scene_sha256": inputs.scene.sha256}
    if request.verb in ("insert", "remove"):
        found["mask_sha256"] = mask_sha256(inputs.mask)
    for name, value in found.items():
        wanted = getattr(request, name)
        if wanted is not None and wanted != value:
            which = name.removesuffix("_sha256")
            path = getattr(request, which) or f"the given {which}"
            raise InputChangedError(
                f"{path} is not the {which} of this request (sha256 {value[:12]}…, not {wanted[:12]}…): "
                "give the original file"
            )
    references = inputs.references
    check_hashes(references, request.reference, request.reference_sha256, request.reference_mask_sha256)
    return request.replace(
        **found,
        reference_sha256=tuple(reference.picture.sha256 for reference in references),
        reference_mask_sha256=tuple(mask_sha256(reference.mask) for reference in references),
    )
