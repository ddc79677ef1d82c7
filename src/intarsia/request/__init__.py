"""What is asked for: one record of everything that decides an edit's pixels, and the presets that fill it."""

from intarsia.request.edit_request import EditRequest, Verb
from intarsia.request.errors import RequestError
from intarsia.request.presets import ADD, OUTPAINT, PRESETS, REFERENCE, REFERENCE_AND_WORDS, REMOVAL, SUBJECT

__all__ = [
    "ADD",
    "OUTPAINT",
    "PRESETS",
    "REFERENCE",
    "REFERENCE_AND_WORDS",
    "REMOVAL",
    "SUBJECT",
    "EditRequest",
    "RequestError",
    "Verb",
]
