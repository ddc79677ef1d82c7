"""A few rows of a benchmark side by side: scene and mask, the subject's photo, the truth, and what each method made."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from intarsia.evaluation.bench.manifest import SIZE_CLASSES, Benchmark, Row
from intarsia.evaluation.bench.measures import TASKS
from intarsia.evaluation.bench.picture_files import read_rgb
from intarsia.evaluation.bench.results_folder import Result, is_whole
from intarsia.evaluation.charts import FAINT, GRID, INK, PAPER
from intarsia.imaging import Picture

TILE, ROWS_EACH = 144, 2
_MARK, _GAP, _TITLE, _BODY = (226, 60, 50), 14, 22, 13
_ROOM, _LEAST_SIDE = 2.5, 64
SCENE, PHOTO, TRUE = "the scene and the mask", "the subject", "true render"
RULE = (
    f"Of each task and size of mask {ROWS_EACH} rows that any method has a picture of: the first in the benchmark's "
    "order of a subject that is not on the sheet yet (if all are, the first of any): not chosen by their looks. "
    "The first two pictures of a row are whole; all others show the same square around the mask, "
    f"{_ROOM:g} times as wide as its box's longer side where the scene has room for it."
)


@dataclass(frozen=True, eq=False)
class SheetRow:
    """``tiles``: column -> picture of ``TILE`` pixels, None where there is none."""

    row: Row
    tiles: Mapping[str, Image.Image | None]


def sheet_rows(benchmark: Benchmark, folder: Path, results: Sequence[Result], methods: Sequence[str]) -> list[SheetRow]:
    """The rows by the rule above. ``folder``: of the results; pictures that lie elsewhere, are not the listed ones by
    their hash, or cannot be read are left out."""
    made = {(result.row, result.method): result for result in results if result.picture is not None}
    with_truth = any(row.truth is not None for row in benchmark.rows)
    sheet = []
    for row in _chosen(benchmark, made, methods):
        scene, mask = _read(benchmark.folder, row.scene), _read(benchmark.folder, row.mask)
        if scene is None or mask is None:
            continue
        window = _window(mask.convert("L"))
        shots = benchmark.subjects[row.subject].photos
        tiles = {
            SCENE: _tile(_outlined(scene, mask.convert("L"))),
            PHOTO: _tile(_read(benchmark.folder, shots[0].image if shots else None)),
        }
        if with_truth:
            present = row.truth.present if row.truth else None
            tiles[TRUE] = _tile(_read(benchmark.folder, present), window, scene.size)
        for method in methods:
            result = made.get((row.id, method))
            good = result is not None and is_whole(folder, result)
            tiles[method] = _tile(_read(folder, result.picture if good and result else None), window, scene.size)
        sheet.append(SheetRow(row, tiles))
    return sheet


def draw_sheet(title: str, rows: Sequence[SheetRow], names: Mapping[str, str]) -> Picture:
    """One line a row. ``names``: column -> its heading."""
    columns = list(rows[0].tiles) if rows else []
    heading, body = ImageFont.load_default(_TITLE), ImageFont.load_default(_BODY)
    top, below = _GAP * 2 + _TITLE + 3 * (_BODY + 3), _BODY + 8
    width = max(_GAP + len(columns) * (TILE + _GAP), 2 * _GAP + int(heading.getlength(title)))
    page = Image.new("RGB", (width, top + len(rows) * (TILE + below + _GAP) + _GAP), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _GAP), title, fill=INK, font=heading)
    for number, column in enumerate(columns):
        lines = textwrap.wrap(names.get(column, column), 21)[:3]
        for line, text in enumerate(lines):
            y = top - (len(lines) - line) * (_BODY + 3) - 4
            pen.text((_GAP + number * (TILE + _GAP), y), text, fill=INK, font=body)
    for number, one in enumerate(rows):
        y = top + number * (TILE + below + _GAP)
        for place, column in enumerate(columns):
            x, tile = _GAP + place * (TILE + _GAP), one.tiles.get(column)
            if tile is None:
                pen.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=GRID)
                pen.text((x + TILE / 2, y + TILE / 2), "no picture", fill=FAINT, font=body, anchor="mm")
            else:
                page.paste(tile, (x, y))
        pen.text((_GAP, y + TILE + 4), caption_of(one.row), fill=FAINT, font=body)
    return Picture.from_image(page)


def caption_of(row: Row) -> str:
    """What was asked for."""
    edit = f", {row.edit}" if row.edit else ""
    return f"{row.task}{edit}, {row.size} {row.shape}: “{row.prompt}” ({row.id})"


def data_uri(image: Image.Image) -> str:
    """A picture inside the page."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _chosen(benchmark: Benchmark, made: Mapping[tuple[str, str], Result], methods: Sequence[str]) -> list[Row]:
    """By the rule."""
    there = [row for row in benchmark.rows if any((row.id, method) in made for method in methods)]
    chosen: list[Row] = []
    for task in TASKS:
        for size in SIZE_CLASSES:
            fit = [row for row in there if row.task == task and row.size == size]
            for _ in range(min(ROWS_EACH, len(fit))):
                seen = {row.subject for row in chosen}
                left = [row for row in fit if row not in chosen]
                chosen.append(next((row for row in left if row.subject not in seen), left[0]))
    return chosen


def _read(folder: Path, name: str | None) -> Image.Image | None:
    if name is None:
        return None
    try:
        return Image.fromarray(read_rgb(folder / name))
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _window(mask: Image.Image) -> tuple[float, float, float]:
    """Left, top and side of a square around a mask, as far as that can be inside the picture."""
    left, top, right, bottom = mask.point(lambda value: 255 * (value > 127)).getbbox() or (0, 0, *mask.size)
    side = min(max(_ROOM * max(right - left, bottom - top), _LEAST_SIDE), *mask.size)
    x, y = ((near + far - side) / 2 for near, far in ((left, right), (top, bottom)))
    return min(max(x, 0.0), mask.width - side), min(max(y, 0.0), mask.height - side), side


def _tile(
    image: Image.Image | None,
    window: tuple[float, float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> Image.Image | None:
    """A square of it, or all of it on a square; ``window`` is of a picture of ``size``."""
    if image is None:
        return None
    if window is not None and size is not None:
        x, y, side = window
        across, down = image.width / size[0], image.height / size[1]
        box = (x * across, y * down, (x + side) * across, (y + side) * down)
        return image.resize((TILE, TILE), Image.Resampling.LANCZOS, box=box)
    small = image.copy()
    small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    if max(small.size) < TILE:
        share = TILE / max(small.size)
        small = small.resize((max(1, round(small.width * share)), max(1, round(small.height * share))))
    tile = Image.new("RGB", (TILE, TILE), PAPER)
    tile.paste(small, ((TILE - small.width) // 2, (TILE - small.height) // 2))
    return tile


def _outlined(scene: Image.Image, mask: Image.Image) -> Image.Image:
    """With a line around the mask, two pixels of the tile wide."""
    hard = mask.point(lambda value: 255 * (value > 127))
    wide = max(1, round(2 * max(scene.size) / TILE))
    grown = hard.filter(ImageFilter.MaxFilter(2 * wide + 1))
    marked = scene.copy()
    marked.paste(_MARK, (0, 0), ImageChops.subtract(grown, hard))
    return marked
