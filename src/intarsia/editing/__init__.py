"""One loaded model and its verbs: where geometry, words, adapters, sampling and compositing meet.

Importing this room is cheap; torch is imported when a model is loaded.
"""

from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import (
    EditingError,
    InputChangedError,
    ReferenceModelError,
    ReferencePhotoError,
    SceneSizeError,
)
from intarsia.editing.inputs import Inputs, load_inputs, preflight
from intarsia.editing.paint import Painted, PaintOptions, PaintProgress, paint
from intarsia.editing.references import Reference, load_references
from intarsia.editing.studio import Studio
from intarsia.editing.subjects import check_subject_file

__all__ = [
    "EditingError",
    "InputChangedError",
    "Inputs",
    "PaintOptions",
    "PaintProgress",
    "Painted",
    "Reference",
    "ReferenceModelError",
    "ReferencePhotoError",
    "SceneSizeError",
    "Studio",
    "check_subject_file",
    "differences",
    "load_inputs",
    "load_references",
    "paint",
    "preflight",
    "run_edit",
]
