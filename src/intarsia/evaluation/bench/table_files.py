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
from intarsia.evaluation.bench.measures import NONE, Measure, measure_of
from intarsia.evaluation.bench.orderings import Finding
from intarsia.evaluation.bench.tables import Line, Table

FORMAT = 1


def cell_text(cell: Cell | None, measure: Measure) -> tuple[str, str]:
    """The number and its interval, each as it is shown, and empty where there is none."""
    if cell is None or cell.mean is None or not cell.shown:
        return "", ""
    if cell.low is None or cell.high is None:
        return measure.write(cell.mean), ""
    return measure.write(cell.mean), f"{measure.write(cell.low)} to {measure.write(cell.high)}"


def counts_text(line: Line, metrics: Sequence[str]) -> str:
    """How many rows the line is a mean over; from fewest to most where its cells differ."""
    counts = sorted({line.cells[metric].n for metric in metrics if metric in line.cells})
    return "" if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def to_markdown(tables: Sequence[Table], findings: Sequence[Finding], about: Mapping[str, Any]) -> str:
    """All tables, the orderings, and what it takes to repeat them."""
    parts = [f"# {about['benchmark']}: tables", f"Numbers: {NUMBERS}."]
    for table in tables:
        parts += [f"## {table.title}", table.what]
        metrics = table.shown()
        for group in table.groups:
            head = ["method", *(measure_of(metric).head for metric in metrics), "n"]
            lines = [_row(head), _row(["---"] * len(head))]
            for line in (one for one in table.lines if one.group == group):
                written = [cell_text(line.cells.get(metric), measure_of(metric)) for metric in metrics]
                texts = [f"{value} ({span})" if span else value or NONE for value, span in written]
                lines.append(_row([line.title, *texts, counts_text(line, metrics)]))
            parts += [f"**{group}**", "\n".join(lines)]
    if findings:
        head = ["what should hold", "verdict", "difference", "n", "subjects"]
        lines = [_row(head), _row(["---"] * len(head))]
        lines += [_row([one.says, one.told, one.written, *one.counts]) for one in findings]
        parts += ["## Orderings", "\n".join(lines)]
    parts += ["## To repeat", foot_text(about)]
    return "\n\n".join(parts) + "\n"


def foot_text(about: Mapping[str, Any]) -> str:
    """One line: seeds, weights, commit, manifest, encoders."""
    seeds = about["seeds"]
    told = f"{seeds['least']} to {seeds['most']} ({seeds['distinct']} of them, one a row)" if seeds else "not known"
    return (
        f"Seeds {told}; weights `{about['model_hash'] or 'not known'}`; commit `{about['commit'] or 'not known'}`; "
        f"manifest `{about['manifest_sha256']}`; encoders `{about['encoders']}`; intervals of {about['draws']} "
        f"resamples, seed {about['bootstrap_seed']}."
    )


def to_csv(tables: Sequence[Table]) -> str:
    """One line a cell, also of those that tables for people leave out (``shown`` 0). Numbers are not scaled."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["table", "group", "method", "metric", "mean", "low", "high", "n", "draws", "shown", "note"])
    for table in tables:
        for line in table.lines:
            for metric, cell in line.cells.items():
                numbers = ["" if value is None else f"{value:.8g}" for value in (cell.mean, cell.low, cell.high)]
                rest = [cell.n, cell.draws, int(cell.shown), cell.note]
                writer.writerow([table.key, line.group, line.method, metric, *numbers, *rest])
    return text.getvalue()


def to_json(tables: Sequence[Table], findings: Sequence[Finding], about: Mapping[str, Any]) -> str:
    """Everything that the report is made of but its pictures."""
    listed = [
        {
            "key": table.key,
            "title": table.title,
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
    return "| " + " | ".join(" ".join(text.replace("|", "\\|").split()) for text in texts) + " |"
