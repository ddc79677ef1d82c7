"""A benchmark's files, the methods, and runs over them: resumable, no row twice, faults named and passed over."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intarsia.evaluation import bench
from intarsia.evaluation.bench.build_tabletop import build_tabletop
from intarsia.evaluation.bench.manifest import size_class
from intarsia.evaluation.bench.paste import cut_and_paste
from intarsia.evaluation.bench.results_folder import Result, ResultLines
from intarsia.evaluation.bench.run import RunOptions, _Worker, open_run, run_part
from intarsia.imaging import Picture


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects with four rows each."""
    folder = tmp_path_factory.mktemp("bench") / "benchmark"
    build_tabletop(folder, subjects=2, per_subject=4, seed=3)
    return folder


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "benchmark"))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_what_is_built_is_what_the_rows_say(built: Path) -> None:
    opened = bench.Benchmark.open(built)
    assert opened.faults == () and len(opened.rows) == 8
    assert [row.task for row in opened.rows[:4]] == ["identity", "editing"] * 2
    for row in opened.rows:
        scene, mask = (np.asarray(Image.open(built / name).convert("RGB")) for name in (row.scene, row.mask))
        assert row.truth is not None
        truth = np.asarray(Image.open(built / row.truth.present).convert("RGB"))
        ys, xs = np.flatnonzero(mask[..., 0].any(1)), np.flatnonzero(mask[..., 0].any(0))
        assert size_class((max(np.ptp(ys), np.ptp(xs)) + 1) / len(mask)) == row.size
        inside = mask[..., 0] > 127
        changed = np.abs(scene.astype(int) - truth).max(2) > 12
        assert changed[inside].mean() > 0.2, "the thing stands in the mask"
        assert (row.edit is None) == (row.task == "identity") == (not row.truth.changes)
        if row.edit is not None:
            assert row.truth.attributes[row.edit] == row.truth.changes[row.edit]
            assert row.truth.changes[row.edit] in row.prompt
        assert "sks" not in row.prompt and row.class_noun in row.prompt


def test_building_again_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build_tabletop(tmp_path / "again", subjects=1, per_subject=4, seed=3)
    again = bench.Benchmark.open(tmp_path / "again")
    assert again.rows == bench.Benchmark.open(built).rows[:4]
    with pytest.raises(bench.BenchError, match="holds a benchmark already"):
        build_tabletop(tmp_path / "again", subjects=1, per_subject=4)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder, row: (folder / row["scene"]).unlink(), "file missing: scenes/"),
        (lambda folder, row: Image.new("RGB", (192, 192)).save(folder / row["scene"]), "file changed: scenes/"),
        (lambda folder, row: (folder / row["truth"]["present"]).unlink(), "file missing: truth/"),
    ],
)
def test_a_row_whose_files_are_not_there_is_named_and_left_out(copied: Path, spoil: Any, reason: str) -> None:
    row = rows_of(copied)[2]
    spoil(copied, row)
    opened = bench.Benchmark.open(copied)
    assert len(opened.rows) == 7
    assert [(fault.row, fault.reason.startswith(reason)) for fault in opened.faults] == [(row["id"], True)]
    assert opened.left_out == {reason.split(":")[0]: 1}


def _spoiled_rows(folder: Path, change: dict[int, Any]) -> None:
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    for number, value in change.items():
        lines[number] = value if isinstance(value, str) else json.dumps({**json.loads(lines[number]), **value})
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")


def test_broken_and_wrong_lines_are_named_and_left_out(copied: Path) -> None:
    first = (copied / "manifest.jsonl").read_text().splitlines()[0]
    _spoiled_rows(
        copied,
        {1: '{"id": "s00', 2: {"task": "guessing"}, 3: {"subject": "nobody"}, 4: {"seed": -1}, 5: first, 6: "[1]"},
    )
    opened = bench.Benchmark.open(copied)
    assert {fault.row: fault.reason.split(":")[0] for fault in opened.faults} == {
        "line 2": "broken line",
        "line 3": "broken line",
        "s00-03": "unknown subject",
        "line 5": "broken line",
        "s00-00": "listed twice",
        "line 7": "broken line",
    }
    assert [row.id for row in opened.rows] == ["s00-00", "s01-03"]


def test_masks_off_the_picture_or_empty_are_left_out(copied: Path) -> None:
    rows = rows_of(copied)
    for row, size in ((rows[0], (100, 100)), (rows[1], (192, 192))):
        Image.new("L", size).save(copied / row["mask"])
    digests = {n: {"mask_sha256": bench_sha(copied / rows[n]["mask"])} for n in (0, 1)}
    _spoiled_rows(copied, digests)
    assert bench.Benchmark.open(copied).left_out == {"mask off the picture": 1, "mask empty": 1}


def bench_sha(path: Path) -> str:
    from intarsia.evaluation.bench.manifest import file_sha256

    return file_sha256(path)


def test_a_listed_path_may_not_leave_the_folder(copied: Path) -> None:
    outside = copied.parent / "outside.png"
    shutil.copy(copied / rows_of(copied)[0]["scene"], outside)
    _spoiled_rows(copied, {0: {"scene": "../outside.png"}})
    assert bench.Benchmark.open(copied).faults[0].reason == "file missing: ../outside.png"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
        (lambda folder: (folder / "benchmark.json").unlink(), "holds no benchmark"),
        (lambda folder: (folder / "manifest.jsonl").unlink(), "build the benchmark again"),
        (lambda folder: (folder / "benchmark.json").write_text('{"format": 0}'), "made by another version"),
        (lambda folder: (folder / "benchmark.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "manifest.jsonl").write_text("x\n"), "no usable row; the first: line 1"),
    ],
)
def test_a_folder_that_is_no_benchmark_is_one_line(copied: Path, spoil: Any, words: str) -> None:
    spoil(copied)
    with pytest.raises(bench.BenchError, match=words) as caught:
        bench.Benchmark.open(copied)
    assert len(str(caught.value).splitlines()) == 1


def test_the_methods_are_steps_of_the_ablation() -> None:
    steps = [bench.METHODS[name] for name in ("dreambooth", "dif", "tas", "paper")]
    assert steps[0].options["lam"] == 0 and "lam" not in steps[1].options
    assert steps[1].options["remove_attributes"] == "none" and "remove_attributes" not in steps[2].options
    assert steps[2].options == steps[3].options == {"preset": "paper"}
    assert len({step.subject_key for step in steps[:3]}) == 1 and steps[3].subject_key == "paper"
    names = ("steps", "batch", "regular_images")
    budgets = [{name: step.learn_settings().get(name) for name in names} for step in steps]
    assert all(budget == budgets[0] for budget in budgets)


def test_a_variant_changes_requests_or_learning() -> None:
    variant = bench.method_of("default@subject_strength=0.5,learn_steps=60")
    assert variant.options["subject_strength"] == 0.5 and variant.learn_settings()["steps"] == 60
    assert variant.subject_key == "default-steps=60"
    assert bench.method_of("paper@lam=0").options["lam"] == 0


@pytest.mark.parametrize(
    "name",
    ["best", "paper@", "paper@lam", "paper@lam=2", "paper@light=1", "default@learn_speed=1", "text_only@learn_steps=3",
     "cut_and_paste@lam=1", "default@learn_steps=0"],
)  # fmt: skip
def test_unknown_methods_and_fields_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(bench.BenchError) as caught:
        bench.method_of(name)
    assert len(str(caught.value).splitlines()) == 1


def test_cut_and_paste_keeps_what_is_outside_the_mask() -> None:
    scene = np.random.default_rng(0).integers(90, 110, (80, 90, 3), dtype=np.uint8)
    photo, silhouette = np.full((60, 60, 3), 100, np.uint8), np.zeros((60, 60), bool)
    silhouette[10:50, 20:40] = True
    photo[silhouette] = (200, 30, 30)
    for top, left in ((30, 40), (0, 0), (50, 65)):
        mask = np.zeros((80, 90), bool)
        mask[top : top + 30, left : left + 25] = True
        pasted = cut_and_paste(scene, mask, photo, silhouette)
        assert (pasted[~mask] == scene[~mask]).all()
        red = (pasted[..., 0] > 160) & (pasted[..., 1] < 70)
        assert 0.75 < red.sum() / (30 * 15) < 1.1, "the photo's subject stands in the mask, in its own colours"
        assert red[top + 28, left + 12] and not red[top + 28, left], "in the middle of the mask's lower edge"


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows are painted grey, without a model; the list tells which, in order."""
    asked: list[str] = []

    def paint(self: _Worker, row: bench.Row, method: bench.Method) -> Picture:
        asked.append(f"{row.id} {method.name}")
        if row.id == "s00-01":
            raise bench.BenchError("no paint left: buy some")
        return Picture.from_array(np.full((192, 192, 3), row.seed % 251, np.uint8))

    monkeypatch.setattr(_Worker, "_painted", paint)
    return asked


def test_a_run_goes_on_and_tries_errors_again(built: Path, tmp_path: Path, painted: list[str]) -> None:
    opened, folder = bench.Benchmark.open(built), tmp_path / "results"
    methods = [bench.method_of("text_only")]
    open_run(opened, folder, methods, RunOptions())
    said: list[str] = []
    assert run_part(opened, folder, methods, RunOptions(part=(1, 2)), say=said.append) == 1
    assert said == ["s00-01, text_only: no paint left: buy some"]
    assert len(painted) == 4 and {name[:3] for name in painted} == {"s00"}
    run_part(opened, folder, methods, RunOptions())
    assert painted[4:] == ["s00-01 text_only", *[f"s01-0{n} text_only" for n in range(4)]]
    results = bench.read_results(folder)
    assert len(results) == 8 and sum(result.error is not None for result in results) == 1
    for result in results:
        if result.picture is not None:
            assert bench_sha(folder / result.picture) == result.picture_sha256


def test_results_of_something_else_are_not_mixed_in(built: Path, copied: Path, tmp_path: Path) -> None:
    folder, methods = tmp_path / "results", [bench.method_of("text_only"), bench.method_of("default")]
    open_run(bench.Benchmark.open(built), folder, methods, RunOptions())
    open_run(bench.Benchmark.open(built), folder, methods[:1], RunOptions())
    assert set(json.loads((folder / "run.json").read_text())["methods"]) == {"text_only", "default"}
    with pytest.raises(bench.BenchError, match="another budget"):
        open_run(bench.Benchmark.open(built), folder, methods, RunOptions(budget={"steps": 3}))
    _spoiled_rows(copied, {0: {"seed": 5}})
    with pytest.raises(bench.BenchError, match="another manifest sha256"):
        open_run(bench.Benchmark.open(copied), folder, methods, RunOptions())


def test_a_method_whose_preset_changed_is_not_mixed_with_its_old_results(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intarsia.request import edit_request

    folder, methods = tmp_path / "results", [bench.method_of("text_only")]
    open_run(bench.Benchmark.open(built), folder, methods, RunOptions())
    real = edit_request.defaults
    monkeypatch.setattr(edit_request, "defaults", lambda *a, **k: {**real(*a, **k), "guidance_scale": 9.0})
    with pytest.raises(bench.BenchError, match="'text_only' with other settings"):
        open_run(bench.Benchmark.open(built), folder, methods, RunOptions())


def test_a_torn_line_is_dropped_and_a_row_counts_once(tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "run.json").write_text('{"format": 1}')
    ResultLines(folder, "1-of-1").add(Result("a", "m", 1, "p", "0", 0.5))
    ResultLines(folder, "1-of-2").add(Result("a", "m", 1, "q", "1", 0.5))
    path = folder / "lines" / "1-of-1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"row": "b", "meth')
    assert [result.row for result in bench.read_results(folder)] == ["a"]
    lines = ResultLines(folder, "1-of-1")
    lines.add(Result("b", "m", 2, None, None, 0.1, "error"))
    lines.add(Result("b", "m", 2, "r", "2", 0.1))
    found = {result.row: result for result in bench.read_results(folder)}
    assert found["a"].picture == "p" and found["b"].picture == "r" and len(found) == 2


def test_killed_runs_end_with_the_same_results(built: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments; then once to the end: the same pictures, no row twice."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def start(folder: Path) -> subprocess.Popen[bytes]:
        words = ["bench", "run", str(built), "-o", str(folder), "--method", "cut_and_paste", "--workers", "1"]
        return subprocess.Popen(
            [sys.executable, "-m", "intarsia", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    began = time.monotonic()
    assert start(whole).wait(120) == 0
    takes, draw = time.monotonic() - began, random.Random(5)
    for _ in range(4):
        process = start(cut)
        time.sleep(takes * draw.uniform(0.3, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert start(cut).wait(120) == 0
    expected, found = ({(r.row, r.method): r for r in bench.read_results(f)} for f in (whole, cut))
    lines = [json.loads(line) for path in (cut / "lines").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == len(found) == 8
    assert {key: result.picture_sha256 for key, result in found.items()} == {
        key: result.picture_sha256 for key, result in expected.items()
    }
