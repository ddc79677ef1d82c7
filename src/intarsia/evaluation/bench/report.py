"""One page that tells what was measured, how sure it is, and how to measure it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from intarsia.errors import OutputError
from intarsia.evaluation.bench.cells import FEWEST_FOR_FRECHET, Cells, ScoreSet
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.measures import MEASURES, NONE, title_of
from intarsia.evaluation.bench.orderings import FEWEST_ROWS, FEWEST_SUBJECTS, Finding, judge_orderings
from intarsia.evaluation.bench.page_parts import (
    findings_html,
    json_html,
    published_html,
    results_html,
    sheet_html,
    table_html,
)
from intarsia.evaluation.bench.page_style import STYLE
from intarsia.evaluation.bench.picture_sheet import RULE, SheetRow, draw_sheet, sheet_rows
from intarsia.evaluation.bench.plots import draw_sweeps, plots_html, sweeps_of
from intarsia.evaluation.bench.provenance import describe, methods_of, titles_of
from intarsia.evaluation.bench.results_folder import read_results, read_run
from intarsia.evaluation.bench.scores_folder import TRUTH
from intarsia.evaluation.bench.table_files import to_csv, to_json, to_markdown
from intarsia.evaluation.bench.tables import Table, make_tables
from intarsia.imaging import write_file_atomically

FOLDER, PAGE, SHEET = "report", "report.html", "sheet.png"
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
    benchmark: Benchmark, results: Path, *, encoders: str = "tabletop", output: Path | None = None
) -> Path:
    """Write `report.html`, `tables.md`, `tables.csv`, `tables.json` and `sheet.png` into ``output``, by default
    `report/ENCODERS` of the results; returns the page. The same scores give the same bytes.

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
    about = describe(cells, run, lines)
    plots = draw_sweeps(cells, sweeps_of(cells.scores.methods, methods_of(run)), titles)
    shown = [method for method in cells.scores.methods if "@" not in method and method != TRUTH]
    rows, names = sheet_rows(benchmark, results, lines, shown), {method: title_of(method, titles) for method in shown}
    folder = Path(output) if output is not None else results / FOLDER / encoders
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} ({error.strerror}): choose another --output") from error
    page = _page(about, tables, findings, plots, rows, names)
    for name, text in (
        ("tables.md", to_markdown(tables, findings, about)),
        ("tables.csv", to_csv(tables)),
        ("tables.json", to_json(tables, findings, about)),
        (PAGE, page),
    ):
        write_file_atomically(folder / name, text.encode(), overwrite=True)
    if rows:
        draw_sheet(f"{benchmark.name}: the first rows of each task and size", rows, names).save(
            folder / SHEET, overwrite=True
        )
    return folder / PAGE


def _page(
    about: Mapping[str, Any],
    tables: Sequence[Table],
    findings: Sequence[Finding],
    plots: Sequence[tuple[str, str]],
    rows: Sequence[SheetRow],
    names: Mapping[str, str],
) -> str:
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name in _PARTS if key != "plots" or plots)
    body = [
        f"<h1>Intarsia bench: {escape(str(about['benchmark']))}</h1>",
        f'<p class="lead">{_summary(about, findings)}</p>',
        _facts(about),
        f"<nav>{links}</nav>",
        '<h2 id="tables">Tables</h2>',
        _how_to_read(about),
        *(f"<h3>{escape(table.title)}</h3><p>{escape(table.what)}</p>{table_html(table)}" for table in tables),
        _columns(tables),
        '<h2 id="orderings">Which orderings hold</h2>',
        _rule_of_verdicts(),
        findings_html(findings),
        f'<h2 id="plots">Plots</h2>{plots_html(plots)}' if plots else "",
        f'<h2 id="pictures">Pictures</h2><p class="note">{escape(RULE)}</p>',
        sheet_html(rows, names),
        '<h2 id="repeat">To repeat it</h2>',
        _repeat(about),
        '<h2 id="left-out">What was left out</h2>',
        _left_out(about),
        '<h2 id="compare">Published numbers (other data and encoders; only orderings can be compared)</h2>',
        _beside(about),
        published_html(),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>Intarsia bench: {escape(str(about['benchmark']))}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def _summary(about: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    counts = Counter(one.verdict for one in findings)
    asked = len(findings) - counts["not measured"]
    told = (
        f"Of {asked} orderings that could be asked, {counts['holds']} hold, {counts['does not hold']} do not, and "
        f"{counts['not clear']} are not clear."
        if asked
        else "None of the orderings could be asked: their methods or metrics are not here."
    )
    return (
        f"Methods that paint a given subject into a masked place of a scene, on {about['rows']} rows of "
        f"{about['subjects']} subjects. A row is a scene, a mask, a subject, a prompt and a seed; its task is to keep "
        f"the subject as it is (identity), or changed as the words say (editing). {told}"
    )


def _facts(about: Mapping[str, Any]) -> str:
    seeds = about["seeds"]
    facts = {
        "model": about["model"],
        "weights": about["model_hash"],
        "commit": about["commit"],
        "manifest": about["manifest_sha256"],
        "seeds": f"{seeds['least']} to {seeds['most']}: {seeds['distinct']}, one of each row" if seeds else None,
        "encoders": about["encoders"],
        "intervals": f"95 %, {about['draws']} resamples with seed {about['bootstrap_seed']}",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{escape(str(value or 'not known'))}</dd>" for key, value in facts.items())
    return f"<dl>{listed}</dl>"


def _how_to_read(about: Mapping[str, Any]) -> str:
    return (
        "<p>A cell is the mean over n rows, under it its 95 % interval, also drawn as a bar; bars of a column and "
        "group share a scale. Bold is the best mean, whether or not another is clearly worse: for that see the "
        "orderings.</p><p>Rows of one subject are not independent, so the bootstrap first draws subjects, then rows of "
        "each (this errs on the wide side); with one subject it draws rows only and says nothing about other subjects. "
        "Where a judge says the same of all rows, the interval is Wilson's. KID has "
        f"{about['draws_kid']} such resamples of the pictures, its reference staying as it is; FID is shown from "
        f"{FEWEST_FOR_FRECHET:,} pictures on, with {about['draws_fid']}.</p>"
    )


def _columns(tables: Sequence[Table]) -> str:
    used = {metric for table in tables for metric in table.shown()}
    told = "".join(
        f"<dt>{escape(one.title)}</dt><dd>{escape(one.what)}</dd>" for key, one in MEASURES.items() if key in used
    )
    return f"<details><summary>What the columns are</summary><dl>{told}</dl></details>" if told else ""


def _rule_of_verdicts() -> str:
    return (
        "<p>The mean difference of two methods over the rows that both have, with its interval from the same "
        "bootstrap. An ordering holds where the whole interval lies above 0 (or above minus what may be lost), does "
        "not hold where all of it lies at or below, and is not clear between; nor is it with fewer than "
        f"{FEWEST_ROWS} rows or {FEWEST_SUBJECTS} subjects. Each is asked on its own: among many, one in forty true "
        "ties would seem to hold by chance.</p>"
    )


def _repeat(about: Mapping[str, Any]) -> str:
    methods = "".join(f" \\\n    --method {method}" for method in about["methods"])
    steps = about["budget"].get("steps") if isinstance(about["budget"], Mapping) else None
    options = "".join(
        f" --{name} {value}" for name, value in (("model", about["model"]), ("learn-steps", steps)) if value is not None
    )
    commands = (
        f"intarsia bench run BENCHMARK -o RESULTS{options}{methods}\n"
        f"intarsia bench score BENCHMARK RESULTS --encoders {about['encoders']}\n"
        f"intarsia bench report BENCHMARK RESULTS --encoders {about['encoders']}"
    )
    return (
        "<p>Building is deterministic: the same settings give a manifest of the same hash. Each row has its seed in "
        f"the manifest; scores can be made again without painting.</p><pre>{escape(commands)}</pre>"
        + json_html("Settings of the benchmark", about["settings"])
        + json_html("Methods and their settings", about["methods"])
        + json_html("Budget of learning that differs from the presets'", about["budget"])
        + json_html("Versions", about["versions"])
        + json_html("Encoders and their hashes", about["encoders_of"])
    )


def _left_out(about: Mapping[str, Any]) -> str:
    left = about["left_out"]
    lines = []
    for when, told in (
        ("when the benchmark was built", left["building"]),
        ("when it was read now", left["reading"]),
        ("when it was run", left["running"]),
    ):
        counts = ", ".join(f"{escape(str(reason))}: {count}" for reason, count in told.items()) or NONE
        lines.append(f"<dt>{when}</dt><dd>{counts}</dd>")
    lines.append(f"<dt>broken lines of scores</dt><dd>{left['score_lines_broken']}</dd>")
    lines.append(f"<dt>scored rows that the benchmark has not</dt><dd>{left['scored_rows_not_in_benchmark']}</dd>")
    scoring = json_html("When it was scored", left["scoring"]) if left["scoring"] else ""
    return (
        f"<dl>{''.join(lines)}</dl>{scoring}<p>Of each method, on the rows above; a method with fewer rows has them in "
        "fewer cells (see n), and differences only count rows that both methods have.</p>"
        + results_html(about["results"])
    )


def _beside(about: Mapping[str, Any]) -> str:
    own = about["encoders"] == "tabletop"
    ours = (
        "Ours are of rendered toys, painted by a small model, and measured with encoders that were trained on such "
        "pictures"
        if own
        else "Ours are of another choice of pictures, masks and prompts, and of the encoders named above"
    )
    return (
        f"<p>{ours}. The paper's are of 30 DreamBooth subjects in COCO scenes, painted by SDXL; it tells neither its "
        "encoders' variants, nor whether crops or whole pictures were measured, nor seeds. So no number of ours can be "
        "set beside one of theirs; what can be compared is which method is above which.</p>"
    )
