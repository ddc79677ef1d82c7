"""One loaded model and its verbs: where geometry, words, adapters, sampling and compositing meet.

Importing this room is cheap; torch is imported when a model is loaded.
"""

from intarsia.editing.edit import run_edit
from intarsia.editing.environment import differences
from intarsia.editing.errors import EditingError, InputChangedError, SceneSizeError
from intarsia.editing.inputs import Inputs, check_subject_file, load_inputs, preflight
from intarsia.editing.paint import Painted, PaintOptions, PaintProgress, paint
from intarsia.editing.studio import Studio

__all__ = [
    "EditingError",
    "InputChangedError",
    "Inputs",
    "PaintOptions",
    "PaintProgress",
    "Painted",
    "SceneSizeError",
    "Studio",
    "check_subject_file",
    "differences",
    "load_inputs",
    "paint",
    "preflight",
    "run_edit",
]
