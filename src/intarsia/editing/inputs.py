"""The files of a request, loaded and checked. Nothing here needs torch, so faults show before a model is
loaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.backbones import find_model
from intarsia.editing.errors import EditingError, InputChangedError, SceneSizeError
from intarsia.errors import MaskError, MaskSizeError, MissingFileError
from intarsia.imaging import Mask, MaskSource, Picture
from intarsia.request import EditRequest
from intarsia.sampling import SCHEDULERS, SchedulerError

MINIMUM_SIDE = 8
MAXIMUM_ASPECT = 64

SceneLike = str | Path | Picture | Image.Image
MaskLike = str | Path | Mask | Image.Image | NDArray[np.bool_] | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Inputs:
    """The scene, and what is repainted of it."""

    scene: Picture
    mask: Mask


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
    if request.box is not None:
        mask = Mask.from_box(request.box, scene.size).validate()
    elif request.mask is not None:
        mask = load_mask(find(request.mask, folder), scene, request.mask_from)
    else:
        raise EditingError("the mask was given from memory, so it is not known here; give it again")
    return with_hashes(request, scene, mask), Inputs(scene, mask)


def preflight(request: EditRequest, folder: Path | None = None) -> EditRequest:
    """All that can be checked before a model is loaded: scene, mask, subject file, model and scheduler names.

    The request comes back with its hashes. `folder`: see `load_inputs`.

    Raises:
        IntarsiaError: the first fault found.
    """
    request, _ = load_inputs(request, folder)
    if request.subject is not None:
        check_subject_file(find(request.subject, folder))
    if request.scheduler not in SCHEDULERS and not request.scheduler.endswith("Scheduler"):
        raise SchedulerError(
            f"unknown scheduler {request.scheduler!r}: use one of {', '.join(sorted(SCHEDULERS))}, "
            "or the class name of a diffusers scheduler"
        )
    find_model(request.model)
    return request


def load_scene(scene: SceneLike) -> Picture:
    """A scene from a path, a Pillow image or a `Picture`; `SceneSizeError` if no model could paint in it."""
    if isinstance(scene, Image.Image):
        scene = Picture.from_image(scene)
    elif not isinstance(scene, Picture):
        scene = Picture.load(scene)
    height, width = scene.size
    if min(height, width) < MINIMUM_SIDE:
        raise SceneSizeError(
            f"the scene is {width}x{height} px; both sides must be at least {MINIMUM_SIDE} px: use a larger picture"
        )
    if max(height, width) > MAXIMUM_ASPECT * min(height, width):
        raise SceneSizeError(
            f"the scene is {width}x{height} px, longer than {MAXIMUM_ASPECT} to 1: crop the part to be edited"
        )
    return scene


def load_mask(mask: MaskLike, scene: Picture, source: MaskSource = "white") -> Mask:
    """A mask for the scene from a path, a box "x,y,w,h", a Pillow image (by `source`), an array or a `Mask`.

    Raises:
        MaskError: and its kinds: another size, empty, full, a box outside the picture.
    """
    if isinstance(mask, str) and _is_box(mask):
        made = Mask.from_box(mask, scene.size)
    elif isinstance(mask, (str, Path)):
        made = Mask.load(mask, like=scene.size, source=source)
    elif isinstance(mask, Mask):
        made = mask
    elif isinstance(mask, Image.Image):
        made = _from_picture(Picture.from_image(mask), source)
    else:
        made = Mask.from_array(np.asarray(mask))
    if made.size != scene.size:
        raise MaskSizeError(
            f"the mask is {made.size[1]}x{made.size[0]} px but the picture is "
            f"{scene.size[1]}x{scene.size[0]} px; "
            "make the mask at the picture's size"
        )
    return made.validate()


def with_hashes(request: EditRequest, scene: Picture, mask: Mask) -> EditRequest:
    """The request with the scene's and mask's hashes; `InputChangedError` where it had others."""
    found = {"scene_sha256": scene.sha256, "mask_sha256": mask_sha256(mask)}
    for name, value in found.items():
        wanted = getattr(request, name)
        if wanted is not None and wanted != value:
            which = name.removesuffix("_sha256")
            path = getattr(request, which) or f"the given {which}"
            raise InputChangedError(
                f"{path} is not the {which} of this request (sha256 {value[:12]}…, not {wanted[:12]}…): "
                "give the original file"
            )
    return request.replace(**found)


def mask_sha256(mask: Mask) -> str:
    """Hex digest of size and bits."""
    digest = hashlib.sha256(f"{mask.size[0]} {mask.size[1]}\n".encode())
    digest.update(np.packbits(mask.array).tobytes())
    return digest.hexdigest()


def check_subject_file(path: str | Path) -> str:
    """sha256 of what a subject file holds: its header as JSON with sorted keys, then its numbers.

    Raises:
        MissingFileError, EditingError: no file, or no safetensors file.
    """
    target = Path(path)
    if not target.is_file():
        raise MissingFileError(f"the subject {target} does not exist; make it with `intarsia learn`")
    data = target.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.dumps(json.loads(data[8:end].decode("utf-8")), sort_keys=True)
    except ValueError as error:
        raise EditingError(
            f"the subject {target} is damaged or no safetensors file; learn it again with `intarsia learn`"
        ) from error
    return hashlib.sha256(header.encode() + data[end:]).hexdigest()


def find(path: str, folder: Path | None) -> str:
    """The path as given, or in `folder` where only that exists."""
    if folder is not None and not Path(path).exists():
        for candidate in (folder / path, folder / Path(path).name):
            if candidate.exists():
                return str(candidate)
    return path


def _from_picture(picture: Picture, source: MaskSource) -> Mask:
    """By the rules of `Mask.load`."""
    if source == "alpha":
        if not picture.has_alpha:
            raise MaskError("the mask has no alpha channel; use white or black as its source")
        return Mask(np.rint(picture.alpha() * 255) <= 127)
    bright = np.rint(picture.luma() * 255) > 127
    return Mask(bright if source == "white" else ~bright)


def _is_box(text: str) -> bool:
    return text.count(",") >= 1 and not Path(text).exists()
