"""A contact sheet of what learning saw: windows of the photos with their masks, and regular images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from intarsia.imaging import Picture
from intarsia.learning.regular import RegularImage
from intarsia.learning.views import View

_CELL = 128
_GAP = 6
_LINE = 14
_COLUMNS = 6
_MOST = 24
_TINT = np.array([1.0, 0.25, 0.1], np.float32)


def write_preview(path: Path, views: Sequence[View], regular: Sequence[RegularImage]) -> None:
    """Write a PNG: up to 24 windows with the mask tinted, then all regular images with prompt and verdict."""
    step = max(1, len(views) // _MOST)
    shown = list(views[::step])[:_MOST]
    cells = [(_tinted(view), f"window {index + 1}") for index, view in enumerate(shown)]
    cells += [(image.rgb, f"{'kept' if image.kept else image.reason}: {image.prompt.text}") for image in regular]
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (_CELL + _GAP) + _GAP, rows * (_CELL + _LINE + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (rgb, words) in enumerate(cells):
        left = _GAP + index % _COLUMNS * (_CELL + _GAP)
        top = _GAP + index // _COLUMNS * (_CELL + _LINE + _GAP)
        image = Image.fromarray(np.rint(rgb * 255).astype(np.uint8))
        image.thumbnail((_CELL, _CELL))
        scaled = image.resize(_fit(image.size), Image.Resampling.BICUBIC)
        sheet.paste(scaled, (left, top))
        pen.text((left, top + _CELL + 1), words.removeprefix("kept: a photo of a ")[:24], fill="black")
    Picture.from_image(sheet).save(path, overwrite=True)


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    scale = _CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _tinted(view: View) -> NDArray[np.float32]:
    share = np.float32(0.45) * view.mask[..., None]
    return np.asarray(view.image * (1 - share) + _TINT * share, np.float32)
