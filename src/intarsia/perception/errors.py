"""What can go wrong while looking at pictures."""

from __future__ import annotations

from intarsia.errors import IntarsiaError


class PerceptionError(IntarsiaError):
    """A picture, or what is known about it, cannot be interpreted."""


class VocabularyError(PerceptionError):
    """A vocabulary of attributes is malformed."""


class NamerError(PerceptionError):
    """The attributes of a subject cannot be named."""


class CutOutError(PerceptionError):
    """The subject cannot be cut out of a photo."""


class HelperError(PerceptionError):
    """A helper model of a data engine cannot be loaded, or answers with what cannot be used."""


class HelperAwayError(HelperError):
    """The server of a helper model is down, busy or closed to us: whatever is asked of it, it will not answer now."""
