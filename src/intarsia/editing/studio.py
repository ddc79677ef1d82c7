"""`Studio`: one loaded model and what can be done with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intarsia.backbones import MemoryPlan, no_memory_explained
from intarsia.editing.add import run_add
from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import EditingError
from intarsia.editing.inputs import Inputs, check_instructions, frame_of, load_inputs, place_in, with_hashes
from intarsia.editing.instruct_models import InstructModels
from intarsia.editing.learn import learn_from_photos
from intarsia.editing.loras import Loras
from intarsia.editing.opening import open_backbone
from intarsia.editing.paint import PaintProgress
from intarsia.editing.painter import PAINTER_STEPS, Painter, prompt_painter
from intarsia.editing.pictures import (
    Box,
    MaskLike,
    SceneLike,
    box_text,
    load_mask,
    load_scene,
    mask_sha256,
    path_text,
)
from intarsia.editing.reference_models import ReferenceModels
from intarsia.editing.references import ReferenceMasksLike, ReferencesLike, load_references, paths_of
from intarsia.editing.subjects import Subjects
from intarsia.errors import IntarsiaWarning
from intarsia.imaging import Mask
from intarsia.request import EditRequest
from intarsia.result import EditResult, read_recipe

if TYPE_CHECKING:
    import torch

    from intarsia.backbones import Backbone
    from intarsia.learning import AttributeNamer, LearnConfig, LearnProgress, Photos, Subject


class Studio:
    """Paints with one backbone. Pictures are taken as paths, Pillow images, `Picture`s or the results of other
    edits (a chain); masks also as arrays.

    Keyword options of the verbs are the fields of `EditRequest`. `instruct`: the instruction model that `add` uses
    where none is named; otherwise it is loaded when first needed.
    """

    memory: MemoryPlan | None = None
    """What `load` decided for the device's memory; None for a backbone that was given."""

    def __init__(self, backbone: Backbone, instruct: Backbone | None = None) -> None:
        self.backbone = backbone
        self._instruct_models = InstructModels(backbone, instruct)
        self._subjects = Subjects()
        self._loras = Loras(backbone)
        self._reference_models = ReferenceModels(backbone)

    @classmethod
    def load(
        cls,
        name: str | Path = "miniature",
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        *,
        memory: str = "auto",
        compiled: bool = False,
        download: bool = False,
    ) -> Studio:
        """Load a model by anything that `locate_model` knows: a name of the catalog, a folder, a file …

        device: "auto" (CUDA, else Apple's MPS, else CPU) or any of torch's. dtype: a torch format or its name; "auto"
        takes 16 bits for large models on a GPU. memory: "full", "model" or "group" (the whole model, a part, or a
        block on the GPU at a time), or "auto", the fastest of these that fits; `studio.memory` says what was chosen.
        compiled: see `compile_blocks`; pays off after some pictures of one size.

        Raises:
            UnknownModelError, MissingWeightsError: see `load_backbone`. BackboneError: as there, or too little memory.
            EditingError: no such device or number format.
        """
        backbone, plan = open_backbone(name, device, dtype, memory=memory, compiled=compiled, download=download)
        studio = cls(backbone)
        studio.memory = plan
        return studio

    @property
    def model(self) -> str:
        """What to load this studio's model by: its name in the catalog, or its path."""
        return self.backbone.known_as

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

    def add(
        self,
        scene: SceneLike,
        instruction: str | Sequence[str],
        *,
        place: Box | None = None,
        progress: PaintProgress | None = None,
        **options: Any,
    ) -> EditResult:
        """Add what an instruction says ("add a red mug at the left"), with no mask; several are done one after the
        other. `place`: about where, instead of words for it. The result's `support` is where the scene changed, and
        may be the mask of an insertion.

        Raises:
            InstructionError: it names nothing to add. NothingAddedError: nothing was added. IntarsiaError: unusable
            inputs or options.
        """
        given = (instruction,) if isinstance(instruction, str) else tuple(instruction)
        fields = {"instruction": given, "place": box_text(place), **self._instruct_models.default, **options}
        return self._edit("add", scene, None, None, "", progress, fields)

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
        request = recipe.request.replace(model_hash=None, reference_hash=None, add_model_hash=None)
        result = self._run_in(request, Path(path).parent, progress)
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
        namer: "vocabulary", "clip:MODEL[#WORDS.yaml]", "yaml:PATH", "openai:URL#MODEL" or "vlm:MODEL".
        Photos without masks: `Photos.load` takes a cutter and boxes; give what it returns.

        Raises:
            IntarsiaError: no photos, unusable options, an output that exists.
        """
        return learn_from_photos(
            self.backbone,
            photos,
            class_noun,
            output,
            masks=masks,
            preset=preset,
            config=config,
            namer=namer,
            work_folder=work_folder,
            overwrite=overwrite,
            progress=progress,
            options=options,
        )

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
        box = box_text(box)
        picture = load_scene(scene)
        if verb in ("insert", "remove") and (mask is None) == (box is None):
            raise EditingError("give either a mask or a box x,y,w,h: where to paint must be said once")
        place = None
        if mask is not None:
            place = load_mask(mask, picture, options.get("mask_from", "white"))
        elif box is not None:
            place = Mask.from_box(box, picture.size).validate()
        shown, photos = load_references(*references, picture), paths_of(references[0])
        learned, subject_sha256 = self._subjects.load(subject)
        fields = {
            "scene": path_text(scene),
            "scene_sha256": picture.sha256,
            "mask": path_text(mask),
            "mask_sha256": None if place is None else mask_sha256(place),
            "box": box,
            "prompt": prompt,
            "subject": path_text(subject),
            "subject_sha256": subject_sha256,
            "reference": () if None in photos else photos,
            "reference_mask": paths_of(references[1]),
            "reference_sha256": tuple(photo.picture.sha256 for photo in shown),
            "model": self.model,
        }
        request = EditRequest(**{**fields, **options, "verb": verb})
        if place is None:
            place = place_in(request, picture) if verb == "add" else frame_of(request, picture)
        inputs = Inputs(picture, place, shown)
        return self._do(with_hashes(request, inputs), inputs, learned, None, progress)

    def _run_in(self, request: EditRequest, folder: Path | None, progress: PaintProgress | None) -> EditResult:
        if request.model_hash is not None and request.model_hash != self.backbone.hash:
            raise EditingError(
                f"the request was made for model {request.model!r} ({request.model_hash[:12]}…), not for "
                f"{self.backbone.name!r} ({self.backbone.hash[:12]}…): load that one, or leave out model_hash"
            )
        request, inputs = load_inputs(request.replace(model=self.model), folder)
        learned, request = self._subjects.of(request, folder)
        return self._do(request, inputs, learned, folder, progress)

    def _do(
        self,
        request: EditRequest,
        inputs: Inputs,
        learned: Subject | None,
        folder: Path | None,
        progress: PaintProgress | None,
    ) -> EditResult:
        if request.verb == "add":
            check_instructions(request)
        with no_memory_explained("painting", self.backbone):
            loras, request = self._loras.of(request, folder)
            if request.verb == "add":
                model = self._instruct_models.of(request, folder)
                return run_add(self.backbone, model, request, inputs, progress, loras)
            adapters = self._reference_models.of(request, folder)
            return run_edit(self.backbone, request, inputs, learned, adapters, progress, loras)
