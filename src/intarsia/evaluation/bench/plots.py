"""What happens as one setting changes: λ (the paper's Fig. 5), and identity against editability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from intarsia.errors import IntarsiaError
from intarsia.evaluation.bench.cells import FEWEST_SUBJECTS, Cells
from intarsia.evaluation.bench.manifest import Row
from intarsia.evaluation.bench.measures import TASKS, measure_of, number_of, split_variant, title_of
from intarsia.evaluation.bench.methods import LEARN_PREFIX
from intarsia.evaluation.bench.svg import Path, Point, chart, ends_of, legend
from intarsia.request import PRESETS

_PANELS = ("clip_t_crop", "clip_i_crop", "dino_crop", "attribute", "top1", "seam")
_PLANES = (("attribute", "top1"), ("clip_t_crop", "clip_i_crop"), ("clip_t_crop", "dino_crop"))
_ON_PLANES = ("learn_steps", "subject_strength")
_BESIDE = ("dreambooth", "dif", "tas", "paper", "default")
_WORDS = {
    "lam": "\N{GREEK SMALL LETTER LAMDA}, share of the steps in the local window",
    "learn_steps": "steps of learning",
    "subject_strength": "strength of the subject's LoRA",
}


@dataclass(frozen=True)
class Sweep:
    """``points``: (value, method), from the least value on."""

    base: str
    field: str
    points: tuple[tuple[float, str], ...]

    @property
    def words(self) -> str:
        """What is swept."""
        return _WORDS.get(self.field, self.field.replace("_", " "))


def sweeps_of(methods: Sequence[str], told: Mapping[str, Any] | None = None) -> list[Sweep]:
    """The variants that change one number each, two or more of a kind; the method itself stands among them where
    ``told`` (`run.json`'s methods) says its value."""
    found: dict[tuple[str, str], dict[float, str]] = {}
    for method in methods:
        base, changes = split_variant(method)
        if len(changes) == 1 and (value := number_of(changes[0][1], float("nan"))) == value:
            found.setdefault((base, changes[0][0]), {}).setdefault(value, method)
    for (base, name), points in found.items():
        own = _own_value((told or {}).get(base), name)
        if base in methods and own is not None:
            points.setdefault(own, base)
    return [Sweep(*key, tuple(sorted(points.items()))) for key, points in found.items() if len(points) > 1]


def draw_sweeps(
    cells: Cells, sweeps: Sequence[Sweep], titles: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """(heading, HTML) of each plot that has at least two points."""
    drawn = []
    for sweep in sweeps:
        name = title_of(sweep.base, titles)
        heading = f"{name}: {sweep.words}"
        planes = _planes(cells, sweep, titles) if sweep.field in _ON_PLANES else ""
        panels = _panels(cells, sweep)
        if planes:
            drawn.append((f"{heading}, identity against editability", planes))
        if panels:
            drawn.append((heading, panels))
    return drawn


def _panels(cells: Cells, sweep: Sweep) -> str:
    """One small chart a metric, a line a task."""
    tasks = {task: _rows(cells, sweep, task) for task in TASKS}
    charts: list[str] = []
    seen: dict[str, Path] = {}
    for metric in _PANELS:
        measure, paths = measure_of(metric), []
        for style, (task, rows) in enumerate(tasks.items()):
            points = tuple(
                Point((value, None, None), ends_of(cell, measure.scale))
                for value, method in sweep.points
                if (cell := cells.cell(method, metric, rows)) is not None
            )
            if len(points) > 1:
                paths.append(Path(f"{task}: {_count(rows)}", points, style))
        if paths:
            seen |= {path.name: path for path in paths}
            values = [value for value, _ in sweep.points]
            what = f"{measure.title} over {sweep.words}"
            charts.append(chart(what, sweep.words, measure.head, paths, places=values))
    return f'{legend(list(seen.values()))}<div class="panels">{"".join(charts)}</div>' if charts else ""


def _planes(cells: Cells, sweep: Sweep, titles: Mapping[str, str] | None) -> str:
    """Identity over editability on editing rows; other methods stand beside."""
    rows, drawn = _rows(cells, sweep, "editing"), []
    for across, up in _PLANES:
        points = tuple(
            point for value, method in sweep.points if (point := _point(cells, method, across, up, rows, f"{value:g}"))
        )
        if len(points) < 2:
            continue
        beside = tuple(
            point
            for method in _BESIDE
            if method in cells.scores.methods
            and method not in {one for _, one in sweep.points}
            and (point := _point(cells, method, across, up, rows, method))
        )
        paths = [Path(f"{title_of(sweep.base, titles)}, {sweep.words}: {_count(rows)}", points)]
        paths += [Path("other methods, on the same rows", beside, None)] if beside else []
        names = f"editability: {measure_of(across).head}", f"identity: {measure_of(up).head}"
        title = f"{measure_of(up).title} over {measure_of(across).title} as {sweep.words} changes"
        drawn.append(legend(paths) + chart(title, *names, paths, (720, 430)))
    return "".join(f'<div class="plane">{one}</div>' for one in drawn)


def _point(cells: Cells, method: str, across: str, up: str, rows: Sequence[Row], label: str) -> Point | None:
    x, y = cells.cell(method, across, rows), cells.cell(method, up, rows)
    if x is None or y is None:
        return None
    return Point(ends_of(x, measure_of(across).scale), ends_of(y, measure_of(up).scale), label)


def _rows(cells: Cells, sweep: Sweep, task: str) -> list[Row]:
    """Those that every point of the sweep was scored on, so that points differ in the setting alone."""
    scored = [cells.scores.values[method].keys() for _, method in sweep.points]
    return [row for row in cells.benchmark.rows if row.task == task and all(row.id in one for one in scored)]


def _count(rows: Sequence[Row]) -> str:
    """How many rows and subjects, with a mark where they are too few."""
    subjects = len({row.subject for row in rows})
    few = f" (fewer than {FEWEST_SUBJECTS}: the intervals are too narrow)" if subjects < FEWEST_SUBJECTS else ""
    return f"{len(rows)} rows of {subjects} subject{'s' if subjects != 1 else ''}{few}"


def _own_value(told: Any, name: str) -> float | None:
    """What a method's own value of a field is: as its run says, else as its preset has it."""
    from intarsia.learning import LearnConfig

    if not isinstance(told, Mapping):
        return None
    options, learn = (one if isinstance(one := told.get(key), Mapping) else {} for key in ("options", "learn"))
    values = {**PRESETS.get(str(options.get("preset", "default")), {}), **options}
    with suppress(IntarsiaError, TypeError, ValueError):
        config = asdict(LearnConfig.preset("default", **learn))
        values |= {f"{LEARN_PREFIX}{key}": value for key, value in config.items()}
    number = number_of(values.get(name), float("nan"))
    return number if number == number else None


def plots_html(drawn: Sequence[tuple[str, str]]) -> str:
    """All plots under their headings."""
    return "".join(f"<figure><h3>{escape(heading)}</h3>{body}</figure>" for heading, body in drawn)
