"""Words and reference photos -> what the U-Net attends to, and the substitution of attributes in it (eq. 9)."""

from intarsia.conditioning.attributes import orthonormal_basis, remove_directions, substitute_attributes
from intarsia.conditioning.embeddings import Conditioning, ScheduledConditioning
from intarsia.conditioning.errors import ConditioningError, PromptTruncatedWarning
from intarsia.conditioning.prompts import empty_conditioning, encode_prompt
from intarsia.conditioning.reference import CutOut, ReferenceViews, cut_out, reference_views
from intarsia.conditioning.reference_guide import ReferenceGuide
from intarsia.conditioning.reference_options import ReferenceOptions
from intarsia.conditioning.spans import spans

__all__ = [
    "Conditioning",
    "ConditioningError",
    "CutOut",
    "PromptTruncatedWarning",
    "ReferenceGuide",
    "ReferenceOptions",
    "ReferenceViews",
    "ScheduledConditioning",
    "cut_out",
    "empty_conditioning",
    "encode_prompt",
    "orthonormal_basis",
    "reference_views",
    "remove_directions",
    "spans",
    "substitute_attributes",
]
