"""Tables as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from intarsia.evaluation.bench.cells import NUMBERS, Cell
from intarsia.evaluation.bench.left_out import STAGES, LeftOut
from intarsia.evaluation.bench.measures import NONE, Measure, measure_of
from intarsia.evaluation.bench.orderings import Finding
from intarsia.evaluation.bench.provenance import UNKNOWN, commit_text
from intarsia.evaluation.bench.tables import Line, Table

FORMAT = 1
_COLUMNS = (
    "table", "group", "method", "metric", "mean", "low", "high", "n", "subjects", "draws", "shown", "note",
    "model_hash", "commit", "encoders", "manifest",
)  # fmt: skip


def cell_text(cell: Cell | None, measure: Measure) -> tuple[str, str]:
    """The number and its interval, each as it is shown, and empty where there is none."""
    if cell is None or cell.mean is None or not cell.shown:
        return "", ""
    if cell.low is None or cell.high is None:
        return measure.write(cell.mean), ""
    return measure.write(cell.mean), f"{measure.write(cell.low)} to {measure.write(cell.high)}"


def counts_text(line: Line, metrics: Sequence[str]) -> str:
    """How many rows (and subjects) the line is a mean over; from fewest to most where its cells differ."""
    cells = [line.cells[metric] for metric in metrics if metric in line.cells]
    rows, subjects = (_span(sorted(counts)) for counts in ({one.n for one in cells}, {one.subjects for one in cells}))
    return f"{rows} ({subjects})" if cells else ""


def _span(counts: Sequence[int]) -> str:
    return "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def to_markdown(
    tables: Sequence[Table],
    findings: Sequence[Finding],
    about: Mapping[str, Any],
    left_out: Sequence[LeftOut] = (),
    study: Sequence[str] = (),
) -> str:
    """All tables, the orderings, what was left out, and what it takes to repeat them. ``study``: links to one."""
    parts = [f"# {_plain(about['benchmark'])}: tables", f"Numbers: {NUMBERS}."]
    parts += [f"[Blind study]({link})" for link in study]
    for table in tables:
        parts += [f"## {table.title}", f"{table.what} {table.note}".strip()]
        metrics = table.shown()
        for group in table.groups:
            head = ["method", *(measure_of(metric).head for metric in metrics), "n (subjects)"]
            lines = [_row(head), _row(["---"] * len(head))]
            for line in (one for one in table.lines if one.group == group):
                written = [cell_text(line.cells.get(metric), measure_of(metric)) for metric in metrics]
                texts = [f"{value} ({span})" if span else value or NONE for value, span in written]
                lines.append(_row([line.title, *texts, counts_text(line, metrics)]))
            parts += [f"**{_plain(group)}**", "\n".join(lines)]
    if findings:
        head = ["what should hold", "verdict", "difference", "may be lost", "n", "subjects"]
        lines = [_row(head), _row(["---"] * len(head))]
        lines += [_row([one.says, one.told, one.written, one.margin, *one.counts]) for one in findings]
        parts += ["## Orderings", "\n".join(lines)]
    parts.append("## Left out")
    for stage in STAGES:
        told = [f"- {_plain(one.told())}" for one in left_out if one.stage == stage]
        parts += [f"**{stage}**", "\n".join(told)] if told else []
    head = ["method", "pictures", "errors", "not run", "not scored", "commit"]
    lines = [_row(head), _row(["---"] * len(head))]
    for one in about["results"]:
        counts = (one["pictures"], one["errors"], one["not_run"], one["not_scored"])
        numbers = [NONE if count is None else str(count) for count in counts]
        lines.append(_row([one["title"], *numbers, NONE if counts[0] is None else commit_text(one["commits"])]))
    parts += [*(() if left_out else ("Nothing.",)), "\n".join(lines)]
    parts += ["## To repeat", foot_text(about), f"```sh\n{_fenced(about['commands'])}\n```"]
    return "\n\n".join(parts) + "\n"


def foot_text(about: Mapping[str, Any]) -> str:
    """One line: seeds, weights, commit, manifest, encoders."""
    seeds = about["seeds"]
    told = f"{seeds['least']} to {seeds['most']} ({seeds['distinct']} of them, one a row)" if seeds else "not known"
    weights, commit = _code(about["model_hash"] or UNKNOWN), _code(commit_text(about["commits"]))
    manifest, encoders = _code(about["manifest_sha256"]), _code(about["encoders"])
    return (
        f"Seeds {told}; weights `{weights}`; commit `{commit}`; manifest `{manifest}`; encoders `{encoders}`; "
        f"intervals of {about['draws']} resamples, seed {about['bootstrap_seed']}."
    )


def to_csv(tables: Sequence[Table], about: Mapping[str, Any]) -> str:
    """One line a cell, also of those that tables for people leave out (``shown`` 0). Numbers are not scaled; several
    commits of a method are joined by a semicolon."""
    commits = {one["method"]: ";".join(one["commits"]) for one in about["results"]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for line in table.lines:
            for metric, cell in line.cells.items():
                numbers = ["" if value is None else f"{value:.8g}" for value in (cell.mean, cell.low, cell.high)]
                rest = [cell.n, cell.subjects, cell.draws, int(cell.shown), cell.note]
                rest += [about["model_hash"] or "", commits.get(line.method, "")]
                rest += [about["encoders"], about["manifest_sha256"]]
                writer.writerow([table.key, line.group, line.method, metric, *numbers, *rest])
    return text.getvalue()


def to_json(tables: Sequence[Table], findings: Sequence[Finding], about: Mapping[str, Any]) -> str:
    """Everything that the report is made of but its pictures."""
    listed = [
        {
            "key": table.key,
            "title": table.title,
            "note": table.note,
            "lines": [
                {
                    "group": line.group,
                    "method": line.method,
                    "cells": {metric: asdict(cell) for metric, cell in line.cells.items()},
                }
                for line in table.lines
            ],
        }
        for table in tables
    ]
    whole = {"format": FORMAT, "about": about, "tables": listed, "orderings": [one.to_json() for one in findings]}
    return json.dumps(_finite(whole), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, texts)) + " |"


def _plain(text: object) -> str:
    """In one line that says what it says: no cell ends, no tag begins."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def _fenced(text: object) -> str:
    """Which does not end the block that it is in."""
    return str(text).replace("`" * 3, "'" * 3)


def _code(text: object) -> str:
    return _plain(text).replace("`", "'")
