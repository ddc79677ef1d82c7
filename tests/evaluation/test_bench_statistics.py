"""From scores to means, intervals and verdicts, on made-up scores whose means are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.bench_scores import SUBJECTS, Values, benchmark_of, cells_of, noise_of, results_of

from intarsia.evaluation.bench import BenchError, Benchmark, Row
from intarsia.evaluation.bench.cells import Difference
from intarsia.evaluation.bench.metrics.distances import kernel_distance
from intarsia.evaluation.bench.orderings import ORDERINGS, Ordering, judge_orderings, verdict_of
from intarsia.evaluation.bench.resampling import cluster_weights, kernel_draws
from intarsia.evaluation.bench.scores_folder import Features, write_features
from intarsia.evaluation.bench.tables import make_tables


@pytest.fixture
def bench(tmp_path: Path) -> Benchmark:
    return benchmark_of(tmp_path / "bench")


def test_a_cell_is_the_mean_with_an_interval_of_known_width(bench: Benchmark, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", bench, lambda row, method: {"clip_t_crop": noise_of(row, method)})
    cells = cells_of(bench, results, 2_000)
    values = np.asarray([noise_of(row, "paper") for row in bench.rows])
    cell = cells.cell("paper", "clip_t_crop", bench.rows)
    assert cell is not None and cell.n == len(bench.rows) and cell.draws == 2_000
    assert cell.mean == pytest.approx(values.mean())
    low, high = cell.low or 0, cell.high or 0
    # That of the subjects' means: what rows of one differ by is in there already, and is not counted twice.
    means = np.asarray([values[[row.subject == f"s{s}" for row in bench.rows]].mean() for s in range(SUBJECTS)])
    assert low < values.mean() < high
    assert (high - low) / (2 * 1.96) == pytest.approx(means.std() / math.sqrt(SUBJECTS), rel=0.08)


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


def test_what_never_varies_is_as_sure_as_there_are_subjects(bench: Benchmark, tmp_path: Path) -> None:
    """Rows of a subject are no independent tries: Wilson's interval and the rule of three count subjects."""

    def score(row: Row, method: str) -> Values:
        return {"top1": 1.0, "attribute": float(method == "default"), "psnr_outside": 100.0}

    cells = cells_of(bench, results_of(tmp_path / "out", bench, score))
    cell = cells.cell("paper", "top1", bench.rows)
    assert cell is not None and cell.mean == 1 and cell.high == 1 and cell.note.endswith("12 subjects")
    assert cell.low == pytest.approx(SUBJECTS / (SUBJECTS + 1.959964**2), abs=1e-6)
    same = cells.cell("paper", "psnr_outside", bench.rows)
    assert same is not None and same.mean == 100 and same.low is None and same.high is None
    none = cells.difference("default", "paper", "top1", bench.rows)
    assert none is not None and (none.low, none.high) == pytest.approx((-3 / SUBJECTS, 3 / SUBJECTS))
    assert verdict_of(none) == verdict_of(none, 0.02) == ("not clear", "no row differs")
    every = cells.difference("default", "paper", "attribute", bench.rows)
    assert every is not None and (every.low, every.high) == pytest.approx((1 - 6 / SUBJECTS, 1))
    assert verdict_of(every) == ("holds", "")
    alike = cells.difference("default", "paper", "psnr_outside", bench.rows)
    assert verdict_of(alike) == ("not clear", "no row differs")


@pytest.mark.parametrize(
    ("ends", "margin", "expected"),
    [
        ((0.01, 0.03), None, "holds"),
        ((-0.01, 0.03), None, "not clear"),
        ((-0.03, -0.01), None, "does not hold"),
        ((-0.02, 0.0), None, "not clear"),
        ((0.0, 0.02), None, "not clear"),
        ((-0.01, 0.03), 0.02, "holds"),
        ((-0.03, 0.03), 0.02, "not clear"),
        ((-0.05, -0.03), 0.02, "does not hold"),
    ],
)
def test_verdicts(ends: tuple[float, float], margin: float | None, expected: str) -> None:
    assert verdict_of(Difference(sum(ends) / 2, *ends, 300, 30), margin) == (expected, "")
    assert verdict_of(Difference(sum(ends) / 2, *ends, 19, 9), margin) == ("not clear", "only 19 rows")
    assert verdict_of(Difference(sum(ends) / 2, *ends, 300, 9), margin) == ("not clear", "only 9 subjects")


def test_a_difference_without_spread_is_no_certainty() -> None:
    assert verdict_of(Difference(0.0, 0.0, 0.0, 300, 30)) == ("not clear", "no row differs")
    assert verdict_of(Difference(0.0, 0.0, 0.0, 300, 30), 0.03) == ("not clear", "no row differs")


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
    # A judge that learned from full captions says little of prompts that name the class alone.
    assert {one.ordering.task for one in judge_orderings(cells) if one.caveat} == {"identity"}
    assert {one.ordering.metric for one in judge_orderings(cells) if one.caveat} == {"clip_t"}
    noted = {table.key for table in make_tables(cells) if "read CLIP-T, caption" in table.note}
    assert {"methods", "ablation", "sizes"} <= noted and "edits" not in noted


def test_the_papers_claims_are_all_asked() -> None:
    asked = {(one.metric, one.better, one.worse, one.task) for one in ORDERINGS if one.margin is None}
    for task in ("identity", "editing"):
        for metric in ("clip_t", "clip_i", "dino"):
            assert (metric, "dif", "dreambooth", task) in asked
    assert {("clip_t", "tas", "dif", "editing"), ("clip_t", "paper", "tas", "editing")} <= asked
    assert ("attribute", "default", "paper", "editing") in asked
    assert any(one.size == "small" and one.metric == "attribute" for one in ORDERINGS)


def test_whole_subjects_are_drawn_and_the_same_again() -> None:
    clusters = ["a"] * 3 + ["b"] * 5 + ["c"]
    weights = cluster_weights(clusters, 300)
    assert weights.shape == (300, 9) and np.array_equal(weights, cluster_weights(clusters, 300))
    assert all(len(set(one[:3])) == len(set(one[3:8])) == 1 for one in weights.tolist())
    assert set(weights[:, 0] + weights[:, 3] + weights[:, 8]) == {3}
    alone = cluster_weights(["a"] * 9, 300)
    assert set(alone.sum(1)) == {9} and any(len(set(one)) > 1 for one in alone.tolist())


def test_draws_of_the_kernel_distance_agree_with_it_and_do_not_lean() -> None:
    random = np.random.default_rng(0)
    sample, reference = random.normal(0.2, 1, (60, 8)), random.normal(size=(60, 8))
    value, once = kernel_distance(sample, reference), np.ones((1, 60), np.float32)
    for others in (None, once):
        assert kernel_draws(sample, reference, once, others, block=7)[0] == pytest.approx(value, rel=1e-9)
    twice = np.repeat([[2.0, 0.0]], 30, axis=0).reshape(1, 60).astype(np.float32)
    half = kernel_draws(sample, reference, twice, twice)[0]  # every other row: none makes a pair with itself
    inside = [(points[::2] @ points[::2].T / 8 + 1) ** 3 for points in (sample, reference)]
    across = ((sample[::2] @ reference[::2].T / 8 + 1) ** 3).mean()
    within = sum((one.sum() - np.trace(one)) / (30 * 29) for one in inside)
    assert half == pytest.approx(within - 2 * across, rel=1e-9)
    draws = kernel_draws(sample, reference, cluster_weights([f"{n:02d}" for n in range(60)], 2_000))
    assert draws.mean() == pytest.approx(value, abs=4 * draws.std() / math.sqrt(2_000))


def test_the_interval_of_kid_lies_around_it_when_subjects_look_alike(tmp_path: Path) -> None:
    """A subject drawn twice makes pairs that look alike: without moving, every draw lies above the estimate."""
    bench = benchmark_of(tmp_path / "bench", 48, subjects=6)
    results = results_of(tmp_path / "out", bench, lambda row, _: {"seam": 0.0})
    folder, random = results / "scores" / "tabletop", np.random.default_rng(0)
    ids, home = tuple(row.id for row in bench.rows), random.normal(0, 3, (6, 8))
    own = np.stack([home[int(row.subject[1:])] for row in bench.rows])
    mine, real = (own + random.normal(0, 0.1, own.shape) + shift for shift in (0.3, 0.0))
    empty = np.empty((0, 8), np.float32)
    write_features(folder, "paper", Features(ids, mine.astype(np.float32), empty))
    for rows, crop, whole in ((ids, real, empty), ((), empty, real)):
        write_features(folder, "reference", Features(rows, crop.astype(np.float32), whole.astype(np.float32)))
        metric = "kid_crop" if rows else "kid_whole"
        write_features(folder, "paper", Features(ids, *([mine.astype(np.float32)] * 2)))
        cells = cells_of(bench, results)
        cell = cells.cell("paper", metric, bench.rows)
        assert cell is not None and cell.low is not None and cell.high is not None and cell.mean is not None
        assert cell.subjects == 6 and cell.low < cell.mean < cell.high
        draws = kernel_draws(mine, real, cells.weights(ids)[:200], cells.weights(ids)[:200] if rows else None)
        assert (cell.high - cell.low) == pytest.approx(np.subtract(*np.percentile(draws, [97.5, 2.5])), rel=1e-3)


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
    assert cell.mean == pytest.approx(kernel_distance(mine[places[1:]], real[places[1:]]), rel=1e-9)
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
    write_features(folder, "reference", Features(ids, real[:, 0], empty))
    with pytest.raises(BenchError, match="not one line a row"):
        cells_of(bench, results).cell("paper", "kid_crop", rows)


def test_fid_is_as_sure_as_its_resamples_spread(
    bench: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intarsia.evaluation.bench.cells.FEWEST_FOR_FRECHET", 20)
    results = results_of(tmp_path / "out", bench, lambda row, _: {"seam": 0.0})
    ids, random = tuple(row.id for row in bench.rows), np.random.default_rng(0)
    for name, shift in (("paper", 1.0), ("reference", 0.0)):
        values = random.normal(shift, 1, (len(ids), 3)).astype(np.float32)
        write_features(results / "scores" / "tabletop", name, Features(ids, values, values))
    cell = cells_of(bench, results).cell("paper", "fid_whole", bench.rows)
    assert cell is not None and cell.shown and cell.low is not None and cell.high is not None and cell.mean is not None
    assert cell.high - cell.mean == pytest.approx(cell.mean - cell.low) and cell.high > cell.mean
    assert "1.96 standard deviations" in cell.note and cell.draws == 30
