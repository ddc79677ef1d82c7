"""Pictures for the documentation: held-out edits from a photo side by side, and the curves of the β sweep."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from intarsia.evaluation.cases import Bools, Pixels
from intarsia.evaluation.charts import FAINT, INK, PAPER, Curve, draw_chart
from intarsia.evaluation.miniature import within
from intarsia.evaluation.results import ResultsError
from intarsia.evaluation.zero_shot import STRENGTHS, ZeroShotBench
from intarsia.imaging import Picture

_TILE, _GAP, _TITLE, _BODY = 264, 20, 24, 17
_MARK = (226, 60, 50)
_COLUMNS = ("the photo", "the scene and the mask", "Assign alone", "with Refine", "with words, too")


@dataclass(frozen=True, eq=False)
class SheetRow:
    """``photo``, ``scene``, ``assign``, ``refine``, ``both``: (H, W, 3) uint8; ``mask`` (H, W) of the scene."""

    photo: Pixels
    scene: Pixels
    mask: Bools
    assign: Pixels
    refine: Pixels
    both: Pixels
    prompt: str


def sheet_rows(bench: ZeroShotBench, count: int = 5) -> list[SheetRow]:
    """The first cases of the bench, painted as it paints them: not chosen by their looks."""
    rows = []
    for i in range(count):
        case, prompt = bench.case(i), bench.edit(i).prompt
        assign, refine = bench.paint(i, detail_strength=0.0), bench.paint(i, detail_strength=1.0)
        rows.append(SheetRow(bench.photo(i)[0], case.absent, case.mask, assign, refine, bench.paint(i, prompt), prompt))
    return rows


def draw_sheet(rows: Sequence[SheetRow]) -> Picture:
    """One row a case: photo | scene with the mask outlined | Assign | Assign and Refine | photo and words."""
    caption = _BODY * 2 + 14
    top = _GAP + _TITLE + _BODY + 26
    size = (_GAP + len(_COLUMNS) * (_TILE + _GAP), top + len(rows) * (_TILE + caption + _GAP))
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    body = ImageFont.load_default(_BODY)
    title = "Toys that training never saw, from one photo each, without learning"
    pen.text((_GAP, _GAP), title, fill=INK, font=ImageFont.load_default(_TITLE))
    for number, name in enumerate(_COLUMNS):
        pen.text((_GAP + number * (_TILE + _GAP), top - _BODY - 8), name, fill=INK, font=body)
    for number, row in enumerate(rows):
        y = top + number * (_TILE + caption + _GAP)
        scene = row.scene.copy()
        scene[within(row.mask, 1) & ~row.mask] = _MARK
        tiles = (row.photo, scene, row.assign, row.refine, row.both)
        for column, pixels in enumerate(tiles):
            image = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
            page.paste(image, (_GAP + column * (_TILE + _GAP), y))
        x = _GAP + (len(_COLUMNS) - 1) * (_TILE + _GAP)
        for line, text in enumerate(textwrap.wrap(f"“{row.prompt}”", 30)[:2]):
            pen.text((x, y + _TILE + 6 + line * (_BODY + 4)), text, fill=FAINT, font=body)
    return Picture.from_image(page)


def draw_sweep(metrics: Mapping[str, Mapping[str, Any]]) -> Picture:
    """The β sweep of ``zero_shot.json``.

    Raises:
        ResultsError: it was not measured, or not wholly.
    """
    names = {
        "attribute": "the word's attribute is right",
        "top1": "found among 50",
        "instance": "similarity to the photo's subject",
    }
    curves = []
    for measure, name in names.items():
        rows = [metrics.get(f"beta_{measure}_{strength:g}") for strength in STRENGTHS]
        if any(row is None for row in rows):
            raise ResultsError("the β sweep is not measured: run with --bench zero_shot --only beta first")
        values = tuple(float(row["value"]) for row in rows if row is not None)
        labels = tuple(f"{value:.2f}" if measure == "instance" else f"{100 * value:.0f} %" for value in values)
        curves.append(Curve(name, values, labels))
    n = metrics["beta_attribute_0"]["n"]
    title = f"What words and photo decide as the photo grows stronger ({n} held-out edits)"
    return draw_chart(title, "strength of the photo (beta)", "share, or cosine similarity", STRENGTHS, curves)
