"""Which fields of a request go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intarsia.request.edit_request import EditRequest


def check_together(request: EditRequest) -> None:
    """That the fields of a request go together; `ValueError` with one line for the first fault."""
    if request.scene is None and request.scene_sha256 is None:
        raise ValueError("scene is missing; give the path of a picture")
    _check_instruction(request)
    _check_place(request)
    _check_references(request)
    _check_loras(request)
    shown = request.has_subject or request.has_reference
    if request.verb == "insert" and not request.prompt.strip() and not shown:
        raise ValueError("prompt is empty; say what to paint, or give a subject or a reference")
    if request.verb != "insert":
        name = {"remove": "a removal", "outpaint": "an outpainting", "add": "an addition"}[request.verb]
        if request.has_subject:
            raise ValueError(f"subject {request.subject!r} has no part in {name}; leave it out, or insert")
        if request.has_reference:
            photos = ", ".join(request.reference) or "from memory"
            raise ValueError(f"reference {photos} has no part in {name}; leave it out, or insert")


def _check_instruction(request: EditRequest) -> None:
    if request.verb != "add":
        for name in ("instruction", "place"):
            if getattr(request, name):
                raise ValueError(
                    f"{name} {getattr(request, name)!r} is for adding only; leave it out, or use the verb add"
                )
        return
    if not request.instruction or not all(words.strip() for words in request.instruction):
        raise ValueError('the instruction is empty; say what to add, for example "add a red mug at the left"')
    if request.prompt.strip():
        raise ValueError(f"prompt {request.prompt!r} has no part in an addition; say it in the instruction")
    if request.mask is not None or request.box is not None or request.mask_sha256 is not None:
        raise ValueError("a mask or box has no part in an addition; give a place x,y,w,h, or insert")


def _check_place(request: EditRequest) -> None:
    sides = {name: getattr(request, name) for name in ("left", "right", "top", "bottom")}
    grown = [f"{name} {value}" for name, value in sides.items() if value]
    if request.ratio is not None:
        grown.append(f"ratio {request.ratio}")
    if request.verb != "outpaint":
        if grown:
            raise ValueError(f"{grown[0]} is for outpainting only; leave it out, or use the verb outpaint")
        if request.verb == "add":
            return
        if request.mask is not None and request.box is not None:
            raise ValueError("mask and box are both given; give one of them")
        if request.mask is None and request.box is None and request.mask_sha256 is None:
            raise ValueError("mask is missing; give a mask picture or a box x,y,w,h")
        return
    if request.mask is not None or request.box is not None or request.mask_sha256 is not None:
        raise ValueError("a mask or box has no part in an outpainting; leave it out, or insert")
    if request.ratio is not None and len(grown) > 1:
        raise ValueError(f"{' and '.join(grown)} are both given; grow by pixels or by a ratio")
    if not grown or request.ratio == 1:
        raise ValueError(
            "there is nothing to grow; give left, right, top or bottom in pixels, or a ratio from 0.5 to below 1"
        )


def _check_references(request: EditRequest) -> None:
    if request.reference_model is not None and not request.has_reference:
        raise ValueError(
            f"reference_model {request.reference_model!r} needs a reference; give a photo, or leave it out"
        )
    count = max(len(request.reference), len(request.reference_sha256))
    for name in ("reference", "reference_sha256", "reference_mask_sha256"):
        if len(getattr(request, name)) not in (0, count):
            raise ValueError(f"{name} has {len(getattr(request, name))} entries for {count} references; give {count}")
    if len(request.reference_mask) > count:
        raise ValueError(
            f"reference_mask has {len(request.reference_mask)} entries for {count} references; "
            "give at most one mask per reference"
        )


def _check_loras(request: EditRequest) -> None:
    for name in ("lora_strength", "lora_sha256"):
        count = len(getattr(request, name))
        if count not in (0, len(request.lora)):
            raise ValueError(f"{name} has {count} entries for {len(request.lora)} LoRAs; give one for each, or none")
    if request.lora and request.verb == "add" and request.finish == "direct":
        raise ValueError(
            f"lora {', '.join(request.lora)} has no part in an addition that is not repainted; leave it out, "
            "or use the finish repaint"
        )
