"""Learning a subject from a few photos: attribute decoupling, reweighted loss, one small file.

Importing this room is cheap; torch is imported when something is learned or loaded.
"""

from intarsia.learning.advisor import OfflineAdvisor, require_advisor
from intarsia.learning.bank import Bank, Sample
from intarsia.learning.config import PRESETS, LearnConfig
from intarsia.learning.dictionary import AttributeDictionary
from intarsia.learning.errors import (
    DictionaryError,
    LearnConfigError,
    LearningError,
    OtherBaseError,
    PhotosError,
    ResumeError,
    SubjectError,
)
from intarsia.learning.identity import prompt_with_token
from intarsia.learning.learn import checked_class_noun, learn_subject
from intarsia.learning.photos import Photo, Photos
from intarsia.learning.progress import LearnProgress
from intarsia.learning.recombination import recombine
from intarsia.learning.regular import Painter, RegularImage
from intarsia.learning.subject import Subject
from intarsia.learning.trainer import train
from intarsia.perception import AttributeAdvisor, AttributeNamer, RegularPrompt

__all__ = [
    "PRESETS",
    "AttributeAdvisor",
    "AttributeDictionary",
    "AttributeNamer",
    "Bank",
    "DictionaryError",
    "LearnConfig",
    "LearnConfigError",
    "LearnProgress",
    "LearningError",
    "OfflineAdvisor",
    "OtherBaseError",
    "Painter",
    "Photo",
    "Photos",
    "PhotosError",
    "RegularImage",
    "RegularPrompt",
    "ResumeError",
    "Sample",
    "Subject",
    "SubjectError",
    "checked_class_noun",
    "learn_subject",
    "prompt_with_token",
    "recombine",
    "require_advisor",
    "train",
]
