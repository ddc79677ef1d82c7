"""Charts as inline SVG, drawn by a few lines; colours come from the page's style and so follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from intarsia.evaluation.bench.cells import Cell

Write = Callable[[float], str]
_SMALL, _LETTER = 12, 6.3
_MARGINS = (58.0, 14.0, 14.0, 46.0)
"""Left, right, top, bottom."""


@dataclass(frozen=True)
class Point:
    """``x`` and ``y``: value, low end, high end; an end is None where there is no interval."""

    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]
    label: str = ""


@dataclass(frozen=True)
class Path:
    """Points joined in their order. ``style``: colour and mark, 0 to 3; None: hollow points beside the matter."""

    name: str
    points: tuple[Point, ...]
    style: int | None = 0


def ends_of(cell: Cell, scale: float = 1.0) -> tuple[float, float | None, float | None]:
    """Of a cell that has a mean, as it is shown."""
    low, high = (None if end is None else end * scale for end in (cell.low, cell.high))
    return (cell.mean or 0.0) * scale, low, high


def ticks(low: float, high: float, least: int = 4) -> list[float]:
    """Round numbers from ``low`` to ``high``, ``least`` or more: the widest steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    power = math.floor(math.log10(high - low))
    for step in (factor * 10.0**exponent for exponent in range(power, power - 3, -1) for factor in (5, 2, 1)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= least:
            break
    return [number * step for number in range(first, last + 1)]


def chart(
    title: str,
    across: str,
    up: str,
    paths: Sequence[Path],
    size: tuple[int, int] = (340, 250),
    places: Sequence[float] | None = None,
) -> str:
    """One chart; ``places``: where the horizontal axis has its numbers, else at round ones. ``title``: for those who
    cannot see it."""
    width, height = size
    every = [point for path in paths for point in path.points]
    (first, last), (lowest, highest) = _reach([point.x for point in every]), _reach([point.y for point in every])
    xs, ys = ticks(first, last) if places is None else sorted(set(places)), ticks(lowest, highest)
    left, right, top, bottom = _MARGINS

    def x_of(value: float) -> float:
        return left + (value - first) / (last - first) * (width - left - right)

    def y_of(value: float) -> float:
        return height - bottom - (value - lowest) / (highest - lowest) * (height - top - bottom)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>']
    for value in ys:
        parts.append(_line("grid", left, y_of(value), width - right, y_of(value)))
        parts.append(_text("tick end", left - 7, y_of(value) + 4, _plain(value, ys)))
    for value in xs:
        parts.append(_line("axis", x_of(value), height - bottom, x_of(value), height - bottom + 4))
        text = f"{value:g}" if places is not None else _plain(value, xs)
        parts.append(_text("tick middle", x_of(value), height - bottom + 17, text))
    parts.append(_line("axis", left, height - bottom, width - right, height - bottom))
    parts.append(_text("name middle", (left + width - right) / 2, height - 8, across))
    middle = (top + height - bottom) / 2
    parts.append(f'<text class="name middle" transform="translate(13 {middle:.1f}) rotate(-90)">{escape(up)}</text>')
    taken: list[tuple[float, float, float]] = []
    for path in paths:
        aside = 0.0 if places is None else 5 * (path.style or 0) - 2.5  # so that intervals at one place lie apart
        parts += _path(path, x_of, y_of, aside)
        taken += [(x_of(point.x[0]), y_of(point.y[0]), 8.0) for point in path.points]
    for path in paths:
        for point in path.points:
            if point.label:
                x, y = _free(x_of(point.x[0]), y_of(point.y[0]), point.label, taken, size)
                shade = "faint" if path.style is None else f"s{path.style}"
                parts.append(_text(f"label {shade}", x, y, point.label))
    return "".join([*parts, "</svg>"])


def legend(paths: Sequence[Path]) -> str:
    """The names of paths with their marks."""
    items = []
    for path in paths:
        style = "hollow" if path.style is None else f"s{path.style}"
        line = "" if path.style is None else _line(f"path {style}", 0, 8, 30, 8)
        mark = f'<svg class="key" viewBox="0 0 30 16">{line}{_mark(path.style, 15, 8)}</svg>'
        items.append(f"<span>{mark} {escape(path.name)}</span>")
    return f'<p class="legend">{"".join(items)}</p>'


def interval_bar(cell: tuple[float, float, float], reach: tuple[float, float], zero: bool = False) -> str:
    """A value and its interval as a thin bar within ``reach``; ``zero``: with a mark at 0."""
    first, last = reach
    span = (last - first) or 1.0

    def at(value: float) -> float:
        return 3 + (value - first) / span * 74

    mean, low, high = cell
    middle = _line("zero", at(0), 0, at(0), 10) if zero and first <= 0 <= last else ""
    bar = _line("span", at(low), 5, at(high), 5)
    dot = f'<circle class="dot" cx="{at(mean):.1f}" cy="5" r="2.6"/>'
    return f'<svg class="bar" viewBox="0 0 80 10">{middle}{bar}{dot}</svg>'


def _reach(values: Sequence[tuple[float, float | None, float | None]]) -> tuple[float, float]:
    every = [end for value in values for end in value if end is not None]
    low, high = min(every), max(every)
    room = (high - low) * 0.05 or abs(low) * 0.05 or 1.0
    return low - room, high + room


def _path(path: Path, x_of: Callable[[float], float], y_of: Callable[[float], float], aside: float) -> list[str]:
    style = "hollow" if path.style is None else f"s{path.style}"
    parts = []
    if path.style is not None and len(path.points) > 1:
        places = " ".join(f"{x_of(point.x[0]) + aside:.1f},{y_of(point.y[0]):.1f}" for point in path.points)
        parts.append(f'<polyline class="path {style}" points="{places}"/>')
    for point in path.points:
        (x, x_low, x_high), (y, y_low, y_high) = point.x, point.y
        if y_low is not None and y_high is not None:
            parts.append(_line(f"whisker {style}", x_of(x) + aside, y_of(y_low), x_of(x) + aside, y_of(y_high)))
        if x_low is not None and x_high is not None:
            parts.append(_line(f"whisker {style}", x_of(x_low), y_of(y), x_of(x_high), y_of(y)))
        parts.append(_mark(path.style, x_of(x) + aside, y_of(y)))
    return parts


def _mark(style: int | None, x: float, y: float) -> str:
    if style == 1:
        return f'<rect class="mark s1" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if style == 2:
        return f'<path class="mark s2" d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'
    if style == 3:
        return f'<path class="mark s3" d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"/>'
    return f'<circle class="mark {"hollow" if style is None else "s0"}" cx="{x:.1f}" cy="{y:.1f}" r="4.4"/>'


def _free(
    x: float, y: float, text: str, taken: list[tuple[float, float, float]], size: tuple[int, int]
) -> tuple[float, float]:
    """Where a label begins: near its point, inside the chart, and on no other label or point."""
    width = len(text) * _LETTER
    tries = [(8.0, -8.0), (8.0, 16.0), (-8 - width, -8.0), (-8 - width, 16.0), (-width / 2, -13.0), (-width / 2, 23.0)]
    tries += [(12.0, -22.0), (12.0, 30.0), (-12 - width, -22.0), (-12 - width, 30.0)]

    def clear(dx: float, dy: float) -> bool:
        if x + dx < _MARGINS[0] or x + dx + width > size[0] or not _SMALL < y + dy < size[1] - _MARGINS[3]:
            return False
        middle = y + dy - 4
        return all(
            abs(middle - other) > _SMALL or x + dx > begin + long or x + dx + width < begin - 4
            for begin, other, long in taken
        )

    dx, dy = next((one for one in tries if clear(*one)), tries[0])
    taken.append((x + dx, y + dy - 4, width))
    return x + dx, y + dy


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(style: str, x: float, y: float, text: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _plain(value: float, among: Sequence[float]) -> str:
    """With as many decimals as the steps between the numbers need."""
    step = abs(among[1] - among[0]) if len(among) > 1 else 1.0
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{places}f}" if abs(value) > step / 1e3 else "0"
