"""Frozen helpers that look at pictures: naming a subject's attributes, cutting it out.

Importing this room is cheap; torch is imported when the backbone's towers are asked.
"""

from intarsia.perception.chat_namer import ChatNamer
from intarsia.perception.cutout import estimate_mask
from intarsia.perception.errors import NamerError, PerceptionError, VocabularyError
from intarsia.perception.namer import AttributeNamer, YamlNamer, checked_attributes, namer_from_option
from intarsia.perception.phrases import describe
from intarsia.perception.vocabulary import ABSENT, KINDS, Mention, Vocabulary, subject_phrase
from intarsia.perception.vocabulary_namer import VocabularyNamer

__all__ = [
    "ABSENT",
    "KINDS",
    "AttributeNamer",
    "ChatNamer",
    "Mention",
    "NamerError",
    "PerceptionError",
    "Vocabulary",
    "VocabularyError",
    "VocabularyNamer",
    "YamlNamer",
    "checked_attributes",
    "describe",
    "estimate_mask",
    "namer_from_option",
    "subject_phrase",
]
