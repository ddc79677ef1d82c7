"""What can be wrong with words."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, IntarsiaWarning


class ConditioningError(IntarsiaError):
    """A prompt, an attribute or a setting of the conditioning cannot be used."""


class PromptTruncatedWarning(IntarsiaWarning):
    """The prompt is longer than the tokenizer's window; the message names the words that were cut."""
