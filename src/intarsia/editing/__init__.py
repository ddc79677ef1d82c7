"""One loaded model and its verbs: where geometry, words, adapters, sampling and compositing meet.

Importing this room is cheap; torch is imported when a model is loaded.
"""

from intarsia.editing.add import run_add
from intarsia.editing.change_mask import Change, find_change
from intarsia.editing.devices import choose_device, is_small, learning_dtype
from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import (
    EditingError,
    InputChangedError,
    NothingAddedError,
    ReferenceModelError,
    ReferencePhotoError,
    SceneLostError,
    SceneSizeError,
)
from intarsia.editing.inputs import Inputs, load_inputs, preflight
from intarsia.editing.learn_checks import preflight_learning
from intarsia.editing.paint import Painted, PaintOptions, PaintProgress, paint
from intarsia.editing.references import Reference, load_references
from intarsia.editing.studio import Studio
from intarsia.editing.subjects import check_subject_file

__all__ = [
    "Change",
    "EditingError",
    "InputChangedError",
    "Inputs",
    "NothingAddedError",
    "PaintOptions",
    "PaintProgress",
    "Painted",
    "Reference",
    "ReferenceModelError",
    "ReferencePhotoError",
    "SceneLostError",
    "SceneSizeError",
    "Studio",
    "check_subject_file",
    "choose_device",
    "differences",
    "find_change",
    "is_small",
    "learning_dtype",
    "load_inputs",
    "load_references",
    "paint",
    "preflight",
    "preflight_learning",
    "run_add",
    "run_edit",
]
