"""Things injected into a backbone and ejected without a trace, and the files they live in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intarsia.adapters.errors import AdapterError, AdapterFileError, AdapterKeyError
from intarsia.adapters.files import load_lora, read_metadata, save_lora
from intarsia.adapters.fused import FusedLoras
from intarsia.adapters.keys import from_diffusers, to_diffusers
from intarsia.adapters.lora import Lora, LoraLayer
from intarsia.adapters.lora_formats import file_beside, read_lora, refuse_pickle, write_lora
from intarsia.adapters.lora_metadata import base_of
from intarsia.adapters.lora_modules import LoraModules
from intarsia.adapters.lora_names import LORA_FORMATS
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
    "LORA_FORMATS",
    "AdapterError",
    "AdapterFileError",
    "AdapterKeyError",
    "Assign",
    "AssignConfig",
    "FusedLoras",
    "Lora",
    "LoraLayer",
    "LoraModules",
    "ReferenceAdapters",
    "Refine",
    "RefineConfig",
    "SubjectLora",
    "base_of",
    "file_beside",
    "from_diffusers",
    "load_lora",
    "load_reference",
    "max_references_of",
    "read_lora",
    "read_metadata",
    "refuse_pickle",
    "save_lora",
    "save_reference",
    "to_diffusers",
    "write_lora",
]

__getattr__ = lazy_names(__name__, _LAZY)
