"""Regular images: the class with other attributes, painted by the same backbone, so that their masks are
known.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from intarsia.errors import IntarsiaWarning, OutputError, PictureError
from intarsia.imaging import Mask, Picture, fill_hole, read_png_text, write_file_atomically
from intarsia.learning.config import LearnConfig
from intarsia.learning.errors import LearningError
from intarsia.learning.photos import Photos
from intarsia.learning.views import View, draw_view, seed_of
from intarsia.perception import RegularPrompt

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_ZOOM = (0.45, 0.75)
_FLAT = 0.02
"""Least standard deviation of the brightness inside the mask, of 1."""
_KEY = "intarsia-regular"


class Painter(Protocol):
    """Paints what a prompt says into a scene's mask: `Studio.painter()`, or anything alike."""

    def __call__(self, scene: FloatArray, mask: BoolArray, prompt: str, seed: int, /) -> FloatArray:
        """Scene (H, W, 3) in [0, 1] and mask (H, W), True = repaint -> the painted scene (H, W, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class RegularImage:
    """One painted picture. Similarities are cosines to the prompt: of the picture, and of the scene with an
    empty hole; None without an image encoder. `reason` says why it was dropped ("" if kept).
    """

    index: int
    rgb: FloatArray
    mask: BoolArray
    prompt: RegularPrompt
    seed: int
    similarity: float | None
    unpainted_similarity: float | None
    reason: str = ""

    @property
    def kept(self) -> bool:
        return not self.reason

    @property
    def view(self) -> View:
        return View(self.rgb, self.mask, self.mask)

    def record(self) -> dict[str, Any]:
        """One line of the manifest; the box is x,y,w,h in pixels."""
        top, left, height, width = Mask(self.mask).box
        return {
            "file": f"regular/{self.index:03d}.png",
            "prompt": self.prompt.text,
            "attributes": dict(self.prompt.attributes),
            "seed": self.seed,
            "mask_box": [left, top, width, height],
            "similarity": self.similarity,
            "unpainted_similarity": self.unpainted_similarity,
            "kept": self.kept,
            "reason": self.reason,
        }


def paint_regular_images(
    backbone: Backbone,
    photos: Photos,
    prompts: Sequence[RegularPrompt],
    painter: Painter,
    config: LearnConfig,
    folder: Path | None,
    report: Callable[[int, int], None],
) -> list[RegularImage]:
    """Paint one picture per prompt over the subject in a window of a photo, and judge it.

    Dropped are pictures that are flat, or not more similar to their prompt than the scene with an empty hole (not
    where prompts say the class alone). Where that drops all, the best third is kept, with a warning. With `folder`,
    pictures and masks go to `folder/regular`, and `folder/manifest.jsonl` tells prompt, seed, mask box, scores and
    verdict of each; pictures that are there already, of the same prompt, scene, seed and base, are not painted again.

    Raises:
        LearningError: the painter gives pictures of another size, or only NaN.
    """
    images: list[RegularImage] = []
    for index, prompt in enumerate(prompts):
        images.append(_paint_one(backbone, photos, prompt, painter, config, folder, index))
        report(index + 1, len(prompts))
    images = _with_best_third(images)
    if folder is not None:
        lines = "".join(json.dumps(image.record()) + "\n" for image in images)
        write_file_atomically(folder / "manifest.jsonl", lines.encode(), overwrite=True)
    return images


def _paint_one(
    backbone: Backbone,
    photos: Photos,
    prompt: RegularPrompt,
    painter: Painter,
    config: LearnConfig,
    folder: Path | None,
    index: int,
) -> RegularImage:
    rng = np.random.default_rng(seed_of(config.seed, "regular", index))
    photo = photos.items[index % len(photos)]
    place = replace(config, zoom=_ZOOM, mask_shapes=("box", "bulge"), flip=False)
    scene = draw_view(photo, place, backbone.native_size, backbone.size_multiple, rng)
    seed = int(rng.integers(2**31))
    pixels = _painted(backbone, scene, prompt.text, seed, painter, folder, index)
    rgb = pixels.astype(np.float32) / np.float32(255)
    # A prompt of the class alone says too little to tell a picture of it from an empty scene.
    margin = -math.inf if config.regular_prompts == "class" else config.gate_margin
    reason, similarity, unpainted = _judge(backbone, rgb, scene, prompt.text, margin)
    return RegularImage(index, rgb, scene.mask, prompt, seed, similarity, unpainted, reason)


def _painted(
    backbone: Backbone, scene: View, prompt: str, seed: int, painter: Painter, folder: Path | None, index: int
) -> NDArray[np.uint8]:
    """The painter's picture as uint8 (as it is kept on disk), or the one kept from an earlier run."""
    path = None if folder is None else folder / "regular" / f"{index:03d}.png"
    digest = hashlib.sha256(f"{backbone.hash}\n{prompt}\n{seed}\n{scene.image.shape}\n".encode())
    digest.update(scene.image.tobytes())
    digest.update(scene.mask.tobytes())
    key = digest.hexdigest()
    if path is not None and path.is_file():
        try:
            if read_png_text(path).get(_KEY) == key:
                return np.asarray(Picture.load(path).pixels[..., :3], np.uint8)
        except PictureError:
            pass  # a damaged picture is painted again
    rgb = np.asarray(painter(scene.image, scene.mask, prompt, seed))
    if rgb.shape != scene.image.shape:
        raise LearningError(
            f"the painter gave a picture of shape {rgb.shape} for a scene of {scene.image.shape}: it must keep the size"
        )
    if not np.isfinite(rgb).all():
        return np.zeros(scene.image.shape, np.uint8)  # flat, so the gate drops it
    pixels: NDArray[np.uint8] = np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
    if path is not None:
        _write(path, pixels, scene.mask, key)
    return pixels


def _write(path: Path, pixels: NDArray[np.uint8], mask: BoolArray, key: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error.strerror}; choose another place") from error
    white = Picture.from_array(mask.astype(np.uint8) * 255)
    white.save(path.with_name(f"{path.stem}-mask.png"), overwrite=True)
    Picture.from_array(pixels).save(path, text={_KEY: key}, overwrite=True)


def _judge(
    backbone: Backbone, rgb: FloatArray, scene: View, prompt: str, margin: float
) -> tuple[str, float | None, float | None]:
    import torch

    if not rgb.any():
        return "not finite", None, None
    similarity = unpainted = None
    if backbone.image_encoder is not None:
        pair = np.stack([rgb, fill_hole(scene.image, scene.mask)])
        scores = backbone.image_text_similarity(torch.from_numpy(pair).permute(0, 3, 1, 2) * 2 - 1, [prompt])
        similarity, unpainted = (round(float(value), 6) for value in scores[:, 0])
    if float(rgb.mean(axis=-1)[scene.mask].std()) < _FLAT:
        return "flat", similarity, unpainted
    if similarity is not None and unpainted is not None and similarity <= unpainted + margin:
        return "unlike its prompt", similarity, unpainted
    return "", similarity, unpainted


def _with_best_third(images: list[RegularImage]) -> list[RegularImage]:
    if not images or any(image.kept for image in images):
        return images
    usable = [image for image in images if image.reason != "not finite"]
    if not usable:
        raise LearningError(
            "the painter gave only values that are not finite: load the model in float32, or use regular_images=0"
        )
    usable.sort(key=lambda image: -1.0 if image.similarity is None else image.similarity, reverse=True)
    best = {image.index for image in usable[: math.ceil(len(usable) / 3)]}
    warnings.warn(
        f"none of the {len(images)} regular images passes the quality gates; "
        f"the best {len(best)} are used all the same",
        IntarsiaWarning,
        stacklevel=3,
    )
    return [replace(image, reason="") if image.index in best else image for image in images]
