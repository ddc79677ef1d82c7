"""Pieces of the report's page: tables of numbers, of verdicts, of pictures, of what was left out and published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from intarsia.evaluation.bench import published
from intarsia.evaluation.bench.left_out import STAGES, LeftOut
from intarsia.evaluation.bench.measures import NONE, measure_of
from intarsia.evaluation.bench.orderings import Finding
from intarsia.evaluation.bench.picture_sheet import SheetRow, caption_of, data_uri
from intarsia.evaluation.bench.provenance import commit_text
from intarsia.evaluation.bench.scores_folder import TRUTH
from intarsia.evaluation.bench.svg import interval_bar
from intarsia.evaluation.bench.table_files import cell_text, counts_text
from intarsia.evaluation.bench.tables import Line, Table, best_of

_CLASSES = {"holds": "holds", "does not hold": "fails", "not clear": "open", "not measured": "open"}
_SIGNS = {"holds": "✓", "does not hold": "✗", "not clear": "?", "not measured": NONE}


def table_html(table: Table) -> str:
    """A table of numbers: mean, interval, and the interval as a bar on a scale that a column of a group shares."""
    metrics = table.shown()
    heads = "".join(
        f'<th scope="col" title="{escape(measure_of(metric).what, True)}">{escape(measure_of(metric).head)}</th>'
        for metric in metrics
    )
    parts = [f'<thead><tr><th scope="col">method</th>{heads}<th scope="col">n (subjects)</th></tr></thead>']
    for group in table.groups:
        lines = [line for line in table.lines if line.group == group]
        rows = [f'<tr><th colspan="{len(metrics) + 2}" scope="rowgroup">{escape(group)}</th></tr>']
        best = {metric: best_of(lines, metric) for metric in metrics}
        for line in lines:
            numbers = "".join(_number(line, metric, lines, line.method in best[metric]) for metric in metrics)
            style = ' class="ceiling"' if line.method == TRUTH else ""
            head = f'<th scope="row">{escape(line.title)}</th>'
            rows.append(f"<tr{style}>{head}{numbers}<td>{counts_text(line, metrics)}</td></tr>")
        parts.append(f'<tbody class="group">{"".join(rows)}</tbody>')
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="scroll"><table>{"".join(parts)}</table></div>{note}'


def _number(line: Line, metric: str, lines: Sequence[Line], best: bool) -> str:
    cell, measure = line.cells.get(metric), measure_of(metric)
    value, span = cell_text(cell, measure)
    if cell is None or not value:
        return f"<td>{NONE}</td>"
    shown = f"<b>{value}</b>" if best else value
    if cell.mean is None or cell.low is None or cell.high is None:
        return f"<td>{shown}</td>"
    others = [one.cells[metric] for one in lines if metric in one.cells]
    ends = [end for one in others for end in (one.low, one.mean, one.high) if end is not None]
    bar = interval_bar((cell.mean, cell.low, cell.high), (min(ends), max(ends)))
    told = f' title="{escape(cell.note, True)}"' if cell.note else ""
    return f"<td{told}>{shown}<small>{span}</small>{bar}</td>"


def findings_html(findings: Sequence[Finding]) -> str:
    """What was measured of the orderings, each with its difference; the others are named under it."""
    measured = [one for one in findings if one.difference is not None]
    parts = [
        '<thead><tr><th scope="col">what should hold</th><th scope="col" class="words">verdict</th>'
        '<th scope="col">difference</th><th scope="col">may be lost</th><th scope="col">n</th>'
        '<th scope="col">subjects</th></tr></thead>'
    ]
    for group in dict.fromkeys(one.ordering.group for one in measured):
        rows = [f'<tr><th colspan="6" scope="rowgroup">{_code(group)}</th></tr>']
        for one in (one for one in measured if one.ordering.group == group):
            small = "".join(f"<small>{escape(part)}</small>" for part in one.notes)
            verdict = f"{_SIGNS[one.verdict]} {one.verdict}{small}"
            counts = "".join(f"<td>{count}</td>" for count in (one.margin, *one.counts))
            rows.append(
                f'<tr><th scope="row">{escape(one.says)}</th><td class="verdict {_CLASSES[one.verdict]}">{verdict}</td>'
                f"<td>{one.written}{_centred(one)}</td>{counts}</tr>"
            )
        parts.append(f'<tbody class="group">{"".join(rows)}</tbody>')
    table = f'<div class="scroll"><table>{"".join(parts)}</table></div>' if measured else ""
    absent = [one.says for one in findings if one.difference is None]
    if not absent:
        return table
    listed = "".join(f"<li>{escape(says)}</li>" for says in absent)
    return f"{table}<details><summary>Not measured: {len(absent)}</summary><ul>{listed}</ul></details>"


def _centred(finding: Finding) -> str:
    one = finding.difference
    if one is None:
        return ""
    most = max(abs(one.low), abs(one.high), abs(one.mean), finding.ordering.margin or 0.0) or 1.0
    return interval_bar((one.mean, one.low, one.high), (-most, most), zero=True)


def sheet_html(rows: Sequence[SheetRow], names: Mapping[str, str]) -> str:
    """The sheet of pictures; all of them are inside the page."""
    if not rows:
        return '<p class="note">There are no pictures.</p>'
    columns = list(rows[0].tiles)
    heads = "".join(f'<th scope="col">{escape(names.get(column, column))}</th>' for column in columns)
    parts = [f"<thead><tr>{heads}</tr></thead><tbody>"]
    for one in rows:
        cells = []
        for column in columns:
            tile, told = one.tiles.get(column), escape(f"{names.get(column, column)}: {one.row.prompt}", True)
            image = f'<img src="{data_uri(tile)}" alt="{told}"/>' if tile else '<span class="none">no picture</span>'
            cells.append(f"<td>{image}</td>")
        caption = f'<td class="caption" colspan="{len(columns)}">{escape(caption_of(one.row))}</td>'
        parts.append(f"<tr>{''.join(cells)}</tr><tr>{caption}</tr>")
    return f'<div class="sheet"><table>{"".join(parts)}</tbody></table></div>'


def left_out_html(left_out: Sequence[LeftOut]) -> str:
    """Stage by stage: how many for each reason, and the first names."""
    if not left_out:
        return "<p>Nothing.</p>"
    parts = []
    for stage in dict.fromkeys(one.stage for one in sorted(left_out, key=lambda one: STAGES.index(one.stage))):
        listed = []
        for one in (one for one in left_out if one.stage == stage):
            rest = f"; and {one.count - len(one.names)} more" if 0 < len(one.names) < one.count else ""
            names = f"<small>{escape('; '.join(one.names))}{rest}</small>" if one.names else ""
            listed.append(f"<li>{escape(one.reason)}: {one.count} {names}</li>")
        parts.append(f"<h3>{escape(stage[0].upper() + stage[1:])}</h3><ul>{''.join(listed)}</ul>")
    return "".join(parts)


def results_html(methods: Sequence[Mapping[str, Any]]) -> str:
    """Of each method: pictures, errors, rows that it was not run on or has no score of."""
    counts = ("pictures", "errors", "rows not run", "not scored", "s a picture, median")
    heads = ("method", *counts, "commit", "commonest error")
    rows = []
    for one in methods:
        values = (one["pictures"], one["errors"], one["not_run"], one["not_scored"], one["median_seconds"])
        numbers = "".join(f"<td>{NONE if value is None else value}</td>" for value in values)
        commit = NONE if one["pictures"] is None else commit_text(one["commits"])
        words = "".join(
            f'<td class="words">{escape(text)}</td>' for text in (commit, str(one["commonest_error"] or NONE))
        )
        rows.append(f'<tr><th scope="row">{escape(one["title"])}</th>{numbers}{words}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def published_html() -> str:
    """The paper's own numbers."""
    return _published("Table 1 of the paper", published.METHODS) + _published(
        "Table 3 of the paper", published.ABLATION
    )


def _published(title: str, tasks: Mapping[str, Mapping[str, published.Numbers]]) -> str:
    wide = max(len(numbers) for methods in tasks.values() for numbers in methods.values())
    head = "".join(f'<th scope="col">{name}</th>' for name in published.COLUMNS[:wide])
    parts = [f'<thead><tr><th scope="col">method</th>{head}</tr></thead>']
    for task, methods in tasks.items():
        rows = [f'<tr><th colspan="{wide + 1}" scope="rowgroup">{task}</th></tr>']
        for method, numbers in methods.items():
            cells = "".join(
                f"<td>{value:.1f}</td>" if name == "FID" else f"<td>{value:.3f}</td>"
                for name, value in zip(published.COLUMNS, numbers, strict=False)
            )
            rows.append(f'<tr><th scope="row">{escape(method)}</th>{cells}</tr>')
        parts.append(f'<tbody class="group">{"".join(rows)}</tbody>')
    return f'<h3>{title}</h3><div class="scroll"><table>{"".join(parts)}</table></div>'


def json_html(summary: str, value: Any) -> str:
    """Plain values, folded away."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _code(text: str) -> str:
    """Words between back-ticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
