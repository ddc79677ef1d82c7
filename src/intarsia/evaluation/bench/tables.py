"""The tables as data: which methods, which rows, which metrics."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intarsia.evaluation.bench.cells import Cell, Cells
from intarsia.evaluation.bench.manifest import Row
from intarsia.evaluation.bench.measures import (
    CLASS_ONLY,
    CROP,
    MEASURES,
    OUTSIDE,
    TASKS,
    WHOLE,
    says_little,
    title_of,
)
from intarsia.evaluation.bench.methods import ABLATION
from intarsia.evaluation.bench.scores_folder import TRUTH

_SIZES = {
    "small": "small: under 1/8 of the scene's side",
    "medium": "medium: under 1/4",
    "large": "large: under 1/2",
    "huge": "huge: above",
}


@dataclass(frozen=True)
class Line:
    """A method's numbers in a group of rows; ``cells`` only holds what there is."""

    group: str
    method: str
    title: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """``metrics``: its columns, those only that some line has. ``note``: to be read with its numbers."""

    key: str
    title: str
    what: str
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""

    @property
    def groups(self) -> list[str]:
        """In the order of the lines."""
        return list(dict.fromkeys(line.group for line in self.lines))

    def shown(self) -> tuple[str, ...]:
        """The columns for people."""
        return tuple(
            metric
            for metric in self.metrics
            if any(metric in line.cells and line.cells[metric].shown for line in self.lines)
        )


def make_tables(cells: Cells, titles: Mapping[str, str] | None = None) -> list[Table]:
    """All tables that have at least one number. ``titles``: of methods, before the usual ones."""
    rows, methods = cells.benchmark.rows, cells.scores.methods
    plain = [method for method in methods if "@" not in method]
    variants = [method for method in methods if "@" in method]
    varied = {row for method in variants for row in cells.scores.values[method]}
    ablated = [method for method in ABLATION if method in plain]
    bases = list(dict.fromkeys(method.partition("@")[0] for method in variants))
    swept = [method for method in methods if "@" in method or method in bases]
    tasks = _groups(rows, lambda row: row.task, {task: task for task in TASKS})
    sizes = _groups(
        rows,
        lambda row: (row.task, row.size),
        {(task, size): f"{task}, {told}" for size, told in _SIZES.items() for task in TASKS},
    )
    kinds = sorted({row.edit for row in rows if row.edit})
    edits = _groups(rows, lambda row: row.edit, {kind: kind for kind in kinds})
    named = [name for name in cells.scores.metrics if name not in MEASURES]
    plan: list[tuple[str, str, str, Sequence[str], Mapping[str, Sequence[Row]], Sequence[str]]] = [
        (
            "methods",
            "Table 1. Methods, at the mask",
            "Every method on the same rows, looked at in a square around the mask.",
            CROP,
            tasks,
            plain,
        ),
        (
            "methods_whole",
            "Table 1, the whole picture",
            "The same pictures, looked at whole: most of each is the scene itself, so methods lie closer together.",
            WHOLE,
            tasks,
            plain,
        ),
        (
            "methods_outside",
            "Table 1, border and background",
            "Whether a border shows, and what became of the picture outside the mask.",
            (*OUTSIDE, *sorted(named)),
            tasks,
            plain,
        ),
        (
            "ablation",
            "Table 3. What DIF, TAS and ADM add",
            "Each line has all of the lines above it.",
            CROP,
            tasks,
            ablated if len(ablated) > 1 else [],
        ),
        (
            "sizes",
            "By size of the mask",
            "The longer side of the mask's box, as a share of the scene's longer side.",
            (*(metric for metric in CROP if not MEASURES[metric].of_set), "seam"),
            sizes,
            plain,
        ),
        (
            "edits",
            "By kind of edit",
            "Editing rows, by what the words change.",
            ("attribute", "top1", "clip_t_crop", "clip_i_crop", "dino_crop"),
            edits,
            plain,
        ),
        (
            "variants",
            "Variants",
            "Methods with one or more settings changed, and as they are; on the rows that any variant was scored on.",
            (*CROP, "seam"),
            {name: [row for row in some if row.id in varied] for name, some in tasks.items()},
            swept if variants else [],
        ),
    ]
    tables = [_table(cells, titles, *one) for one in plan]
    return [table for table in tables if table.lines]


def _table(
    cells: Cells,
    titles: Mapping[str, str] | None,
    key: str,
    title: str,
    what: str,
    metrics: Sequence[str],
    groups: Mapping[str, Sequence[Row]],
    methods: Sequence[str],
) -> Table:
    lines, little = [], False
    for group, rows in groups.items():
        for method in methods:
            found = {metric: cells.cell(method, metric, rows) for metric in metrics}
            there = {metric: cell for metric, cell in found.items() if cell is not None}
            if there:
                lines.append(Line(group, method, title_of(method, titles), there))
                little |= any(says_little(metric, rows[0].task, cells.scores.encoders) for metric in there)
    used = tuple(metric for metric in metrics if any(metric in line.cells for line in lines))
    return Table(key, title, what, used, tuple(lines), f"CLIP-T of identity rows: {CLASS_ONLY}." if little else "")


def _groups(
    rows: Sequence[Row], key: Callable[[Row], Hashable], names: Mapping[Any, str]
) -> dict[str, tuple[Row, ...]]:
    """Name -> rows with its key, in the order of the names; only those that have rows."""
    found = {name: tuple(row for row in rows if key(row) == value) for value, name in names.items()}
    return {name: some for name, some in found.items() if some}


def best_of(lines: Sequence[Line], metric: str) -> set[str]:
    """The methods with the best mean of a group's lines, the ceiling apart; none where nothing is better."""
    rises = MEASURES[metric].rises if metric in MEASURES else None
    means = {
        line.method: round(line.cells[metric].mean or 0.0, 9)
        for line in lines
        if line.method != TRUTH and metric in line.cells and line.cells[metric].mean is not None
    }
    if rises is None or len(set(means.values())) < 2:
        return set()
    best = max(means.values()) if rises else min(means.values())
    return {method for method, mean in means.items() if mean == best}
