"""Calibration curves as a picture: success of the kept over the rejected share, drawn with Pillow."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from intarsia.engines.pairs.calibration import Calibration, CalibrationCurve
from intarsia.imaging import Picture

_PAPER, _INK, _FAINT, _GRID = (250, 249, 246), (32, 32, 36), (110, 110, 116), (222, 220, 214)
_COLOURS = ((196, 60, 48), (36, 96, 170), (58, 132, 78), (140, 90, 160), (200, 130, 30), (60, 150, 160))
_WIDTH, _HEIGHT = 1080, 680
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 40, 150, 80
_PER_LINE = 3


def draw_calibration(found: Calibration) -> Picture:
    """Up to six curves, those with the highest AUC; the chosen thresholds are marked with their values."""
    curves = sorted(found.curves, key=lambda curve: -curve.auc)[: len(_COLOURS)]
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(image)
    title, body, small = (ImageFont.load_default(size) for size in (24, 18, 15))
    pen.text((_LEFT, 22), f"Removals that succeeded, of the kept ({found.labelled} labels)", fill=_INK, font=title)
    low = min(min(curve.success) for curve in curves)
    floor = max(0.0, int(min(low, found.success) * 10) / 10)

    def x_of(share: float) -> float:
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y_of(share: float) -> float:
        return _HEIGHT - _BOTTOM - (share - floor) / (1 - floor or 1) * (_HEIGHT - _TOP - _BOTTOM)

    for tenth in range(0, 11):
        across, up = tenth / 10, floor + (1 - floor) * tenth / 10
        pen.line((_LEFT, y_of(up), _WIDTH - _RIGHT, y_of(up)), fill=_GRID)
        pen.text((_LEFT - 12, y_of(up)), f"{up:.0%}", fill=_FAINT, font=small, anchor="rm")
        pen.text((x_of(across), _HEIGHT - _BOTTOM + 12), f"{across:.0%}", fill=_FAINT, font=small, anchor="mt")
    pen.line((_LEFT, _TOP, _LEFT, _HEIGHT - _BOTTOM, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM), fill=_FAINT)
    pen.text(((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 34), "rejected", fill=_INK, font=body, anchor="mt")
    for number, (colour, curve) in enumerate(zip(_COLOURS, curves, strict=False)):
        left = _LEFT + (number % _PER_LINE) * 310
        top = 72 + 28 * (number // _PER_LINE)
        pen.line((left, top, left + 30, top), fill=colour, width=4)
        pen.text((left + 40, top), f"{curve.score} (AUC {curve.auc:.2f})", fill=_INK, font=body, anchor="lm")
        points = [(x_of(x), y_of(y)) for x, y in zip(curve.rejected, curve.success, strict=True)]
        pen.line(points, fill=colour, width=3, joint="curve")
        _mark(pen, curve, colour, points, small)
    return Picture.from_image(image)


def _mark(
    pen: ImageDraw.ImageDraw,
    curve: CalibrationCurve,
    colour: tuple[int, int, int],
    points: list[tuple[float, float]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    if curve.chosen is None:
        return
    x, y = points[curve.chosen]
    pen.ellipse((x - 7, y - 7, x + 7, y + 7), fill=colour, outline=_PAPER, width=2)
    pen.text(
        (x, y - 18), f"{curve.threshold:.3g}", fill=colour, font=font, anchor="mm", stroke_width=3, stroke_fill=_PAPER
    )
