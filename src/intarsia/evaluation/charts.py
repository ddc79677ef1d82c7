"""A line chart drawn with Pillow, in the manner of the demo's sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from intarsia.imaging import Picture

PAPER, INK, FAINT, GRID = (250, 249, 246), (32, 32, 36), (110, 110, 116), (222, 220, 214)
COLOURS = ((196, 60, 48), (36, 96, 170), (58, 132, 78), (140, 90, 160))
_WIDTH, _HEIGHT = 1080, 680
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 40, 130, 80
_TITLE, _BODY, _SMALL = 24, 18, 15


@dataclass(frozen=True)
class Curve:
    """``values`` in [0, 1] at the chart's places; ``labels``: what is written at each point."""

    name: str
    values: tuple[float, ...]
    labels: tuple[str, ...]


def draw_chart(title: str, across: str, up: str, places: Sequence[float], curves: Sequence[Curve]) -> Picture:
    """Curves over ``places``, 0 to 1 upwards; both axes are labelled and every point has its number."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    body, small = ImageFont.load_default(_BODY), ImageFont.load_default(_SMALL)
    pen.text((_LEFT, 22), title, fill=INK, font=ImageFont.load_default(_TITLE))
    first, span = min(places), (max(places) - min(places)) or 1.0

    def x_of(place: float) -> float:
        return _LEFT + 20 + (place - first) / span * (_WIDTH - _LEFT - _RIGHT - 40)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - min(max(value, 0.0), 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    for tenth in range(0, 11, 2):
        y = y_of(tenth / 10)
        pen.line((_LEFT, y, _WIDTH - _RIGHT, y), fill=GRID)
        pen.text((_LEFT - 12, y), f"{tenth / 10:.1f}", fill=FAINT, font=small, anchor="rm")
    for place in places:
        x = x_of(place)
        pen.line((x, _HEIGHT - _BOTTOM, x, _HEIGHT - _BOTTOM + 6), fill=FAINT)
        pen.text((x, _HEIGHT - _BOTTOM + 12), f"{place:g}", fill=FAINT, font=small, anchor="mt")
    pen.line((_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM), fill=FAINT)
    pen.text(((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 34), across, fill=INK, font=body, anchor="mt")
    side = Image.new("L", (_HEIGHT, 30))
    ImageDraw.Draw(side).text((_HEIGHT / 2, 15), up, fill=255, font=body, anchor="mm")
    turned = side.rotate(90, expand=True)
    image.paste(INK, (14, (_TOP - _BOTTOM) // 2), turned)
    left = float(_LEFT)
    drawn = list(zip(COLOURS, curves, strict=False))
    for colour, curve in drawn:
        pen.line((left, 82, left + 34, 82), fill=colour, width=4)
        pen.text((left + 44, 82), curve.name, fill=INK, font=body, anchor="lm")
        left += 44 + body.getlength(curve.name) + 36
        points = [(x_of(place), y_of(value)) for place, value in zip(places, curve.values, strict=True)]
        pen.line(points, fill=colour, width=4, joint="curve")
        for x, y in points:
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour, outline=PAPER, width=2)
    for number, place in enumerate(places):
        taken = [y_of(curve.values[number]) for _, curve in drawn]
        for colour, curve in sorted(drawn, key=lambda one: -one[1].values[number]):
            at = _free(y_of(curve.values[number]), taken)
            taken.append(at)
            label = curve.labels[number]
            pen.text((x_of(place), at), label, colour, small, anchor="mm", stroke_width=3, stroke_fill=PAPER)
    return Picture.from_image(image)


def _free(y: float, taken: Sequence[float]) -> float:
    """Where a number stands, near its point and not on another one."""
    tries = [y - 18, y + 18, y - 36, y + 36, y - 54, y + 54]
    return next((at for at in tries if all(abs(at - other) > _SMALL for other in taken)), tries[0])
