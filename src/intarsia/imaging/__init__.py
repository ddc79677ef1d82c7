"""Pictures, masks, windows, and putting pixels back so that everything untouched stays untouched. numpy and
Pillow only."""

from intarsia.imaging.compositing import Composite, composite
from intarsia.imaging.files import check_writable, write_file_atomically
from intarsia.imaging.mask import Mask, MaskSource
from intarsia.imaging.membrane import fill_hole
from intarsia.imaging.picture import Picture
from intarsia.imaging.png import read_png_text
from intarsia.imaging.seam import match_seam
from intarsia.imaging.window import Resample, Window

__all__ = [
    "Composite",
    "Mask",
    "MaskSource",
    "Picture",
    "Resample",
    "Window",
    "check_writable",
    "composite",
    "fill_hole",
    "match_seam",
    "read_png_text",
    "write_file_atomically",
]
