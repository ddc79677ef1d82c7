"""What can be wrong with an edit as a whole."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, PictureError


class EditingError(IntarsiaError):
    """Inputs of an edit that do not go together."""


class SceneSizeError(PictureError):
    """A scene too small or too long to be painted in."""


class InputChangedError(EditingError):
    """A file is not the one that a request was made with."""
