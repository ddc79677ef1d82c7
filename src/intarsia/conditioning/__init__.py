"""Words -> what the U-Net attends to, and the substitution of attributes in it (eq. 9)."""

from intarsia.conditioning.attributes import orthonormal_basis, remove_directions, substitute_attributes
from intarsia.conditioning.embeddings import Conditioning, ScheduledConditioning
from intarsia.conditioning.errors import ConditioningError, PromptTruncatedWarning
from intarsia.conditioning.prompts import empty_conditioning, encode_prompt
from intarsia.conditioning.spans import spans

__all__ = [
    "Conditioning",
    "ConditioningError",
    "PromptTruncatedWarning",
    "ScheduledConditioning",
    "empty_conditioning",
    "encode_prompt",
    "orthonormal_basis",
    "remove_directions",
    "spans",
    "substitute_attributes",
]
