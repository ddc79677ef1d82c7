"""The demo's contact sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from intarsia.imaging import Picture

WIDTH = 1440
GAP = 24
PAPER, INK, FAINT, MARK = (250, 249, 246), (32, 32, 36), (110, 110, 116), (226, 60, 50)
TITLE, BODY = 26, 18
_CLOSE_UP = 1.35
"""A close-up shows this many times the box's longer side."""


Tiles = tuple[tuple[Picture, str], ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is on it; `box` is (x, y, width, height) in the scene; results are pictures and their prompts."""

    photos: tuple[Picture, ...]
    scene: Picture
    box: tuple[int, int, int, int]
    results: Tiles
    description: str
    rows: tuple[tuple[str, Tiles], ...] = ()
    """Further rows: a heading, pictures with captions."""


def draw_sheet(sheet: Sheet) -> Picture:
    """Rows: the photos; the scene with the mask outlined and the results, enlarged; each place close up; the
    further rows.
    """
    page = _Page()
    page.heading(f"Learned from {len(sheet.photos)} photos: {sheet.description}")
    page.row([(_image(photo), "") for photo in sheet.photos])
    page.heading("Painted into a picture, at a mask, as words tell it to")
    marked = _image(sheet.scene)
    pictures = [(_image(picture), f"“{prompt}”") for picture, prompt in sheet.results]
    page.row([(marked, "the scene and the mask"), *pictures], outline=sheet.box)
    page.heading("The same places, close up")
    frame = _close_up(sheet.box, marked.size)
    page.row([(image.crop(frame), "") for image, _ in [(marked, ""), *pictures]])
    for heading, tiles in sheet.rows:
        page.heading(heading)
        page.row([(_image(picture), caption) for picture, caption in tiles])
    return page.picture()


class _Page:
    """Grows downwards."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (WIDTH, 4000), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.y = GAP

    def heading(self, text: str) -> None:
        self.pen.text((GAP, self.y), text, fill=INK, font=ImageFont.load_default(TITLE))
        self.y += TITLE + GAP // 2

    def row(self, tiles: list[tuple[Image.Image, str]], outline: tuple[int, int, int, int] | None = None) -> None:
        """Equally wide tiles with captions under them; `outline` is drawn on the first."""
        font = ImageFont.load_default(BODY)
        side = (WIDTH - GAP * (len(tiles) + 1)) // len(tiles)
        tallest = lines = 0
        for number, (image, caption) in enumerate(tiles):
            left, height = GAP + number * (side + GAP), round(side * image.height / image.width)
            self.image.paste(image.resize((side, height), Image.Resampling.LANCZOS), (left, self.y))
            if outline is not None and number == 0:
                scale = side / image.width
                x, y, width, tall = (round(value * scale) for value in outline)
                corner = (left + x, self.y + y)
                self.pen.rectangle((*corner, corner[0] + width, corner[1] + tall), outline=MARK, width=3)
            wrapped = _wrap(caption, side, font)
            for line, text in enumerate(wrapped):
                place = (left, self.y + height + 8 + line * (BODY + 5))
                self.pen.text(place, text, fill=FAINT, font=font)
            tallest, lines = max(tallest, height), max(lines, len(wrapped))
        self.y += tallest + GAP + (8 + lines * (BODY + 5) if lines else 0)

    def picture(self) -> Picture:
        return Picture.from_image(self.image.crop((0, 0, WIDTH, self.y)))


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _close_up(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square (left, top, right, bottom) around the box, moved into `size` (width, height)."""
    x, y, width, height = box
    side = min(round(_CLOSE_UP * max(width, height)), *size)
    left = min(max(x + (width - side) // 2, 0), size[0] - side)
    top = min(max(y + (height - side) // 2, 0), size[1] - side)
    return left, top, left + side, top + side


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture.rgb() * 255).astype(np.uint8))
