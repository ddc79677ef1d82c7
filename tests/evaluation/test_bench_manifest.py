"""A benchmark's files: what is built, and faults that are named and passed over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.bench_world import small_benchmark

from intarsia.evaluation import bench
from intarsia.evaluation.bench.build_tabletop import build_tabletop
from intarsia.evaluation.bench.manifest import file_sha256, size_class


@pytest.fixture(scope="session")
def built() -> Path:
    return small_benchmark()


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
        "manifest.jsonl": "manifest changed",
    }
    assert [row.id for row in opened.rows] == ["s00-00", "s01-03"]


def test_masks_off_the_picture_or_empty_are_left_out(copied: Path) -> None:
    rows = rows_of(copied)
    for row, size in ((rows[0], (100, 100)), (rows[1], (192, 192))):
        Image.new("L", size).save(copied / row["mask"])
    digests = {n: {"mask_sha256": file_sha256(copied / rows[n]["mask"])} for n in (0, 1)}
    _spoiled_rows(copied, digests)
    assert bench.Benchmark.open(copied).left_out == {"mask off the picture": 1, "mask empty": 1, "manifest changed": 1}


def test_a_listed_path_may_not_leave_the_folder(copied: Path) -> None:
    outside = copied.parent / "outside.png"
    shutil.copy(copied / rows_of(copied)[0]["scene"], outside)
    _spoiled_rows(copied, {0: {"scene": "../outside.png"}})
    assert bench.Benchmark.open(copied).faults[-1].reason == "file missing: ../outside.png"


@pytest.mark.parametrize(
    "values",
    [{"id": "../../outside"}, {"id": "a/b"}, {"subject": "..\\up"}, {"scene": "a\0b"}, {"edit": ["red"]},
     {"truth": {"present": 5, "present_sha256": "0", "attributes": {}, "changes": {}}},
     {"truth": {"present": "a", "present_sha256": "0", "attributes": [], "changes": {}}}],
)  # fmt: skip
def test_values_that_are_no_names_or_texts_are_left_out(copied: Path, values: dict[str, Any]) -> None:
    _spoiled_rows(copied, {0: values})
    assert bench.Benchmark.open(copied).left_out == {"broken line": 1, "manifest changed": 1}


def test_a_shortened_manifest_is_told(copied: Path) -> None:
    lines = (copied / "manifest.jsonl").read_text().splitlines()
    (copied / "manifest.jsonl").write_text("\n".join(lines[:3]) + "\n")
    opened = bench.Benchmark.open(copied)
    assert opened.faults[0].reason == "manifest changed: 3 readable rows, 8 were built"
    assert opened.manifest_sha256 == json.loads((copied / "benchmark.json").read_text())["manifest_sha256"]


def test_thinning_keeps_the_first_rows_of_the_first_subjects(built: Path) -> None:
    opened = bench.Benchmark.open(built, check_files=False)
    assert [row.id for row in opened.thinned(2, 2).rows] == ["s00-00", "s00-01", "s01-00", "s01-01"]
    assert len(opened.thinned(1, 9).rows) == 4
    with pytest.raises(bench.BenchError, match="0 rows leave nothing"):
        opened.limited(0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no folder"),
        (lambda folder: (folder / "benchmark.json").unlink(), "holds no benchmark"),
        (lambda folder: (folder / "manifest.jsonl").unlink(), "build the benchmark again"),
        (lambda folder: (folder / "benchmark.json").write_text('{"format": 0}'), "made by another version"),
        (lambda folder: (folder / "benchmark.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "benchmark.json").write_text('{"format": 1}'), "name, rows, manifest_sha256"),
        (lambda folder: (folder / "manifest.jsonl").write_text("x\n"), "no usable row; the first: line 1"),
    ],
)
def test_a_folder_that_is_no_benchmark_is_one_line(copied: Path, spoil: Any, words: str) -> None:
    spoil(copied)
    with pytest.raises(bench.BenchError, match=words) as caught:
        bench.Benchmark.open(copied)
    assert len(str(caught.value).splitlines()) == 1
