"""Pictures, masks, windows, and putting pixels back so that everything untouched stays untouched. numpy and
Pillow only."""

from intarsia.imaging.canvas import Anchor, Margins, extend_canvas, frame_around
from intarsia.imaging.compositing import Composite, composite
from intarsia.imaging.files import check_writable, write_file_atomically
from intarsia.imaging.mask import Mask, MaskSource
from intarsia.imaging.membrane import fill_hole
from intarsia.imaging.picture import Picture
from intarsia.imaging.png import read_png_text
from intarsia.imaging.seam import match_seam
from intarsia.imaging.tiles import plan_tiles
from intarsia.imaging.window import Resample, Window

__all__ = [
    "Anchor",
    "Composite",
    "Margins",
    "Mask",
    "MaskSource",
    "Picture",
    "Resample",
    "Window",
    "check_writable",
    "composite",
    "extend_canvas",
    "fill_hole",
    "frame_around",
    "match_seam",
    "plan_tiles",
    "read_png_text",
    "write_file_atomically",
]
