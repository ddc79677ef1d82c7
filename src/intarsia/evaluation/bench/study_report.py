"""A blind study's tables as Markdown, CSV, JSON and HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import SIZE_CLASSES
from intarsia.evaluation.bench.study_statistics import LEAST
from intarsia.evaluation.bench.study_table import TASKS, Cell, Part, StudyTable, parts_of
from intarsia.imaging import write_file_atomically

FORMAT = 1
TITLE = "Blind study: which picture people prefer"
FILES = ("study.md", "study.csv", "study.json", "study.html")
_NONE = "-"
_SHOWN = 50
"""Files left out that are named in Markdown and HTML; JSON names all."""
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{border-bottom:1px solid #888;padding:.3rem .8rem;text-align:right}"
    "th:first-child{text-align:left}caption{text-align:left;font-weight:600}"
)


@dataclass(frozen=True)
class Grid:
    """A table of words; the first column and the header are heads."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def write_study_tables(table: StudyTable, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write `study.md`, `.csv`, `.json` and `.html`.

    Raises:
        BenchError: one of them exists and may not be overwritten.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder} is no folder: choose another --output")
    paths = [folder / name for name in FILES]
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise BenchError(f"{there[0]} exists already: choose another folder or --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, (markdown(table), csv_text(table), json_text(table), html(table)), strict=True):
        write_file_atomically(path, text.encode(), overwrite=overwrite)
    return paths


def markdown(table: StudyTable) -> str:
    """Tables by task and by size, then sides, agreement and what was left out."""
    lines = [f"# {TITLE}", "", *(f"**Warning:** {warning}" for warning in table.warnings)]
    for grid in _grids(table):
        lines += ["", f"## {grid.title}", "", f"| {' | '.join(map(_cell, grid.header))} |"]
        lines += [f"|---|{'---:|' * (len(grid.header) - 1)}"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in grid.rows]
    lines += ["", *(f"- {_cell(note)}" for note in _notes(table))]
    return "\n".join(lines) + "\n"


def html(table: StudyTable) -> str:
    """The same as a page without scripts."""
    body = [f"<h1>{TITLE}</h1>", *(f"<p><strong>Warning:</strong> {escape(one)}</p>" for one in table.warnings)]
    for grid in _grids(table):
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in grid.header)
        rows = ""
        for name, *values in grid.rows:
            cells = "".join(f"<td>{escape(value)}</td>" for value in values)
            rows += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n'
        caption = f"<caption>{escape(grid.title)}</caption>"
        body.append(f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>")
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in _notes(table))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{TITLE}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<ul>\n{notes}\n</ul>\n</body>\n</html>\n"
    )


def csv_text(table: StudyTable) -> str:
    """One line a cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = list(Cell.__dataclass_fields__)
    writer.writerow(names)
    for cell in table.cells:
        values = asdict(cell) | {"methods": " / ".join(cell.methods)}
        writer.writerow("" if values[name] is None else values[name] for name in names)
    return buffer.getvalue()


def json_text(table: StudyTable) -> str:
    """All numbers; of the key what says what was compared."""
    told = asdict(table) | {"format": FORMAT, "warnings": table.warnings}
    told["key"] = {name: value for name, value in asdict(table.key).items() if name != "questions"}
    told["key"]["questions"] = len(table.key.questions)
    return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _grids(table: StudyTable) -> list[Grid]:
    parts = parts_of(table.key)
    tasks = [*(one for one in parts if one[0] in TASKS and one[1] == "all"), ("all", "all")]
    sizes = [one for one in parts if one[0] == "all" and one[1] in SIZE_CLASSES]
    both = [one for one in parts if one[0] in TASKS and one[1] in SIZE_CLASSES]
    grids = []
    for methods in dict.fromkeys(cell.methods for cell in table.cells):
        compared = " against ".join(methods) or "Each method in all its comparisons"
        grids += [
            _grid(table, methods, tasks, f"{compared}, by task"),
            _grid(table, methods, sizes, f"{compared}, by size of the place"),
        ]
        if len(tasks) > 2:
            grids.append(_grid(table, methods, both, f"{compared}, by task and size"))
    return [*grids, _agreement(table)]


def _grid(table: StudyTable, methods: tuple[str, ...], parts: Sequence[Part], title: str) -> Grid:
    cells = {(one.method, one.task, one.size): one for one in table.cells if one.methods == methods}
    names = list(dict.fromkeys(name for name, *_ in cells))
    rows = [(name, *(_percent(cells.get((name, *part))) for part in parts)) for name in names]
    if methods:
        numbers = [next((one for name in names if (one := cells.get((name, *part)))), None) for part in parts]
        rows.append(("answers (participants)", *(_NONE if one is None else _count(one) for one in numbers)))
    return Grid(title, ("preferred", *(_name(part) for part in parts)), tuple(rows))


def _agreement(table: StudyTable) -> Grid:
    groups = list(dict.fromkeys(one.methods for one in table.agreement))
    alphas = {(one.methods, one.task): one.alpha for one in table.agreement}
    tasks = (*TASKS, "all")
    rows = [
        (" against ".join(group), *(_NONE if one is None else f"{round(one, 2) + 0:.2f}" for one in numbers))
        for group in groups
        for numbers in [[alphas[group, task] for task in tasks]]
    ]
    return Grid("Agreement between participants (Krippendorff's alpha, nominal)", ("compared", *tasks), tuple(rows))


def _notes(table: StudyTable) -> list[str]:
    key = table.key
    places = " / ".join(map(str, table.sides.counts))
    notes = [
        f"{table.participants} participants, {len(key.questions)} questions; {table.incomplete} participants answered "
        "only some of them, which count.",
        f"Asked: {key.ask}",
        "Cells: share of all answers, those of who cannot tell among them, and the 95 % interval of 10,000 bootstrap "
        f"samples of participants (seed {table.seed}). It says how far other people would differ on these "
        f"questions; fewer than {LEAST} participants have none. Where all have the same share, it is Wilson's of as "
        "many answers as there are participants.",
        f"Sides: the places from the left were preferred {places} times, exact binomial test p = {table.sides.p:.3g}; "
        "sides were drawn by chance for each participant and question.",
        "Agreement: 1 all alike, 0 as by chance.",
        f"Benchmark {key.benchmark} ({key.manifest_sha256[:12]}), page {key.study}, model {key.model or 'unknown'} "
        f"({(key.model_hash or 'hash unknown')[:12]}), commit {(key.commit or 'unknown')[:12]}, seed {key.seed}.",
    ]
    notes += [f"Rows not asked about: {reason}: {count}." for reason, count in key.left_out.items()]
    many = len(table.left_out)
    notes.append(f"Files of answers left out: {many}. The least median time that counts is {table.fastest:g} s.")
    notes += [f"Left out: {one.file}: {one.reason}" for one in table.left_out[:_SHOWN]]
    if many > _SHOWN:
        notes.append(f"And {many - _SHOWN} more, see study.json.")
    return notes


def _percent(cell: Cell | None) -> str:
    if cell is None:
        return _NONE
    interval = "" if cell.low is None or cell.high is None else f" [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return f"{100 * cell.share:.1f} %{interval}"


def _count(cell: Cell) -> str:
    return f"{cell.answers} ({cell.participants})"


def _name(part: Part) -> str:
    task, size = part
    return task if size == "all" else size if task == "all" else f"{task}, {size}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
