"""What takes things out of pictures: an inpainting model, or the truth of rendered scenes, with its own failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from intarsia.engines.errors import EngineError
from intarsia.engines.pairs.painting import Hole, PaintSettings, paint_holes
from intarsia.engines.pairs.samples import BoolArray, Pixels
from intarsia.imaging import Mask, match_seam
from intarsia.perception import HelperError, Noise, Photo, Truth, box_of, grow, mask_iou

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

PAPER_WORDS = "a photo of a background, a photo of an empty place"
PAPER_NEGATIVE = "an object, a {}"
DTYPES = ("float32", "float16", "bfloat16")
_RING_CELLS = 3


@dataclass(frozen=True, eq=False)
class RemovalTask:
    """One removal: the photo, the thing (H, W), what of the photo is to be painted anew (H, W; all of the thing is in
    it, nothing of it for a decoy), what the thing is called, and the seed of this candidate."""

    photo: Photo
    thing: BoolArray
    painted: BoolArray
    class_name: str
    seed: int


class Remover(Protocol):
    """Paints the background on."""

    @property
    def name(self) -> str:
        """Which remover this is, with its weights: part of each row's provenance."""
        ...

    def remove(self, tasks: Sequence[RemovalTask]) -> list[Pixels]:
        """For each task the whole picture (H, W, 3), new inside ``painted``; outside it anything near the photo will
        do. A task's pixels follow from the task alone."""
        ...


class StudioRemover:
    """An inpainting backbone, with the windows and the preset of `Studio.remove`, but painted in batches and joined by
    the engine's own blend: `paint_holes` says what else differs.

    ``words``: "paper" for the paper's prompts (with the class in the negative one) and its guidance of 7.5, "model" for
    the words for emptiness that the model was trained with and the measured preset of removal. ``batch``: windows
    painted at once, as many as one thing needs (candidates and decoy); where fewer are left of a size the batch is
    filled up. Part of the settings, as another batch may differ in the last bit.
    """

    def __init__(self, backbone: Backbone, *, words: str = "model", steps: int = 10, batch: int = 4) -> None:
        self.backbone = backbone
        self.words, self.batch = words, batch
        self.settings = replace(_settings("paper" if words == "paper" else "default"), steps=steps)
        if words == "paper":
            self.settings = replace(self.settings, guidance_scale=7.5)
        self._known: dict[str, Any] = {}

    @classmethod
    def load(cls, model: str, device: str = "auto", dtype: str = "float32", **options: Any) -> StudioRemover:
        """Of a model's name or folder, in float32, float16 or bfloat16. Raises BackboneError, EditingError."""
        from intarsia.editing import Studio

        return cls(Studio.load(model, device, dtype).backbone, **options)

    @cached_property
    def name(self) -> str:
        backbone, settings = self.backbone, self.settings
        told = f"studio:{backbone.name}@{backbone.hash[:12]} words={self.words} steps={settings.steps}"
        kind = str(backbone.dtype).removeprefix("torch.")
        return f"{told} batch={self.batch}" + ("" if kind == "float32" else f" {kind}")

    def remove(self, tasks: Sequence[RemovalTask]) -> list[Pixels]:
        """See `Remover.remove`. Raises NonFiniteError: the model painted NaN or infinity."""
        holes = []
        for task in tasks:
            scene = task.photo.rgb.astype(np.float32) / np.float32(255)
            holes.append(Hole(scene, task.painted, self._negative(task.class_name), task.seed))
        prompt = PAPER_WORDS if self.words == "paper" else self.backbone.background_prompt
        painted = paint_holes(self.backbone, holes, self._encoded(prompt), self.settings, self.batch)
        pictures = []
        for hole, rgb in zip(holes, painted, strict=True):
            if self.words != "paper":
                ring = max(4, _RING_CELLS * self.backbone.latent_factor * max(hole.mask.shape) // 512 + 4)
                rgb = match_seam(rgb, hole.scene, Mask(hole.mask), ring=ring)
            pictures.append(np.asarray(np.rint(np.clip(rgb, 0, 1) * 255), np.uint8))
        return pictures

    def _negative(self, class_name: str) -> Any:
        return self._encoded(PAPER_NEGATIVE.format(class_name) if self.words == "paper" else "")

    def _encoded(self, text: str) -> Any:
        from intarsia.conditioning import empty_conditioning, encode_prompt

        if text not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            self._known[text] = encode_prompt(self.backbone, text) if text else empty_conditioning(self.backbone)
        return self._known[text]


@dataclass(frozen=True)
class TruthRemover:
    """Knows rendered scenes without each thing: ``scenes``/NAME-0.png is NAME.png without the first thing of its truth.

    With ``noise`` it fails as real ones do, each candidate on its own or all alike (`Noise.repeat`): the thing stays,
    half of it stays, something else is put there, or a blur is all there is.
    """

    photos: Path
    scenes: Path
    noise: Noise = field(default_factory=Noise)

    @property
    def name(self) -> str:
        return f"truth-remover/1 noise={self.noise.level:g} repeat={self.noise.repeat:g} seed={self.noise.seed}"

    def remove(self, tasks: Sequence[RemovalTask]) -> list[Pixels]:
        """See `Remover.remove`. Raises HelperError: the scene without the thing is not there."""
        return [self._one(task) for task in tasks]

    def _one(self, task: RemovalTask) -> Pixels:
        photo = task.photo.rgb
        truth = Truth.load(self.photos / task.photo.key)
        ious = [mask_iou(one.mask, task.thing) for one in truth.objects]
        number = int(np.argmax(ious))
        if not (task.thing & task.painted).any():  # a decoy: nothing stands there
            draw = self.noise.draw("decoy", task.photo.key, number, task.seed)
            return _speckled(photo, task.painted, draw)
        clean = _picture(removed_path(self.scenes, task.photo.key, number))
        error = self.noise.error("remover", task.photo.key, number, task.seed)
        draw = self.noise.draw("pixels", task.photo.key, number, task.seed)
        made = clean if error is None else self._failed(task, photo, clean, error)
        return _speckled(made, task.painted, draw) if self.noise.level else made

    def _failed(self, task: RemovalTask, photo: Pixels, clean: Pixels, error: np.random.Generator) -> Pixels:
        box = box_of(task.thing)
        assert box is not None
        x, y, w, h = box
        kind = int(error.integers(4))
        result = clean.copy()
        if kind == 0:
            return photo.copy()
        if kind == 1:  # one half is left
            xs = np.indices(task.thing.shape)[1]
            left = task.thing & ((xs < x + w / 2) == (error.random() < 0.5))
            result[left] = photo[left]
        elif kind == 2:  # another thing stands there: this one turned and in other colours
            part = np.flip(photo[y : y + h, x : x + w], axis=(0, 1))[..., error.permutation(3)]
            inside = np.flip(task.thing[y : y + h, x : x + w], axis=(0, 1))
            result[y : y + h, x : x + w][inside] = part[inside]
        else:
            colour = error.integers(0, 256, 3)
            blot = grow(task.thing, 2)
            result[blot] = np.rint(0.5 * clean[blot] + 0.5 * colour).astype(np.uint8)
        return result


def removed_path(scenes: Path, picture: str, number: int) -> Path:
    """Where the scene of a picture (its path below the photos) without thing ``number`` lies."""
    return scenes / Path(picture).with_name(f"{Path(picture).stem}-{number}.png")


def _picture(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise HelperError(
            f"the scene {path.name} without the thing is missing: render it with intarsia data removals"
        ) from error


def _speckled(rgb: Pixels, painted: BoolArray, draw: np.random.Generator) -> Pixels:
    """A generator never meets the truth exactly."""
    noise = draw.normal(0, 2.0, rgb.shape) * painted[..., None]
    return np.asarray(np.clip(np.rint(rgb + noise), 0, 255), np.uint8)


def _settings(preset: str) -> PaintSettings:
    """Steps, guidance, sampler and windows of a removal's preset."""
    from intarsia.editing import PaintOptions
    from intarsia.request import EditRequest

    request = EditRequest(verb="remove", scene="scene", mask="mask", preset=preset)
    options = PaintOptions.of(request)
    return PaintSettings(**{name: getattr(options, name) for name in PaintSettings.__dataclass_fields__})


@dataclass(frozen=True)
class RemoverOption:
    """A remover by a short text: "studio:MODEL", or "truth:FOLDER" with the scenes of `intarsia data removals`.
    ``device``, ``dtype``: of the model; float16 and bfloat16 are for a GPU."""

    option: str = "studio:miniature"
    photos: Path = Path(".")
    noise: Noise = field(default_factory=Noise)
    words: str = "model"
    steps: int = 10
    batch: int = 4
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        kind, _, rest = self.option.partition(":")
        if kind not in ("studio", "truth") or not rest:
            raise EngineError(f"the remover {self.option!r} is unknown: use studio:MODEL or truth:FOLDER")
        if self.words not in ("paper", "model"):
            raise EngineError(f"the remover's words are {self.words!r}: use paper or model")
        if self.steps < 1 or self.batch < 1:
            raise EngineError(f"{self.steps} steps in batches of {self.batch}: use 1 or more")
        if self.dtype not in DTYPES:
            raise EngineError(f"the remover's number format is {self.dtype!r}: use {', '.join(DTYPES)}")

    def load(self) -> Remover:
        """Raises HelperError, BackboneError."""
        return _loaded(self)

    def to_json(self) -> dict[str, Any]:
        """What decides the pixels; where a folder is does not."""
        kind, _, rest = self.option.partition(":")
        if kind == "truth":
            return {"remover": "truth", "noise": [self.noise.level, self.noise.seed, self.noise.repeat]}
        told = {"remover": f"studio:{rest}", "words": self.words, "steps": self.steps, "batch": self.batch}
        return {**told, "dtype": self.dtype}


@lru_cache(maxsize=2)
def _loaded(option: RemoverOption) -> Remover:
    kind, _, rest = option.option.partition(":")
    if kind == "truth":
        return TruthRemover(option.photos, Path(rest), option.noise)
    return StudioRemover.load(
        rest, option.device, option.dtype, words=option.words, steps=option.steps, batch=option.batch
    )
