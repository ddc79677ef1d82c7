"""`Studio`: one loaded model and what can be done with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones import catalog, load_backbone
from intarsia.editing.devices import choose_device, choose_dtype
from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import EditingError, InputChangedError, ReferenceModelError
from intarsia.editing.inputs import Inputs, frame_of, load_inputs, with_hashes
from intarsia.editing.paint import PaintProgress
from intarsia.editing.painter import PAINTER_STEPS, Painter, prompt_painter
from intarsia.editing.pictures import MaskLike, SceneLike, find, load_mask, load_scene, mask_sha256
from intarsia.editing.reference_models import ReferenceModels, reference_model_of
from intarsia.editing.references import ReferenceMasksLike, ReferencesLike, load_references, paths_of
from intarsia.editing.subjects import Subjects
from intarsia.errors import IntarsiaWarning
from intarsia.imaging import Mask
from intarsia.request import EditRequest
from intarsia.result import EditResult, check_output, output_folder, read_recipe

if TYPE_CHECKING:
    import torch

    from intarsia.adapters import ReferenceAdapters
    from intarsia.backbones import Backbone
    from intarsia.learning import AttributeNamer, LearnConfig, LearnProgress, Photos, Subject

Box = str | tuple[int, int, int, int]


class Studio:
    """Paints with one backbone. Pictures are taken as paths, Pillow images, `Picture`s or the results of other
    edits (a chain); masks also as arrays.

    Keyword options of `insert`, `remove` and `outpaint` are the fields of `EditRequest`.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._subjects = Subjects()
        self._reference_models = ReferenceModels(backbone)

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
        reference: ReferencesLike | None = None,
        reference_mask: ReferenceMasksLike | None = None,
        progress: PaintProgress | None = None,
        **options: Any,
    ) -> EditResult:
        """Paint into the mask what the prompt says, a learned subject, the thing in a reference photo, or any of
        them together. What is not given the model does not see.

        reference: a picture, or a list of as many as the model takes. reference_mask: which part of each is meant
        (white); without one the photo's transparency says it, or it is guessed.

        Raises:
            IntarsiaError: unusable inputs or options; see `EditRequest`.
        """
        return self._edit("insert", scene, mask, box, prompt, progress, options, subject, (reference, reference_mask))

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
        return self._edit("remove", scene, mask, box, prompt, progress, options)

    def outpaint(
        self,
        scene: SceneLike,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        ratio: float | None = None,
        anchor: str = "center",
        prompt: str = "",
        progress: PaintProgress | None = None,
        **options: Any,
    ) -> EditResult:
        """Widen the scene by pixels at each side, or until it fills `ratio` of the new sides with the scene at
        `anchor` (center, left, top-right …). The scene's bytes are kept but for `rim` pixels at the sides that grow.

        Raises:
            IntarsiaError: nothing to grow or too much, a rim that leaves nothing of the scene, unusable options.
        """
        sides = {"left": left, "right": right, "top": top, "bottom": bottom, "ratio": ratio, "anchor": anchor}
        return self._edit("outpaint", scene, None, None, prompt, progress, {**sides, **options})

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
            RecipeError: no recipe in the file. InputChangedError: the scene, mask, subject or reference is another
            one.
        """
        recipe = read_recipe(path)
        result = self._run_in(recipe.request.replace(model_hash=None, reference_hash=None), Path(path).parent, progress)
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

    def painter(self, steps: int = PAINTER_STEPS) -> Painter:
        """A learning `Painter`: (scene (H, W, 3) in [0, 1], mask (H, W), prompt, seed) -> the scene,
        repainted inside the mask with few steps.
        """
        return prompt_painter(self.backbone, steps)

    def _edit(
        self,
        verb: str,
        scene: SceneLike,
        mask: MaskLike | None,
        box: Box | None,
        prompt: str,
        progress: PaintProgress | None,
        options: dict[str, Any],
        subject: Subject | str | Path | None = None,
        references: tuple[ReferencesLike | None, ReferenceMasksLike | None] = (None, None),
    ) -> EditResult:
        if box is not None and not isinstance(box, str):
            box = ",".join(str(value) for value in box)
        picture = load_scene(scene)
        if verb != "outpaint" and (mask is None) == (box is None):
            raise EditingError("give either a mask or a box x,y,w,h: where to paint must be said once")
        place = None
        if mask is not None:
            place = load_mask(mask, picture, options.get("mask_from", "white"))
        elif box is not None:
            place = Mask.from_box(box, picture.size).validate()
        shown, photos = load_references(*references, picture), paths_of(references[0])
        learned, subject_sha256 = self._subjects.load(subject)
        fields = {
            "scene": _path(scene),
            "scene_sha256": picture.sha256,
            "mask": _path(mask),
            "mask_sha256": None if place is None else mask_sha256(place),
            "box": box,
            "prompt": prompt,
            "subject": _path(subject),
            "subject_sha256": subject_sha256,
            "reference": () if None in photos else photos,
            "reference_mask": paths_of(references[1]),
            "reference_sha256": tuple(photo.picture.sha256 for photo in shown),
            "model": self.model,
        }
        request = EditRequest(**{**fields, **options, "verb": verb})
        inputs = Inputs(picture, frame_of(request, picture) if place is None else place, shown)
        request = with_hashes(request, inputs)
        return run_edit(self.backbone, request, inputs, learned, self._adapters(request, None), progress)

    def _run_in(self, request: EditRequest, folder: Path | None, progress: PaintProgress | None) -> EditResult:
        if request.model_hash is not None and request.model_hash != self.backbone.hash:
            raise EditingError(
                f"the request was made for model {request.model!r} ({request.model_hash[:12]}…), not for "
                f"{self.backbone.name!r} ({self.backbone.hash[:12]}…): load that one, or leave out model_hash"
            )
        request, inputs = load_inputs(request.replace(model=self.model), folder)
        learned: Subject | None = None
        if request.subject is not None:
            learned, found = self._subjects.load(find(request.subject, folder))
            if request.subject_sha256 not in (None, found):
                raise InputChangedError(
                    f"{request.subject} is not the subject of this request (sha256 {str(found)[:12]}…, not "
                    f"{str(request.subject_sha256)[:12]}…): give the original file"
                )
            request = request.replace(subject_sha256=found)
        elif request.subject_sha256 is not None:
            raise EditingError("the subject was given from memory, so it is not known here; save it and give its path")
        return run_edit(self.backbone, request, inputs, learned, self._adapters(request, folder), progress)

    def _adapters(self, request: EditRequest, folder: Path | None) -> ReferenceAdapters | None:
        """The weights that show the request's references; None where it has none."""
        if not request.has_reference:
            return None
        path = reference_model_of(request.reference_model, self.backbone.name, self.backbone.path, folder)
        adapters = self._reference_models.load(path)
        if request.reference_hash not in (None, adapters.hash):
            raise ReferenceModelError(
                f"the request was made with other reference weights ({str(request.reference_hash)[:12]}…) than those "
                f"in {path} ({adapters.hash[:12]}…): give those as reference_model, or leave out reference_hash"
            )
        return adapters


def _path(given: object) -> str | None:
    return str(given) if isinstance(given, (str, Path)) else None
