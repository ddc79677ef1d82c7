"""What can be wrong with an edit as a whole."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, PictureError


class EditingError(IntarsiaError):
    """Inputs of an edit that do not go together."""


class SceneSizeError(PictureError):
    """A scene too small or too long to be painted in."""


class NothingAddedError(EditingError):
    """An instruction model gave its source back."""


class SceneLostError(EditingError):
    """An instruction model painted another picture instead of adding to the scene."""


class InputChangedError(EditingError):
    """A file is not the one that a request was made with."""


class ReferencePhotoError(EditingError):
    """A reference photo that cannot be used: the scene itself, or one too many."""


class ReferenceModelError(EditingError):
    """Weights for references that are not there, or are not those of the request."""
