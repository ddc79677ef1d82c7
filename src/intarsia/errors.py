"""Errors and warnings that a user can act on.

Every error of the package derives from `IntarsiaError`, which is a `ValueError`. Its message is one line that
says what was wrong, with which value, and what to do about it. Rooms may add their own subclasses.
"""

from __future__ import annotations


class IntarsiaError(ValueError):
    """Base of all errors caused by input or surroundings rather than by a defect of the program."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).splitlines()))


class IntarsiaWarning(UserWarning):
    """Something the user should know about, although the work goes on."""


# Pictures and files


class PictureError(IntarsiaError):
    """A picture cannot be used."""


class MissingFileError(PictureError):
    """The file does not exist or is not a file."""


class NotAnImageError(PictureError):
    """The file exists but is in no image format that can be read."""


class UnreadableImageError(PictureError):
    """The file is an image, but broken, cut short, or not permitted to be read."""


class ZeroSizeError(PictureError):
    """The file holds no bytes, or the picture no pixels."""


class TooLargeError(PictureError):
    """The picture has more pixels than the limit; raised before any pixel is decoded."""


class UnsupportedPixelsError(PictureError):
    """The pixels are of a kind that cannot be edited without losing them, or the array has a wrong shape."""


class NonFiniteError(PictureError):
    """NaN or infinity among pixels that were about to be written."""


class SizeMismatchError(PictureError):
    """Two things that must have the same height and width have not."""


class OutputError(IntarsiaError):
    """A file cannot be written."""


class OutputExistsError(OutputError):
    """The output file exists already and overwriting was not asked for."""


class OutputFormatError(OutputError):
    """The output's suffix or size does not fit any format that can be written."""


class DiskFullError(OutputError):
    """No space left while writing; nothing half-written stays behind."""


# Masks and windows


class MaskError(IntarsiaError):
    """A mask cannot be used."""


class EmptyMaskError(MaskError):
    """The mask marks no pixel for repainting."""


class FullMaskError(MaskError):
    """The mask marks every pixel for repainting."""


class MaskSizeError(MaskError, SizeMismatchError):
    """The mask's size is not the picture's size."""


class BoxError(MaskError):
    """A box "x,y,w,h" is malformed or not inside the picture."""


class WindowError(IntarsiaError):
    """A window does not lie inside the scene, or cannot be made."""


class KnobError(IntarsiaError):
    """A number given by the user is outside its range."""
