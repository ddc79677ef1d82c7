"""What can go wrong while learning a subject."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, KnobError


class LearningError(IntarsiaError):
    """Learning cannot start or go on."""


class PhotosError(LearningError):
    """The photos of a subject cannot be used."""


class LearnConfigError(LearningError, KnobError):
    """A setting of the learning is outside its range."""


class DictionaryError(LearningError):
    """An attribute dictionary is malformed."""


class SubjectError(LearningError):
    """A subject file is not one of ours, or not whole."""


class OtherBaseError(SubjectError):
    """The subject was learned on another base model than the one in use."""


class ResumeError(LearningError):
    """A work folder holds the checkpoint of another run."""
