"""`Studio`: one loaded model and what can be done with it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intarsia.backbones import catalog, load_backbone
from intarsia.editing.devices import choose_device, choose_dtype
from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import EditingError, InputChangedError
from intarsia.editing.inputs import (
    Inputs,
    MaskLike,
    SceneLike,
    check_subject_file,
    find,
    load_inputs,
    load_mask,
    load_scene,
    mask_sha256,
)
from intarsia.editing.paint import PaintOptions, PaintProgress, paint
from intarsia.editing.words import Words, encode_words
from intarsia.errors import IntarsiaWarning
from intarsia.imaging import Mask
from intarsia.request import EditRequest
from intarsia.result import EditResult, check_output, output_folder, read_recipe

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone
    from intarsia.editing.detail import FloatArray
    from intarsia.learning import AttributeNamer, LearnConfig, LearnProgress, Photos, Subject

Box = str | tuple[int, int, int, int]
PAINTER_STEPS = 12
"""Steps of a regular image while learning: they teach what the class may look like, not fine detail."""


class Studio:
    """Paints with one backbone. Pictures are taken as paths, Pillow images or `Picture`s; masks also as
    arrays.

    Keyword options of `insert` and `remove` are the fields of `EditRequest`.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._subjects: dict[str, Subject] = {}

    @classmethod
    def load(
        cls,
        name: str | Path = "miniature",
        device: str = "auto",
        dtype: str | torch.dtype = "float32",
        *,
        download: bool = False,
    ) -> Studio:
        """Load a model of the catalog or a model folder.

        device: "auto" (CUDA, else Apple's MPS, else CPU) or any of torch's. dtype: a torch format or its
        name; "float16" or "bfloat16" halve the memory of large models on a GPU.

        Raises:
            UnknownModelError, MissingWeightsError, BackboneError: see `load_backbone`. EditingError: no such
            device.
        """
        return cls(load_backbone(name, choose_device(device), choose_dtype(dtype), download=download))

    @property
    def model(self) -> str:
        """What to load this studio's model by: its name in the catalog, or its folder."""
        backbone = self.backbone
        return backbone.name if backbone.name in catalog or backbone.path is None else str(backbone.path)

    def insert(
        self,
        scene: SceneLike,
        *,
        mask: MaskLike | None = None,
        box: Box | None = None,
        prompt: str = "",
        subject: Subject | str | Path | None = None,
        progress: PaintProgress | None = None,
        **options: Any,
    ) -> EditResult:
        """Paint what the prompt says, or a learned subject, into the mask.

        Raises:
            IntarsiaError: unusable inputs or options; see `EditRequest`.
        """
        return self._edit("insert", scene, mask, box, prompt, subject, progress, options)

    def remove(
        self,
        scene: SceneLike,
        *,
        mask: MaskLike | None = None,
        box: Box | None = None,
        prompt: str = "",
        progress: PaintProgress | None = None,
        **options: Any,
    ) -> EditResult:
        """Paint the background on where the mask is. The mask should hold the object's shadow, too."""
        return self._edit("remove", scene, mask, box, prompt, None, progress, options)

    def run(self, request: EditRequest, progress: PaintProgress | None = None) -> EditResult:
        """Do what a request says; its files are loaded by their paths."""
        return self._run_in(request, None, progress)

    def insert_many(self, requests: Iterable[EditRequest], progress: PaintProgress | None = None) -> list[EditResult]:
        """Run several requests one after the other; each result is the one it would have had alone."""
        return [self.run(request, progress) for request in requests]

    def replay(self, path: str | Path, progress: PaintProgress | None = None) -> EditResult:
        """Make a picture again from the recipe inside it; relative paths are also looked for beside it.

        Warns, naming what differs, where weights, versions or machine are not those of the recipe.

        Raises:
            RecipeError: no recipe in the file. InputChangedError: the scene, mask or subject is another one.
        """
        recipe = read_recipe(path)
        result = self._run_in(recipe.request.replace(model_hash=None), Path(path).parent, progress)
        changed = differences(recipe, result.recipe)
        if changed:
            warnings.warn(
                f"made with other means than {path}, so pixels may differ; {'; '.join(changed)}",
                IntarsiaWarning,
                stacklevel=2,
            )
        return result

    def learn(
        self,
        photos: str | Path | Sequence[str | Path] | Photos,
        class_noun: str,
        output: str | Path | None = None,
        *,
        masks: str | Path | None = None,
        preset: str = "default",
        config: LearnConfig | None = None,
        namer: AttributeNamer | str = "vocabulary",
        work_folder: str | Path | None = None,
        overwrite: bool = False,
        progress: Callable[[LearnProgress], None] | None = None,
        **options: Any,
    ) -> Subject:
        """Learn a subject from a folder of photos, or some paths; saved to `output` where one is given.

        options: fields of `LearnConfig` that differ from the preset's; or a whole `config`.
        namer: "vocabulary", "yaml:PATH" or "openai:URL#MODEL".

        Raises:
            IntarsiaError: no photos, unusable options, an output that exists.
        """
        from intarsia.learning import LearnConfig, Photos, learn_subject
        from intarsia.perception import namer_from_option

        if output is not None:
            check_output(output, overwrite=overwrite, suffixes=(".safetensors",))
        given = photos if isinstance(photos, Photos) else Photos.load(photos, masks)
        if config is not None and options:
            raise EditingError(f"give either a config or {', '.join(sorted(options))}: both say how to learn")
        settings = LearnConfig.preset(preset, **options) if config is None else config
        chosen: AttributeNamer | None = None
        if namer != "vocabulary":
            chosen = namer_from_option(namer, self.backbone) if isinstance(namer, str) else namer
        folder = None if work_folder is None else Path(work_folder)
        subject = learn_subject(
            self.backbone,
            given,
            class_noun,
            self.painter(),
            settings,
            namer=chosen,
            work_folder=folder,
            progress=progress,
        )
        if output is not None:
            with output_folder(Path(output)):
                subject.save(output, overwrite=overwrite)
        return subject

    def painter(self, steps: int = PAINTER_STEPS) -> Callable[[FloatArray, NDArray[np.bool_], str, int], FloatArray]:
        """A learning `Painter`: (scene (H, W, 3) in [0, 1], mask (H, W), prompt, seed) -> the scene,
        repainted inside the mask with few steps.
        """
        options = PaintOptions.preset("default", steps=steps)

        def paint_prompt(scene: FloatArray, mask: NDArray[np.bool_], prompt: str, seed: int) -> FloatArray:
            positive, negative = encode_words(self.backbone, Words(prompt, ()), "", 0.0)
            painted = paint(
                self.backbone, scene, mask, positive=positive, negative=negative, options=options, seed=seed
            )
            return np.where(mask[..., None], painted.rgb, scene).astype(np.float32)

        return paint_prompt

    def _edit(
        self,
        verb: str,
        scene: SceneLike,
        mask: MaskLike | None,
        box: Box | None,
        prompt: str,
        subject: Subject | str | Path | None,
        progress: PaintProgress | None,
        options: dict[str, Any],
    ) -> EditResult:
        if box is not None and not isinstance(box, str):
            box = ",".join(str(value) for value in box)
        picture = load_scene(scene)
        if (mask is None) == (box is None):
            raise EditingError("give either a mask or a box x,y,w,h: where to paint must be said once")
        if mask is not None:
            place = load_mask(mask, picture, options.get("mask_from", "white"))
        else:
            place = Mask.from_box(box or "", picture.size).validate()
        learned, subject_sha256 = self._subject(subject)
        request = EditRequest(
            verb=verb,
            scene=_path(scene),
            scene_sha256=picture.sha256,
            mask=_path(mask),
            mask_sha256=mask_sha256(place),
            box=box,
            prompt=prompt,
            subject=_path(subject),
            subject_sha256=subject_sha256,
            model=self.model,
            **options,
        )
        return run_edit(self.backbone, request, Inputs(picture, place), learned, progress)

    def _run_in(self, request: EditRequest, folder: Path | None, progress: PaintProgress | None) -> EditResult:
        if request.model_hash is not None and request.model_hash != self.backbone.hash:
            raise EditingError(
                f"the request was made for model {request.model!r} ({request.model_hash[:12]}…), not for "
                f"{self.backbone.name!r} ({self.backbone.hash[:12]}…): load that one, or leave out model_hash"
            )
        request, inputs = load_inputs(request.replace(model=self.model), folder)
        learned: Subject | None = None
        if request.subject is not None:
            learned, found = self._subject(find(request.subject, folder))
            if request.subject_sha256 not in (None, found):
                raise InputChangedError(
                    f"{request.subject} is not the subject of this request (sha256 {str(found)[:12]}…, not "
                    f"{str(request.subject_sha256)[:12]}…): give the original file"
                )
            request = request.replace(subject_sha256=found)
        elif request.subject_sha256 is not None:
            raise EditingError("the subject was given from memory, so it is not known here; save it and give its path")
        return run_edit(self.backbone, request, inputs, learned, progress)

    def _subject(self, subject: Subject | str | Path | None) -> tuple[Subject | None, str | None]:
        """The subject and the sha256 of what its file holds (or would hold, when it comes from memory)."""
        if subject is None:
            return None, None
        from intarsia.learning import Subject

        if isinstance(subject, Subject):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "subject.safetensors"
                subject.save(path)
                return subject, check_subject_file(path)
        digest = check_subject_file(subject)
        if digest not in self._subjects:
            self._subjects = {digest: Subject.load(subject)}
        return self._subjects[digest], digest


def _path(given: object) -> str | None:
    return str(given) if isinstance(given, (str, Path)) else None
