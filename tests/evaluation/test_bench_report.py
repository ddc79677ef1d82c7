"""From scores to tables, plots and the page, on made-up scores whose means are known."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.bench_scores import EDITS, SIDE, Values, benchmark_of, results_of, rich
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.evaluation.bench import BenchError, Benchmark, Row
from intarsia.evaluation.bench.cells import Cells
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.report import write_report
from intarsia.evaluation.bench.results_folder import Result, ResultLines
from intarsia.evaluation.bench.score_set import ScoreSet

STEPS, STRENGTH = "default@learn_steps=60", "default@subject_strength=0.5"
SWEPT = ("default", "paper", "paper@lam=0.3", "paper@lam=1", STEPS, STRENGTH, "truth")


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    return benchmark_of(tmp_path / "bench")


def test_null_nan_and_broken_lines_are_left_out_and_counted(bench: Benchmark, tmp_path: Path) -> None:
    def score(row: Row, method: str) -> Values:
        number = int(row.id[1:])
        return {"clip_t_crop": None if number == 0 else math.nan if number == 1 else 0.5, "seam": None}

    results = results_of(tmp_path / "out", bench, score)
    path = results / "scores" / "tabletop" / "scores.jsonl"
    bad = ['{"row": "r0005", "method"', '["r0005"]', '{"row":"r0005","method":"paper","values":{"clip_t_crop":"high"}}']
    bad += ['{"row":"r0005","method":"../paper","values":{}}', f'{{"row":"a","method":"b","values":{{"c":{10**400}}}}}']
    path.write_text(path.read_text() + "\n".join([*bad, '{"row":"gone","method":"paper","values":{"clip_t_crop":9}}']))
    scores = ScoreSet.open(results)
    cell = Cells(bench, scores, 50).cell("paper", "clip_t_crop", bench.rows)
    assert cell is not None and cell.n == len(bench.rows) - 2 and cell.mean == 0.5
    assert scores.broken == 5 and scores.nulls["paper", "clip_t_crop"] == 2 and scores.nulls["paper", "seam"] == 48
    assert Cells(bench, scores).cell("paper", "seam", bench.rows) is None
    (results / "scores" / "tabletop" / "left_out.json").write_text('["no object"]')
    with pytest.raises(BenchError, match="left_out\\.json is missing or damaged"):
        write_report(bench, results)
    (results / "scores" / "tabletop" / "left_out.json").write_text('{"results": [1, {"row": 2}], "counts": 7}')
    told: list[str] = []
    write_report(bench, results, say=told.append)
    assert told == [
        "left out when the benchmark was built: too dark: 3",
        "left out when it was reported: broken line of scores: 5 (scores.jsonl: 5)",
        "left out when it was reported: scored row that the benchmark has not: 1 (gone)",
    ]


def whole_page(bench: Benchmark, results: Path) -> tuple[str, ElementTree.Element]:
    text = write_report(bench, results).read_text(encoding="utf-8")
    return text, ElementTree.fromstring(text)


def test_the_page_is_whole_and_loads_nothing(bench: Benchmark, tmp_path: Path) -> None:
    told = {
        "default": {"title": "<i>ours</i>", "options": {"preset": "default"}},
        "paper": {"options": {"preset": "paper"}},
    }
    results = results_of(tmp_path / "out", bench, rich, SWEPT, told)
    lines = ResultLines(results, "1-of-1")
    (results / "pictures").mkdir()
    Image.new("RGB", (SIDE + 20, SIDE), (9, 9, 200)).save(results / "pictures" / "a.png")
    digest = file_sha256(results / "pictures" / "a.png")
    for row in bench.rows:
        lines.add(Result(row.id, "paper", row.seed, "pictures/a.png", digest, 2.5, commit="c1"))
    lines.add(Result("r0000", "default", 0, None, None, 0.1, "no <place> for it"))
    text, page = whole_page(bench, results)
    assert "<b>red</b>" not in text and "&lt;b&gt;red&lt;/b&gt; &amp; shiny" in text
    assert "<i>ours</i>" not in text and "no &lt;place&gt; for it" in text
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    sources = [one.get("src", "") for one in page.iter("img")]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(one.get("href", "").startswith("#") for one in page.iter("a"))
    ids = {one.get("id") for one in page.iter()}
    assert all(one.get("href", "")[1:] in ids for one in page.iter("a"))
    # Six columns of numbers for the ceiling as for all; λ of the paper at 0.3, 0.7 (its own) and 1.
    assert any("true render" in "".join(one.itertext()) for one in page.iter("tr"))
    charts = [one for one in page.iter("svg") if one.get("class") == "chart"]
    assert charts and all(len(list(one.iter("title"))) == 1 for one in charts)
    lams = [one for one in charts if "local window" in str(one.findtext("title"))]
    assert lams and {"0.3", "0.7", "1"} <= {text.text for text in lams[0].iter("text")}
    for name in ("tables.md", "tables.csv", "tables.json", "sheet.png"):
        assert (results / "report" / "tabletop" / name).stat().st_size > 100
    with Image.open(results / "report" / "tabletop" / "sheet.png") as sheet:
        assert (9, 9, 200) in [colour for _, colour in sheet.convert("RGB").getcolors(1 << 24) or ()]
    assert write_report(bench, results, output=tmp_path / "again").read_text(encoding="utf-8") == text


def test_the_files_hold_the_same_numbers(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, rich, SWEPT)
    lines = ResultLines(results, "1-of-1")
    for number, row in enumerate(bench.rows):
        lines.add(Result(row.id, "default", 0, "a.png", "", 1, commit="new+" if number < 8 else "old"))
        lines.add(Result(row.id, "paper", 0, "a.png", "", 1, commit="old"))
    folder = write_report(bench, results).parent
    commits = {"default": "old;new+", "paper": "old"}
    listed = list(csv.DictReader(io.StringIO((folder / "tables.csv").read_text())))
    kept = json.loads((folder / "tables.json").read_text())
    about = kept["about"]
    assert about["model_hash"] == "abc" and about["seeds"]["distinct"] == 48
    kept_there = {(row["model_hash"], row["encoders"], row["manifest"]) for row in listed}
    assert kept_there == {("abc", "tabletop", bench.manifest_sha256)}
    cells = [cell for table in kept["tables"] for line in table["lines"] for cell in line["cells"].values()]
    assert len(cells) == len(listed) and all(cell["n"] for cell in cells)
    one = next(row for row in listed if row["table"] == "methods" and row["metric"] == "attribute")
    expected = np.mean([rich(row, one["method"])["attribute"] for row in bench.rows if row.edit])
    assert one["group"] == "editing" and float(one["mean"]) == pytest.approx(float(expected)) and one["n"] == "24"
    assert all(row["commit"] == commits.get(row["method"], "") for row in listed)
    markdown = (folder / "tables.md").read_text()
    assert (
        f"{100 * float(expected):.1f} (" in markdown
        and "weights `abc`; commit `several: old (88), new+ (8)`" in markdown
    )
    assert "| several: old (40), new+ (8) |" in markdown and "- too dark: 3" in markdown
    assert "## Variants" in markdown and "odd" in markdown
    edits = next(table for table in kept["tables"] if table["key"] == "edits")
    assert {line["group"] for line in edits["lines"]} == set(EDITS)


def test_next_to_nothing_still_gives_a_report(tmp_path: Path) -> None:
    bench = benchmark_of(tmp_path / "bench", 1, 1)
    _, page = whole_page(bench, results_of(tmp_path / "out", bench, lambda row, _: {"clip_t_crop": 0.3}, ("odd one",)))
    said = "".join(page.itertext())
    assert "odd one" in said and "There are no pictures." in said and "None of the orderings could be asked" in said
    assert not (tmp_path / "out" / "report" / "tabletop" / "sheet.png").exists()


def test_what_cannot_be_reported_is_told(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, rich)
    for arguments, words in (
        ((tmp_path / "none",), "holds no results"),
        ((results, "--encoders", "real"), "no scores by encoders 'real': use one of: tabletop"),
        ((results, "--output", bench.folder / "scene.png"), "cannot make the folder"),
    ):
        done = CliRunner().invoke(app, ["bench", "report", str(bench.folder), *map(str, arguments)])
        assert done.exit_code == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) <= 2
    other = benchmark_of(tmp_path / "other", 4)
    with pytest.raises(BenchError, match="another manifest"):
        write_report(other, results)
    (results / "scores" / "tabletop" / "scores.jsonl").write_text("nothing\n")
    with pytest.raises(BenchError, match="1 broken lines"):
        write_report(bench, results)


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    bench = benchmark_of(tmp_path / "bench")
    lines = (bench.folder / "manifest.jsonl").read_text().splitlines()
    lines[3] = "{broken"
    (bench.folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    bench = Benchmark.open(bench.folder)
    results = results_of(tmp_path / "out", bench, lambda row, method: rich(row, method) if row.seed > 30 else None)
    kept = ResultLines(results, "1-of-1")
    for row in bench.rows[:40]:
        error = "no place: it is <full>" if row.seed < 28 else None
        kept.add(Result(row.id, "paper", 0, None if error else "a.png", None, 1, error))
    with kept.path.open("a") as file:
        file.write("torn\n")
    passed = [{"row": "r0040", "method": "paper", "reason": "picture changed: its hash is another"}]
    passed += [{"row": "r0001", "method": "paper", "reason": "failed: no place: it is <full>"}]
    (results / "scores" / "tabletop" / "left_out.json").write_text(json.dumps({"results": passed}))
    done = CliRunner().invoke(app, ["bench", "report", str(bench.folder), str(results)])
    assert done.exit_code == 0
    for words in (
        "built: too dark: 3",
        "read: broken line: 1 (line 4: ",
        "run: no place: 27 (r0000 by paper: it is <full>; r0001 by paper: it is <full>; r0002 by paper",
        "run: broken line of results: 1 (1-of-1.jsonl: 1)",
        "scored: picture changed: 1 (r0040 by paper",
        "reported: picture without a score (score again): 3 (r0028 by paper; r0029 by paper; r0030 by paper)",
    ):
        assert words in done.stderr, words
    folder = results / "report" / "tabletop"
    page, markdown = ((folder / name).read_text() for name in ("report.html", "tables.md"))
    for text in (page, markdown):
        assert "r0020 by paper" in text and "r0021 by paper" not in text  # twenty names, r0003 being a broken line
        assert "r0040 by paper: its hash is another" in text
    assert "and 7 more" in page and "<full" not in page + markdown
    about = json.loads((folder / "tables.json").read_text())["about"]
    own = {one["method"]: one for one in about["results"]}
    assert own["paper"]["errors"] == 27 and own["paper"]["not_run"] == 0 and own["default"]["not_run"] == 30


def test_the_commands_are_those_of_the_run(tmp_path: Path) -> None:
    bench = benchmark_of(tmp_path / "bench", name="tabletop")
    told = {"model": "my model", "device": "cpu", "dtype": "auto", "budget": {"steps": 60}}
    results = results_of(
        tmp_path / "out", bench, rich, ("paper", "default", "paper@lam=0.3", "default@lam=1"), run=told
    )
    lines = ResultLines(results, "1-of-1")
    few = {row.id for row in bench.thinned(3, 3).rows}
    for number, row in enumerate(bench.rows):
        for method in ("paper", "default"):
            lines.add(Result(row.id, method, 0, None, None, 1, "none"))
        if row.id in few:
            lines.add(Result(row.id, "paper@lam=0.3", 0, None, None, 1, "none"))
        if number < 5:
            lines.add(Result(row.id, "default@lam=1", 0, None, None, 1, "none"))
    about = json.loads((write_report(bench, results).parent / "tables.json").read_text())["about"]
    text = about["commands"].replace("\\\n", "")
    found = [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]
    assert [words[2] for words in found] == ["build", "run", "run", "run", "score", "report"]
    assert found[0][3:] == ["tabletop", "--output", "BENCHMARK", "--seed", "1"]
    run = ["BENCHMARK", "--output", "RESULTS", "--model", "my model", "--device", "cpu", "--dtype", "auto"]
    run += ["--learn-steps", "60"]
    assert found[1][3:] == [*run, "--method", "paper", "--method", "default"]
    assert found[2][3:] == [*run, "--subjects", "3", "--per-subject", "3", "--method", "paper@lam=0.3"]
    assert found[3][3:] == [*run, "--limit", "5", "--method", "default@lam=1"]
    for words in found:
        parsed = CliRunner().invoke(app, [*words[1:], "--help"])
        assert parsed.exit_code == 0, parsed.output
    page = (results / "report" / "tabletop" / "report.html").read_text()
    assert "latent cells" in page and "it was not measured" in page


def test_only_listed_pictures_inside_the_folder_are_shown(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, rich, ("paper",))
    outside, changed = tmp_path / "secret.png", results / "changed.png"
    for path in (outside, changed):
        Image.new("RGB", (SIDE + 20, SIDE), (250, 1, 2)).save(path)
    lines = ResultLines(results, "1-of-1")
    for number, row in enumerate(bench.rows):
        name, digest = ("../secret.png", file_sha256(outside)) if number % 2 else ("changed.png", "0" * 64)
        lines.add(Result(row.id, "paper", 0, name, digest, 1))
    write_report(bench, results)
    with Image.open(results / "report" / "tabletop" / "sheet.png") as sheet:
        assert (250, 1, 2) not in [colour for _, colour in sheet.convert("RGB").getcolors(1 << 24) or ()]


def test_foreign_values_neither_break_the_page_nor_run_in_it(bench: Benchmark, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>|`x`"
    told = {"paper": {"title": bad, "options": "none", "learn": [1]}, "default": {"options": {"preset": [bad]}}, "x": 3}
    run = {"model": [bad], "model_hash": bad, "versions": bad, "budget": [bad], "device": {"a": bad}}
    results = results_of(tmp_path / "out", bench, rich, SWEPT, told, run)
    (results / "scores" / "tabletop" / "encoders.json").write_text(json.dumps({"metrics": bad, "reference": bad}))
    folder = write_report(bench, results).parent
    assert "<script" not in (folder / "report.html").read_text() + (folder / "tables.md").read_text().split("```")[0]


def test_a_blind_study_is_linked(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, rich)
    (results / "study" / "my table").mkdir(parents=True)
    (results / "study" / "my table" / "study.html").write_text("")
    folder = write_report(bench, results).parent
    link = "../../study/my%20table/study.html"
    assert f'href="{link}"' in (folder / "report.html").read_text()
    assert f"[Blind study]({link})" in (folder / "tables.md").read_text()
