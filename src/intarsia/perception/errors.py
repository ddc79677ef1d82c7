"""What can go wrong while looking at pictures."""

from __future__ import annotations

import re

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


def shortened(text: str, most: int = 300) -> str:
    """On one line, at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def public(option: str) -> str:
    """An address, or an option with one, without what may be secret in it: name, password and query."""
    hidden = re.sub(r"//.*@.*", "//…", option)
    return shortened(re.sub(r"\?[^#]*", "?…", hidden) if "://" in hidden else hidden)


def quoted(value: object) -> str:
    """What somebody else said, as errors show it: at most 80 characters."""
    return shortened(repr(value), 80)
