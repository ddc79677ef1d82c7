"""Things injected into a backbone and ejected without a trace, and the files they live in."""

from intarsia.adapters.errors import AdapterError, AdapterFileError, AdapterKeyError
from intarsia.adapters.files import load_lora, save_lora
from intarsia.adapters.keys import from_diffusers, to_diffusers
from intarsia.adapters.subject_lora import SubjectLora

__all__ = [
    "AdapterError",
    "AdapterFileError",
    "AdapterKeyError",
    "SubjectLora",
    "from_diffusers",
    "load_lora",
    "save_lora",
    "to_diffusers",
]
