"""One page that tells what was measured, how sure it is, and how to measure it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from intarsia.errors import OutputError
from intarsia.evaluation.bench.cells import Cells
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.left_out import LeftOut, what_is_left_out
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.measures import title_of
from intarsia.evaluation.bench.orderings import Finding, judge_orderings
from intarsia.evaluation.bench.page_parts import (
    findings_html,
    left_out_html,
    published_html,
    results_html,
    sheet_html,
    table_html,
)
from intarsia.evaluation.bench.page_style import STYLE
from intarsia.evaluation.bench.page_words import (
    beside_html,
    columns_html,
    facts_html,
    reading_html,
    repeat_html,
    summary_html,
    verdicts_html,
)
from intarsia.evaluation.bench.picture_sheet import RULE, SheetRow, draw_sheet, sheet_rows
from intarsia.evaluation.bench.plots import draw_sweeps, plots_html, sweeps_of
from intarsia.evaluation.bench.provenance import describe, methods_of, titles_of
from intarsia.evaluation.bench.results_folder import broken_lines, read_results, read_run
from intarsia.evaluation.bench.score_set import ScoreSet
from intarsia.evaluation.bench.scores_folder import TRUTH
from intarsia.evaluation.bench.table_files import to_csv, to_json, to_markdown
from intarsia.evaluation.bench.tables import Table, make_tables
from intarsia.imaging import write_file_atomically

FOLDER, PAGE, SHEET, STUDY = "report", "report.html", "sheet.png", "study"
_NAMED = 3
"""Names told of each reason while the report is made; the page has more."""
_PARTS = (
    ("tables", "Tables"),
    ("orderings", "Orderings"),
    ("plots", "Plots"),
    ("pictures", "Pictures"),
    ("repeat", "To repeat it"),
    ("left-out", "Left out"),
    ("compare", "Published numbers"),
)


def write_report(
    benchmark: Benchmark,
    results: Path,
    *,
    encoders: str = "tabletop",
    output: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write `report.html`, `tables.md`, `tables.csv`, `tables.json` and `sheet.png` into ``output``, by default
    `report/ENCODERS` of the results; returns the page. The same scores give the same bytes. ``say`` is told what was
    left out, a line a reason.

    Raises:
        BenchError: no results or scores there, or of another benchmark. OutputError: the folder cannot be written.
    """
    results = Path(results)
    run = read_run(results)
    if run.get("manifest_sha256") != benchmark.manifest_sha256:
        raise BenchError(
            f"{results} holds results of another manifest than {benchmark.folder}'s: name the benchmark that was run"
        )
    cells = Cells(benchmark, ScoreSet.open(results, encoders))
    lines, titles = read_results(results), titles_of(run)
    tables, findings = make_tables(cells, titles), judge_orderings(cells)
    if not tables:
        raise BenchError(f"{results} has no score of a row of {benchmark.folder}: run and score its rows first")
    left_out = what_is_left_out(benchmark, lines, broken_lines(results), cells.scores)
    if say is not None:
        for one in left_out:
            say(f"left out {one.stage}: {one.told(_NAMED)}")
    about = describe(cells, run, lines, left_out)
    plots = draw_sweeps(cells, sweeps_of(cells.scores.methods, methods_of(run)), titles)
    shown = [method for method in cells.scores.methods if "@" not in method and method != TRUTH]
    rows, names = sheet_rows(benchmark, results, lines, shown), {method: title_of(method, titles) for method in shown}
    folder = Path(output) if output is not None else results / FOLDER / encoders
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} ({error.strerror}): choose another --output") from error
    study = _study(results, folder)
    page = _page(about, tables, findings, plots, rows, names, left_out, study)
    for name, text in (
        ("tables.md", to_markdown(tables, findings, about, left_out, study)),
        ("tables.csv", to_csv(tables, about)),
        ("tables.json", to_json(tables, findings, about)),
        (PAGE, page),
    ):
        write_file_atomically(folder / name, text.encode(), overwrite=True)
    if rows:
        draw_sheet(f"{benchmark.name}: the first rows of each task and size", rows, names).save(
            folder / SHEET, overwrite=True
        )
    return folder / PAGE


def _study(results: Path, folder: Path) -> list[str]:
    """Links from ``folder`` to the tables of a blind study in `RESULTS/study/`, pages before Markdown."""
    home = results / STUDY
    found = sorted(home.rglob("study.html")) or sorted(home.rglob("study.md"))
    return [quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()) for path in found]


def _page(
    about: Mapping[str, Any],
    tables: Sequence[Table],
    findings: Sequence[Finding],
    plots: Sequence[tuple[str, str]],
    rows: Sequence[SheetRow],
    names: Mapping[str, str],
    left_out: Sequence[LeftOut],
    study: Sequence[str],
) -> str:
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in _PARTS if key != "plots" or plots)
    links += "".join(f'<a href="{escape(link, True)}">Blind study</a>' for link in study)
    body = [
        f"<h1>Intarsia bench: {escape(str(about['benchmark']))}</h1>",
        f'<p class="lead">{summary_html(about, findings)}</p>',
        facts_html(about),
        f"<nav>{links}</nav>",
        '<h2 id="tables">Tables</h2>',
        reading_html(about),
        *(f"<h3>{escape(table.title)}</h3><p>{escape(table.what)}</p>{table_html(table)}" for table in tables),
        columns_html(tables),
        '<h2 id="orderings">Which orderings hold</h2>',
        verdicts_html(),
        findings_html(findings),
        f'<h2 id="plots">Plots</h2>{plots_html(plots)}' if plots else "",
        f'<h2 id="pictures">Pictures</h2><p class="note">{escape(RULE)}</p>',
        sheet_html(rows, names),
        '<h2 id="repeat">To repeat it</h2>',
        repeat_html(about),
        '<h2 id="left-out">What was left out</h2>',
        left_out_html(left_out),
        "<p>Of each method, on the rows above. Rows that it was not run on have no result; they are not left out. A "
        "method with fewer rows has them in fewer cells (see n), and differences only count rows that both methods "
        "have.</p>",
        results_html(about["results"]),
        '<h2 id="compare">Published numbers (other data and encoders; only orderings can be compared)</h2>',
        beside_html(about),
        published_html(),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>Intarsia bench: {escape(str(about['benchmark']))}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )
