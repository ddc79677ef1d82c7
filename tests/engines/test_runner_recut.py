"""Thresholds: from a file, at the end of a run, and cut again without running a step."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from tests.engines.small_engine import make_broken, run_small, small_steps
from tests.engines.test_runner import folder_bytes

from intarsia.engines import (
    EngineError,
    Progress,
    Step,
    ThresholdError,
    iterate_samples,
    load_thresholds,
    read_rows,
    recut,
    run_engine,
    verify_output,
)
from intarsia.errors import OutputExistsError


def test_thresholds_decide_at_the_end_and_are_changed_without_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = run_small(out)
    report = run_small(out, thresholds={"score": (0.5, None), "area": (None, 0.8)})
    assert report.shards_resumed == 5
    rows = [row for row in read_rows(out).to_pylist() if row["rejected"] is None]
    chosen = [row["key"] for row in rows if row["score"] >= 0.5 and row["area"] <= 0.8]
    assert 0 < len(chosen) == report.kept < plain.kept == len(rows)
    assert [sample["key"] for sample in iterate_samples(out)] == chosen
    assert len(list(iterate_samples(out, candidates=True))) == plain.kept
    count = report.funnel.step("thresholds")
    assert count.rejected["score below 0.5"] == sum(row["score"] < 0.5 for row in rows)
    assert json.loads((out / "funnel.json").read_text())["kept"] == len(chosen)
    assert run_small(out).kept == plain.kept and not (out / "selection.parquet").exists()
    run_small(tmp_path / "fresh")
    assert folder_bytes(out) == folder_bytes(tmp_path / "fresh")


def test_recut_and_repack(tmp_path: Path) -> None:
    run = tmp_path / "run"
    whole = run_small(run)
    before = folder_bytes(run)
    funnel = recut(run, {"score": (0.3, None)}, tmp_path / "cut", repack=3)
    assert folder_bytes(run) == before
    expected = [sample for sample in iterate_samples(run) if sample["score"] >= 0.3]
    assert list(iterate_samples(tmp_path / "cut")) == expected
    assert 3 < len(expected) == funnel.kept < whole.kept and funnel.source_rows == 20
    assert verify_output(tmp_path / "cut") == ()
    assert len(list((tmp_path / "cut" / "shards").glob("*.tar"))) == -(-len(expected) // 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "run"]
    recut(run, {"score": (0.3, None)}, tmp_path / "again", repack=3)
    assert folder_bytes(tmp_path / "cut") == folder_bytes(tmp_path / "again")
    with pytest.raises(OutputExistsError, match="exists already"):
        recut(run, {}, tmp_path / "cut")
    assert recut(run, {"score": (2, None)}, tmp_path / "cut", repack=3, overwrite=True).kept == 0
    assert list(iterate_samples(tmp_path / "cut")) == [] and verify_output(tmp_path / "cut") == ()
    assert recut(run, {}, tmp_path / "cut", overwrite=True).kept == whole.kept
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == [
        "funnel.json",
        "funnel.md",
        "selection.parquet",
        "thresholds.json",
    ]


def test_rows_without_a_score_stay_out_and_are_counted(tmp_path: Path) -> None:
    def score(row: dict[str, object]) -> list[dict[str, object]]:
        return [row if row["key"] == "b" else {**row, "score": 1}]

    run_engine(
        name="x",
        version="1",
        source=[{"key": key} for key in "abc"],
        steps=[Step("score", lambda: score)],
        output=tmp_path / "run",
        settings={},
        shard_size=1,
    )
    funnel = recut(tmp_path / "run", {"score": (1, 1)}, tmp_path / "cut")
    assert funnel.kept == 2 and funnel.step("thresholds").rejected == {"score missing": 1}


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "half", progress=stop)
    with pytest.raises(EngineError, match="not committed; run the engine to its end"):
        recut(tmp_path / "half", {}, tmp_path / "cut")
    run_small(tmp_path / "run")
    with pytest.raises(ThresholdError, match=r"no row has the score 'scor'; the run has: area, .*score"):
        recut(tmp_path / "run", {"scor": (0, 1)}, tmp_path / "cut")
    with pytest.raises(ThresholdError, match="lowest 1 is above highest 0"):
        recut(tmp_path / "run", {"score": (1, 0)}, tmp_path / "cut")
    with pytest.raises(OutputExistsError, match="the run itself"):
        recut(tmp_path / "run", {}, tmp_path / "run", overwrite=True)
    with pytest.raises(OutputExistsError, match="not made by cutting again"):
        recut(tmp_path / "run", {}, tmp_path / "half", overwrite=True)
    assert not (tmp_path / "cut").exists()


def test_a_wrong_threshold_costs_no_finished_shard(tmp_path: Path) -> None:
    with pytest.raises(ThresholdError, match="no row has the score"):
        run_small(tmp_path / "out", thresholds={"scor": (0, None)})
    unused = [Step(step.name, partial(make_broken)) for step in small_steps()]
    assert run_small(tmp_path / "out", steps=unused, thresholds={"score": (0, None)}).shards_resumed == 5


def test_thresholds_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.yaml"
    path.write_text("score: {min: 0.35}\narea: {min: 0.01, max: 1}\n")
    assert load_thresholds(path) == {"score": (0.35, None), "area": (0.01, 1.0)}
    path.write_text("")
    assert load_thresholds(path) == {}
    for text, complaint in (
        ("score: 0.3", "must be like"),
        ("score: {low: 0.3}", "must be like"),
        ("score: {min: much}", "must be a number"),
        ("score: {min: .nan}", "must be a number"),
        ("score: {min: true}", "must be a number"),
        ("- score", "must hold lines"),
        ("score: {", "not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ThresholdError, match=complaint):
            load_thresholds(path)
    with pytest.raises(ThresholdError, match="cannot read the thresholds"):
        load_thresholds(tmp_path / "missing.yaml")
