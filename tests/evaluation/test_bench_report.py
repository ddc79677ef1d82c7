"""From scores to tables, verdicts, plots and the page, on made-up scores whose means are known."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from intarsia.cli import app
from intarsia.evaluation.bench import BenchError, Benchmark, BenchSubject, Row, Shot, Truth, write_benchmark
from intarsia.evaluation.bench.cells import Cells, Difference, ScoreSet
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.measures import in_order, measure_of, title_of
from intarsia.evaluation.bench.metrics.distances import kernel_distance
from intarsia.evaluation.bench.orderings import ORDERINGS, Ordering, judge_orderings, verdict_of
from intarsia.evaluation.bench.plots import sweeps_of
from intarsia.evaluation.bench.report import write_report
from intarsia.evaluation.bench.resampling import cluster_weights, kernel_draws
from intarsia.evaluation.bench.results_folder import Result, ResultLines, write_run
from intarsia.evaluation.bench.scores_folder import Features, write_features
from intarsia.evaluation.bench.svg import Path as Line
from intarsia.evaluation.bench.svg import Point, chart, ticks
from intarsia.evaluation.bench.tables import make_tables

Values = Mapping[str, float | None]
SIDE, SUBJECTS, EACH = 40, 6, 8
SIZES = ("small", "medium", "large")
EDITS = ("colour", "material", "accessory")


def row_of(number: int, subjects: int, scene: str, mask: str) -> Row:
    """Every other row is editing; sizes in turn. ``scene``, ``mask``: hashes of the files."""
    editing = number % 2 == 1
    return Row(
        id=f"r{number:04d}",
        task="editing" if editing else "identity",
        scene="scene.png",
        scene_sha256=scene,
        mask="mask.png",
        mask_sha256=mask,
        subject=f"s{number // 2 % subjects}",
        class_noun="duck",
        prompt="a photo of a <b>red</b> & shiny duck",
        seed=number,
        size=SIZES[number // 2 % 3],  # type: ignore[arg-type]
        shape="box",
        edit=EDITS[number // 2 % 3] if editing else None,
        truth=Truth("scene.png", scene, {"colour": "red"}),
    )


def benchmark_of(folder: Path, rows: int = SUBJECTS * EACH, subjects: int = SUBJECTS) -> Benchmark:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE + 20, 3), np.uint8)
    Image.fromarray(noise).save(folder / "scene.png")
    mask = np.zeros((SIDE, SIDE + 20), np.uint8)
    mask[10:18, 20:29] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    hashes = file_sha256(folder / "scene.png"), file_sha256(folder / "mask.png")
    known = {f"s{number}": BenchSubject("duck", (Shot("scene.png", hashes[0]),)) for number in range(subjects)}
    listed = [row_of(number, subjects, *hashes) for number in range(rows)]
    write_benchmark(folder, "toys", listed, known, {"seed": 1}, {"too dark": 3})
    return Benchmark.open(folder)


def results_of(
    folder: Path,
    benchmark: Benchmark,
    score: Callable[[Row, str], Values | None],
    methods: tuple[str, ...] = ("paper", "default"),
    told: Mapping[str, Any] | None = None,
) -> Path:
    """Scores of each row and method by a function; None leaves the row out."""
    about = {"manifest_sha256": benchmark.manifest_sha256, "model_hash": "abc", "commit": "f00"}
    write_run(folder, {**about, "benchmark": benchmark.name, "model": "tiny", "methods": dict(told or {})})
    scores = folder / "scores" / "tabletop"
    scores.mkdir(parents=True)
    lines = []
    for method in methods:
        for row in benchmark.rows:
            values = score(row, method)
            if values is not None:
                lines.append(json.dumps({"row": row.id, "method": method, "values": values}))
    (scores / "scores.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def cells_of(benchmark: Benchmark, results: Path, draws: int = 400) -> Cells:
    return Cells(benchmark, ScoreSet.open(results), draws)


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    return benchmark_of(tmp_path / "bench")


def noise_of(row: Row, method: str) -> float:
    return float(np.random.default_rng([int(row.id[1:]), len(method)]).normal())


def test_a_cell_is_the_mean_with_an_interval_of_known_width(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, lambda row, method: {"clip_t_crop": noise_of(row, method)})
    cells = cells_of(bench, results, 2_000)
    values = np.asarray([noise_of(row, "paper") for row in bench.rows])
    cell = cells.cell("paper", "clip_t_crop", bench.rows)
    assert cell is not None and cell.n == len(bench.rows) and cell.draws == 2_000
    assert cell.mean == pytest.approx(values.mean())
    low, high = cell.low or 0, cell.high or 0
    # Two stages: the variance between subjects comes on top of that between rows.
    between = np.asarray([values[[row.subject == f"s{s}" for row in bench.rows]].mean() for s in range(SUBJECTS)])
    within = np.mean([values[[row.subject == f"s{s}" for row in bench.rows]].var() for s in range(SUBJECTS)])
    expected = math.sqrt(between.var() / SUBJECTS + within / len(values))
    assert low < values.mean() < high
    assert (high - low) / (2 * 1.96) == pytest.approx(expected, rel=0.08)


def test_rows_of_one_subject_are_not_independent(bench: Benchmark, tmp_path: Path) -> None:
    """All of its rows alike: then there are as many samples as subjects, not as rows."""
    results = results_of(tmp_path / "out", bench, lambda row, _: {"dino_crop": float(row.subject[1:])})
    cell = cells_of(bench, results, 2_000).cell("paper", "dino_crop", bench.rows)
    assert cell is not None and cell.low is not None and cell.high is not None
    assert (cell.high - cell.low) / (2 * 1.96) == pytest.approx(np.std(range(SUBJECTS)) / math.sqrt(SUBJECTS), rel=0.1)


def test_one_subject_is_resampled_by_its_rows(tmp_path: Path) -> None:
    bench = benchmark_of(tmp_path / "bench", 40, subjects=1)
    results = results_of(tmp_path / "out", bench, lambda row, method: {"dino_crop": noise_of(row, method)})
    cells = cells_of(bench, results, 2_000)
    values = np.asarray([noise_of(row, "paper") for row in bench.rows])
    cell = cells.cell("paper", "dino_crop", bench.rows)
    assert cell is not None and cell.low is not None and cell.high is not None
    assert (cell.high - cell.low) / (2 * 1.96) == pytest.approx(values.std() / math.sqrt(40), rel=0.1)
    found = judge_orderings(cells, [Ordering("x", "dino", "default", "paper", "identity")])
    assert found[0].verdict == "not clear" and found[0].note == "only 1 subject"


def test_differences_are_of_common_rows_only(bench: Benchmark, tmp_path: Path) -> None:
    def score(row: Row, method: str) -> Values | None:
        number = int(row.id[1:])
        if method == "default":  # the rows that the other method has not are far off
            return {"clip_t_crop": 99.0} if number >= 24 else {"clip_t_crop": 0.25 + 0.001 * number}
        return {"clip_t_crop": 0.2 + 0.001 * number} if number < 24 else None

    cells = cells_of(bench, results_of(tmp_path / "out", bench, score))
    found = cells.difference("default", "paper", "clip_t_crop", bench.rows)
    assert found is not None and found.n == 24 and found.subjects == SUBJECTS
    assert (found.mean, found.low, found.high) == pytest.approx((0.05, 0.05, 0.05))
    assert cells.difference("default", "dif", "clip_t_crop", bench.rows) is None


def test_null_nan_and_broken_lines_are_left_out_and_counted(bench: Benchmark, tmp_path: Path) -> None:
    def score(row: Row, method: str) -> Values:
        number = int(row.id[1:])
        return {"clip_t_crop": None if number == 0 else math.nan if number == 1 else 0.5, "seam": None}

    results = results_of(tmp_path / "out", bench, score)
    path = results / "scores" / "tabletop" / "scores.jsonl"
    bad = ['{"row": "r0005", "method"', '["r0005"]', '{"row":"r0005","method":"paper","values":{"clip_t_crop":"high"}}']
    path.write_text(path.read_text() + "\n".join([*bad, '{"row":"gone","method":"paper","values":{"clip_t_crop":9}}']))
    scores = ScoreSet.open(results)
    cell = Cells(bench, scores, 50).cell("paper", "clip_t_crop", bench.rows)
    assert cell is not None and cell.n == len(bench.rows) - 2 and cell.mean == 0.5
    assert scores.broken == 3 and scores.nulls["paper", "clip_t_crop"] == 2 and scores.nulls["paper", "seam"] == 48
    assert Cells(bench, scores).cell("paper", "seam", bench.rows) is None
    about = json.loads((write_report(bench, results).parent / "tables.json").read_text())["about"]
    assert about["left_out"]["score_lines_broken"] == 3 and about["left_out"]["scored_rows_not_in_benchmark"] == 1
    assert about["left_out"]["building"] == {"too dark": 3}


def test_shares_that_never_vary_get_wilsons_interval(bench: Benchmark, tmp_path: Path) -> None:
    cells = cells_of(bench, results_of(tmp_path / "out", bench, lambda row, _: {"top1": 1.0}))
    cell = cells.cell("paper", "top1", bench.rows)
    assert cell is not None and cell.mean == 1 and cell.high == 1 and "Wilson" in cell.note
    assert cell.low == pytest.approx(48 / (48 + 1.959964**2), abs=1e-6)


@pytest.mark.parametrize(
    ("ends", "margin", "expected"),
    [
        ((0.01, 0.03), None, "holds"),
        ((-0.01, 0.03), None, "not clear"),
        ((-0.03, -0.01), None, "does not hold"),
        ((0.0, 0.0), None, "does not hold"),
        ((-0.01, 0.03), 0.02, "holds"),
        ((-0.03, 0.03), 0.02, "not clear"),
        ((-0.05, -0.03), 0.02, "does not hold"),
    ],
)
def test_verdicts(ends: tuple[float, float], margin: float | None, expected: str) -> None:
    assert verdict_of(Difference(sum(ends) / 2, *ends, 300, 30), margin) == (expected, "")
    assert verdict_of(Difference(sum(ends) / 2, *ends, 19, 9), margin) == ("not clear", "only 19 rows")
    assert verdict_of(Difference(sum(ends) / 2, *ends, 300, 4), margin) == ("not clear", "only 4 subjects")


def test_orderings_are_told_from_the_scores(bench: Benchmark, tmp_path: Path) -> None:
    level = {"dreambooth": 0.2, "dif": 0.3, "tas": 0.25, "paper": 0.25}

    def score(row: Row, method: str) -> Values:
        return {"clip_t_crop": level[method] + 0.01 * noise_of(row, method)}

    cells = cells_of(bench, results_of(tmp_path / "out", bench, score, tuple(level)))
    told = {
        (one.ordering.better, one.ordering.worse, one.ordering.task): one.verdict
        for one in judge_orderings(cells)
        if one.metric == "clip_t_crop"
    }
    assert told["dif", "dreambooth", "identity"] == told["paper", "dreambooth", "editing"] == "holds"
    assert told["tas", "dif", "editing"] == "does not hold"
    assert told["paper", "tas", "editing"] == "not clear"
    others = [one for one in judge_orderings(cells) if one.metric != "clip_t_crop"]
    assert others and {one.verdict for one in others} == {"not measured"}
    assert all(one.says for one in others)


def test_the_papers_claims_are_all_asked() -> None:
    asked = {(one.metric, one.better, one.worse, one.task) for one in ORDERINGS if one.margin is None}
    for task in ("identity", "editing"):
        for metric in ("clip_t", "clip_i", "dino"):
            assert (metric, "dif", "dreambooth", task) in asked
    assert {("clip_t", "tas", "dif", "editing"), ("clip_t", "paper", "tas", "editing")} <= asked
    assert ("attribute", "default", "paper", "editing") in asked
    assert any(one.size == "small" and one.metric == "attribute" for one in ORDERINGS)


def test_resamples_have_all_rows_count_and_repeat() -> None:
    clusters = ["a"] * 3 + ["b"] * 5 + ["c"]
    weights = cluster_weights(clusters, 300)
    assert weights.shape == (300, 9) and np.array_equal(weights, cluster_weights(clusters, 300))
    totals = {3 * x + 5 * y + z for x in range(4) for y in range(4) for z in range(4) if x + y + z == 3}
    assert {int(total) for total in weights.sum(1)} <= totals
    assert set(np.unique(weights[:, 8])) <= {0, 1, 2, 3}


def test_draws_of_the_kernel_distance_agree_with_it_and_do_not_lean() -> None:
    random = np.random.default_rng(0)
    sample, reference = random.normal(0.2, 1, (60, 8)), random.normal(size=(50, 8))
    value = kernel_distance(sample, reference)
    assert kernel_draws(sample, reference, np.ones((1, 60), np.float32), block=7)[0] == pytest.approx(value, rel=1e-9)
    draws = kernel_draws(sample, reference, cluster_weights([str(n) for n in range(60)], 2_000))
    assert draws.mean() == pytest.approx(value, abs=4 * draws.std() / math.sqrt(2_000))


def test_sets_are_compared_with_the_references_of_their_rows(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, lambda row, _: {"seam": 0.0})
    folder, random = results / "scores" / "tabletop", np.random.default_rng(0)
    ids = tuple(row.id for row in bench.rows)
    real = random.normal(size=(len(ids), 4)).astype(np.float32)
    mine = random.normal(0.5, 1, (len(ids), 4)).astype(np.float32)
    mine[0] = np.nan
    empty = np.empty((0, 4), np.float32)
    write_features(folder, "paper", Features(ids, mine, mine))
    write_features(folder, "reference", Features(ids, real, empty))
    cells = cells_of(bench, results)
    rows = [row for row in bench.rows if row.task == "identity"]
    places = [number for number, row in enumerate(bench.rows) if row.task == "identity"]
    cell = cells.cell("paper", "kid_crop", rows)
    assert cell is not None and cell.n == 23 and cell.draws == 200 and cell.low is not None and cell.high is not None
    assert cell.mean == pytest.approx(kernel_distance(mine[places[1:]], real[places]), rel=1e-9)
    assert cell.low < cell.mean < cell.high  # type: ignore[operator]
    assert cells.cell("paper", "kid_whole", rows) is None and cells.cell("default", "kid_crop", rows) is None
    few = cells.cell("paper", "fid_crop", rows)
    assert few is not None and not few.shown and "biased" in few.note and few.low is None
    table = make_tables(cells)[0]
    assert "fid_crop" in table.metrics and "fid_crop" not in table.shown()
    write_features(folder, "reference", Features((), real[:5], empty))
    assert cells_of(bench, results).cell("paper", "kid_crop", rows) is None
    (folder / "features" / "reference.npz").write_bytes(b"no zip")
    with pytest.raises(BenchError, match="damaged"):
        cells_of(bench, results).cell("paper", "kid_crop", rows)


def rich(row: Row, method: str) -> Values:
    """Every kind of metric."""
    names = ("clip_t_crop", "clip_t_whole", "dino_crop", "dino_whole")
    values: dict[str, float | None] = {name: 0.5 + 0.1 * noise_of(row, method) for name in names}
    edited = float(noise_of(row, method) > 0)
    return {**values, "top1": edited, "attribute": edited if row.edit else None, "psnr_outside": 100.0, "odd": 1.0}


STEPS, STRENGTH = "default@learn_steps=60", "default@subject_strength=0.5"
SWEPT = ("default", "paper", "paper@lam=0.3", "paper@lam=1", STEPS, STRENGTH, "truth")


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
    for row in bench.rows:
        lines.add(Result(row.id, "paper", row.seed, "pictures/a.png", "", 2.5))
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
    folder = write_report(bench, results).parent
    listed = list(csv.DictReader(io.StringIO((folder / "tables.csv").read_text())))
    kept = json.loads((folder / "tables.json").read_text())
    about = kept["about"]
    assert about["model_hash"] == "abc" and about["commit"] == "f00" and about["seeds"]["distinct"] == 48
    cells = [cell for table in kept["tables"] for line in table["lines"] for cell in line["cells"].values()]
    assert len(cells) == len(listed) and all(cell["n"] for cell in cells)
    one = next(row for row in listed if row["table"] == "methods" and row["metric"] == "attribute")
    expected = np.mean([rich(row, one["method"])["attribute"] for row in bench.rows if row.edit])
    assert one["group"] == "editing" and float(one["mean"]) == pytest.approx(float(expected)) and one["n"] == "24"
    markdown = (folder / "tables.md").read_text()
    assert f"{100 * float(expected):.1f} (" in markdown and "weights `abc`; commit `f00`" in markdown
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


def test_methods_and_variants_have_an_order_and_a_name() -> None:
    methods = {"truth", "paper@lam=1.0", "paper@lam=0.3", "zebra", "paper", "cut_and_paste", "default", "paper@a=b"}
    assert in_order(methods) == [
        "cut_and_paste", "paper", "paper@a=b", "paper@lam=0.3", "paper@lam=1.0", "default", "zebra", "truth",
    ]  # fmt: skip
    assert title_of("paper@lam=0.3,steps=5", {"paper": "P"}) == "P, lam 0.3, steps 5"
    found = sweeps_of(["paper", "paper@lam=0.3", "paper@lam=1", "paper@lam=x", "paper@a=1,b=2", "default@q=1"], {})
    assert [(one.base, one.field, one.points) for one in found] == [
        ("paper", "lam", ((0.3, "paper@lam=0.3"), (1.0, "paper@lam=1")))
    ]


def test_numbers_are_written_as_their_measure_wants() -> None:
    assert measure_of("top1").write(0.5) == "50.0" and measure_of("top1").head == "found among 50, % ↑"
    assert measure_of("kid_crop").write(-0.00123) == "\N{MINUS SIGN}1.23"
    assert measure_of("clip_t_crop").write(-0.0001) == "0.000"
    assert measure_of("kid_crop").head.endswith("↓") and measure_of("my_metric").head == "my metric"


def test_charts_have_round_numbers_and_stay_within() -> None:
    assert ticks(0.21, 0.345) == pytest.approx([0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.34]) and ticks(0.5, 0.5) == [0.5]
    assert ticks(-3, 104) == pytest.approx([0, 20, 40, 60, 80, 100])
    points = (Point((60, None, None), (0.2, 0.1, 0.3), "60"), Point((240, 230, 250), (0.25, None, None), "<240>"))
    drawn = ElementTree.fromstring(chart("a & b", "x", "y", [Line("one", points)], places=[60, 240]))
    for circle in drawn.iter("circle"):
        assert 0 < float(circle.get("cx", 0)) < 340 and 0 < float(circle.get("cy", 0)) < 250
    assert {"60", "240", "<240>"} <= {text.text for text in drawn.iter("text")}
