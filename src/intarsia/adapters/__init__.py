"""Things injected into a backbone and ejected without a trace, and the files they live in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.adapters.errors import AdapterError, AdapterFileError, AdapterKeyError
from intarsia.adapters.files import load_lora, save_lora
from intarsia.adapters.keys import from_diffusers, to_diffusers
from intarsia.adapters.subject_lora import SubjectLora
from intarsia.lazy import lazy_names

if TYPE_CHECKING:
    from intarsia.adapters.assign import Assign, AssignConfig
    from intarsia.adapters.reference_files import ReferenceAdapters, load_reference, max_references_of, save_reference
    from intarsia.adapters.refine import Refine, RefineConfig

# Modules of torch are loaded when first asked for, so that checks of a request stay quick.
_LAZY = {
    "Assign": "assign",
    "AssignConfig": "assign",
    "ReferenceAdapters": "reference_files",
    "Refine": "refine",
    "RefineConfig": "refine",
    "load_reference": "reference_files",
    "max_references_of": "reference_files",
    "save_reference": "reference_files",
}

__all__ = [
    "AdapterError",
    "AdapterFileError",
    "AdapterKeyError",
    "Assign",
    "AssignConfig",
    "ReferenceAdapters",
    "Refine",
    "RefineConfig",
    "SubjectLora",
    "from_diffusers",
    "load_lora",
    "load_reference",
    "max_references_of",
    "save_lora",
    "save_reference",
    "to_diffusers",
]

__getattr__ = lazy_names(__name__, _LAZY)
