"""The runner: what goes into shards, what falls where, and that no worker or order of work shows."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.small_engine import (
    make_broken,
    make_detect,
    make_dying,
    make_trap,
    run_small,
    small_source,
    small_steps,
)

from intarsia.engines import (
    EngineError,
    Funnel,
    Progress,
    Row,
    Step,
    StepFunction,
    children,
    iterate_samples,
    read_dead_rows,
    read_rows,
    run_engine,
    safe_key,
    verify_output,
)
from intarsia.engines.runner.process import Dead, Lines, advance, build
from intarsia.errors import DiskFullError
from intarsia.perception import HelperAwayError


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def step_of(function: StepFunction, name: str = "step", **options: Any) -> Step:
    return Step(name, lambda: function, **options)


def run_rows(folder: Path, function: StepFunction, rows: list[Row] | None = None, **options: Any) -> Any:
    return run_engine(
        name="rows",
        version="1",
        source=[{"key": "a"}, {"key": "b"}] if rows is None else rows,
        steps=[step_of(function)],
        output=folder,
        settings={},
        **options,
    )


def test_every_row_is_somewhere_and_the_funnel_adds_up(tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = run_small(tmp_path / "out", progress=seen.append)
    detect, paint = report.funnel.steps
    assert (detect.entered, detect.rejected, detect.quarantined) == (20, {"nothing found": 6}, {"ValueError": 3})
    assert detect.left == paint.entered == 20 + detect.added - 9
    table = read_rows(tmp_path / "out").to_pylist()
    dead = read_dead_rows(tmp_path / "out").to_pylist()
    assert len({row["key"] for row in table}) == len(table) == report.kept + report.rejected
    assert {row["key"].split("/")[0] for row in table} | {row["key"] for row in dead} == {
        row["key"] for row in small_source()
    }
    assert [row["rejected"] for row in table if row["rejected"]].count("paint: tiny") == paint.rejected["tiny"] > 0
    assert all(row["area"] is not None for row in table if row["rejected"] == "paint: tiny")
    assert [row["message"] for row in dead] == [f"picture {n} is broken at <object object at 0x>" for n in (3, 10, 17)]
    assert json.loads(dead[0]["row"]) == {"key": "photo-003", "number": 3}
    assert (seen[-1].shards_done, seen[-1].source_rows_done, seen[-1].kept) == (5, 20, report.kept)
    written = json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert written["kept"] == report.kept and written["steps"][0]["rejected"] == {"nothing found": 6}
    assert "| detect | rejected | nothing found | 6 |" in (tmp_path / "out" / "funnel.md").read_text()
    assert verify_output(tmp_path / "out") == ()
    assert set(report.step_seconds) == {"detect", "paint"}


FATES = ("keep", "more", "split", "reject", "raise", "nothing", "bad")


def fated(row: Row, step: str) -> list[Row]:
    """What becomes of a row in a step is a number of its text; children meet fates of their own."""
    fate = FATES[(int(row["fates"]) // 7 ** ("abc".index(step) + row["key"].count("/"))) % 7]
    if fate == "split":
        return children(row, [{}, {"rejected": "a bad half"}, {}])
    if fate == "raise":
        raise ValueError("this row")
    if fate == "reject":
        return [{**row, "score": 1.0, "rejected": "low"}]
    return {"nothing": [], "bad": [{**row, "score": float("nan")}]}.get(fate, [{**row, "score": 0.5}])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7**5 - 1), min_size=1, max_size=12))
def test_whatever_happens_the_funnel_adds_up(fates: list[int]) -> None:
    rows: list[Row] = [{"key": f"row-{n}", "fates": fate} for n, fate in enumerate(fates)]
    steps = [step_of(partial(fated, step=name), name) for name in "abc"]
    lines = advance(Lines.of(rows, steps), steps, build(steps), "key")
    dead = [line for line in lines.rows if isinstance(line, Dead)]
    living = [line for line in lines.rows if not isinstance(line, Dead)]
    fallen = [row for row in living if row.get("rejected") is not None]
    funnel = lines.funnel
    assert (funnel.kept, funnel.rejected, funnel.quarantined) == (len(living) - len(fallen), len(fallen), len(dead))
    assert len(rows) + sum(step.added for step in funnel.steps) == len(lines.rows)
    assert [step.entered for step in funnel.steps] == [len(rows), *(step.left for step in funnel.steps[:-1])]
    for step in funnel.steps:
        assert step.rejected == Counter(
            row["rejected"].removeprefix(f"{step.name}: ")
            for row in fallen
            if row["rejected"].startswith(f"{step.name}: ")
        )
    assert {row["key"].split("/")[0] for row in living} | {line.key.split("/")[0] for line in dead} == {
        row["key"] for row in rows
    }
    assert len({*(row["key"] for row in living), *(line.key for line in dead)}) == len(lines.rows)
    assert Funnel.from_json(json.loads(json.dumps(funnel.to_json()))) == funnel


def test_samples_come_back_as_they_were_and_tars_are_web_datasets(tmp_path: Path) -> None:
    run_small(tmp_path / "out")
    samples = list(iterate_samples(tmp_path / "out"))
    table = {row["key"]: row for row in read_rows(tmp_path / "out").to_pylist()}
    assert [s["key"] for s in samples] == [key for key, row in table.items() if row["rejected"] is None]
    for sample in samples:
        row = table[sample["key"]]
        assert sample["seed.bin"] == bytes([sample["number"], 0]) and len(sample["image.png"]) == 161
        assert {k: v for k, v in row.items() if v is not None} == {
            k: v for k, v in sample.items() if not isinstance(v, bytes)
        }
    with tarfile.open(tmp_path / "out" / "shards" / "00000.tar") as tar:
        members = tar.getmembers()
    first = samples[0]["key"]
    assert [m.name for m in members[:3]] == [f"{first}.{name}" for name in ("image.png", "json", "seed.bin")]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}


def test_workers_and_their_order_do_not_show(tmp_path: Path) -> None:
    run_small(tmp_path / "one")
    report = run_small(tmp_path / "two", workers=2)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    assert report.step_seconds["detect"] > 0
    assert multiprocessing.active_children() == []


def test_one_poisoned_row_is_quarantined(tmp_path: Path) -> None:
    report = run_small(tmp_path / "out", steps=[Step("trap", lambda: make_trap(5, "exit"))])
    assert (report.kept, report.quarantined) == (19, 1)
    assert read_dead_rows(tmp_path / "out").to_pylist()[0]["error"] == "SystemExit"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("memory", "no memory left in the step 'trap' at the row 'photo-005' (MemoryError)"),
        (
            "gpu memory",
            "no memory left in the step 'trap' at the row 'photo-005' (OutOfMemoryError: CUDA out of memory",
        ),
        ("gpu", "the GPU failed in the step 'trap' at the row 'photo-005' (RuntimeError: CUDA error: an illegal"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_at_its_end_is_no_rows_fault(tmp_path: Path, mode: str, said: str, workers: int) -> None:
    with pytest.raises(EngineError) as caught:
        run_small(tmp_path / "out", steps=[Step("trap", partial(make_trap, 5, mode))], workers=workers)
    told = str(caught.value)
    assert told.startswith(said) and "start again: finished shards are kept" in told and "\n" not in told
    report = run_small(tmp_path / "out", steps=[Step("trap", partial(make_trap, -1, ""))])
    assert (report.kept, report.quarantined) == (20, 0)
    assert report.shards_resumed == 1 or workers > 1


def test_a_row_that_kills_its_worker_is_found_and_quarantined(tmp_path: Path) -> None:
    steps = [Step("pass", partial(make_trap, -1, "")), Step("trap", partial(make_trap, 5, "kill"))]
    report = run_small(tmp_path / "out", steps=steps, workers=2)
    assert (report.kept, report.quarantined) == (19, 1)
    assert report.funnel.step("trap").quarantined == {"WorkerDied": 1}
    (dead,) = read_dead_rows(tmp_path / "out").to_pylist()
    assert (dead["key"], dead["step"], dead["message"]) == ("photo-005", "trap", "worker died (signal 9)")
    assert verify_output(tmp_path / "out") == ()


def test_a_step_that_cannot_start_ends_the_run(tmp_path: Path) -> None:
    for workers in (1, 2):
        with pytest.raises(EngineError, match=r"'broken' cannot be started: RuntimeError: no weights"):
            run_small(tmp_path / "out", steps=[Step("broken", make_broken)], workers=workers)
    with pytest.raises(EngineError, match=r"died while its steps were being built \(exit code 3\)"):
        run_small(tmp_path / "dying", steps=[Step("dying", make_dying)], workers=2)
    with pytest.raises(EngineError, match="cannot be sent to another process"):
        run_small(tmp_path / "closure", steps=[Step("closure", lambda: make_detect())], workers=2)


def test_a_disk_that_is_full_in_a_step_is_no_rows_fault(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space left in the step 'trap'"):
        run_small(tmp_path / "out", steps=[Step("trap", lambda: make_trap(9, "full"))])
    assert sorted(p.name for p in (tmp_path / "out" / "shards").glob("*.json")) == ["00000.json", "00001.json"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_gone_is_no_rows_fault(tmp_path: Path, workers: int) -> None:
    steps = [Step("trap", partial(make_trap, 5, "away"))]
    with pytest.raises(HelperAwayError, match="the server is down"):
        run_small(tmp_path / "out", steps=steps, workers=workers)
    report = run_small(tmp_path / "out", steps=[Step("trap", partial(make_trap, -1, "away"))])
    assert (report.kept, report.quarantined) == (20, 0)
    assert report.shards_resumed == 1 or workers > 1


def test_an_interrupt_ends_the_run_and_the_workers(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "out", workers=2, progress=interrupt)
    assert multiprocessing.active_children() == []
    run_small(tmp_path / "out")
    run_small(tmp_path / "reference")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "reference")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (float("nan"), "numbers must be finite"),
        (2**70, "fit 64 bits"),
        ([1, 2], "is a list"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_values_that_cannot_be_written_quarantine_their_row(tmp_path: Path, value: object, complaint: str) -> None:
    def spoil(row: Row) -> list[Row]:
        return [{**row, "value": value if row["key"] == "a" else 1}]

    report = run_rows(tmp_path / "out", spoil)
    assert (report.kept, report.quarantined) == (1, 1)
    assert complaint in read_dead_rows(tmp_path / "out").to_pylist()[0]["message"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda row: [{**row, "key": "other"}], "a child's key is its parent's"),
        (lambda row: [row, row], "a child's key"),
        (lambda row: [{**row, "key": row["key"] + "/1"}] * 2, "several rows of the same key"),
        (lambda row: [{**row, "key": row["key"] + "/1/2"}], "one level"),
        (lambda row: row, "must return a list of rows, got dict"),
        (lambda row: [{"key": row["key"], "JPEG": b""}], "cannot name bytes"),
        (lambda row: [{"number": 1}], "lacks its key"),
    ],
)
def test_what_breaks_the_rules_of_rows_is_quarantined(tmp_path: Path, change: StepFunction, complaint: str) -> None:
    report = run_rows(tmp_path / "out", change)
    assert report.quarantined == 2
    dead = read_dead_rows(tmp_path / "out").to_pylist()
    assert {row["error"] for row in dead} == {"RowError"} and complaint in dead[0]["message"]


def test_rejected_rows_skip_steps_unless_those_want_them(tmp_path: Path) -> None:
    def reject(row: Row) -> list[Row]:
        return [{**row, "rejected": "no"}] if row["key"] == "a" else []

    def mark(row: Row) -> list[Row]:
        return [{**row, "marked": True, "rejected": None}]

    steps = [step_of(reject, "reject"), step_of(mark, "blind"), step_of(mark, "keen", sees_rejected=True)]
    steps[1] = step_of(lambda row: [{**row, "blind": True}], "blind")
    report = run_engine(
        name="x", version="1", source=[{"key": "a"}, {"key": "b"}], steps=steps, output=tmp_path, settings={}
    )
    assert report.funnel.step("reject").rejected == {"no": 1, "gave no row": 1}
    assert [step.entered for step in report.funnel.steps] == [2, 0, 0]
    assert read_rows(tmp_path).to_pylist() == [
        {"key": "a", "rejected": "reject: no", "marked": True},
        {"key": "b", "rejected": "reject: gave no row", "marked": True},
    ]


def test_columns_of_several_types(tmp_path: Path) -> None:
    import numpy as np

    values: dict[str, dict[str, Any]] = {
        "a": {"mixed": 1, "number": 1, "flag": True, "score": np.float32(0.5)},
        "b": {"mixed": "one", "number": 0.5, "empty": None},
    }
    run_rows(tmp_path / "out", lambda row: [{**row, **values[row["key"]]}], shard_size=1)
    a, b = read_rows(tmp_path / "out").to_pylist()
    assert (a["mixed"], b["mixed"], a["number"], b["number"]) == ("1", "one", 1.0, 0.5)
    assert (a["flag"], b["flag"], a["empty"], a["score"]) == (True, None, None, 0.5)
    run_rows(tmp_path / "together", lambda row: [{**row, **values[row["key"]]}])
    assert read_rows(tmp_path / "together")["mixed"].to_pylist() == ["1", "one"]
    assert [sample["mixed"] for sample in iterate_samples(tmp_path / "together")] == [1, "one"]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "holds no rows"),
        ([{"key": "a"}, {"key": "a"}], "'a' occurs twice"),
        ([{"key": "a/b"}, {"key": "a"}], "'a' and 'a/b' clash"),
        ([{"key": "photo.png"}], "row 0 of the source: the key 'photo.png'"),
        ([{"key": "../a"}], "cannot name a sample"),
        ([{"key": "a", "x": {}}], "'x' is a dict"),
        ([{"name": "a"}], "lacks its key"),
    ],
)
def test_bad_sources_are_refused(tmp_path: Path, rows: list[Row], complaint: str) -> None:
    with pytest.raises(EngineError, match=complaint):
        run_rows(tmp_path / "out", lambda row: [row], rows=rows)
    assert not (tmp_path / "out").exists()


def test_bad_options_are_refused(tmp_path: Path) -> None:
    for options, complaint in (
        ({"workers": 0}, "at least 1"),
        ({"shard_size": 0}, "at least 1"),
        ({"runner": "cloud"}, "'local' or 'ray'"),
        ({"steps": []}, "at least one step"),
        ({"steps": [*small_steps(), *small_steps()]}, "two steps are called 'detect'"),
        ({"steps": [Step("a: b", make_broken)]}, "cannot name a step"),
        ({"settings": {"x": object()}}, "plain JSON"),
    ):
        with pytest.raises(EngineError, match=complaint):
            run_small(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, options in (("pyarrow", {}), ("ray", {"runner": "ray"})):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(EngineError, match=rf"{package}|Ray Data.*intarsia\[engine\]"):
                run_small(tmp_path / "out", **options)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=150), unique=True, max_size=5))
def test_safe_keys_are_good_and_stay_apart(texts: list[str]) -> None:
    keys = [safe_key(text) for text in texts]
    assert len(set(keys)) == len(texts)
    for key in keys:
        assert safe_key(key) == key


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b_c", "a.png", "mask.a.png"]), st.binary(max_size=600), max_size=4))
def test_bytes_survive_the_tar(values: dict[str, bytes]) -> None:
    from intarsia.engines.runner.packing import pack_tar, unpack_tar

    rows: list[Row] = [{"key": "x/0", **values}, {"key": "x", "text": "ü", **values}, {"key": "y" * 190}]
    data = pack_tar(rows, "key")
    assert [row for _, row in unpack_tar(data)] == rows
    assert pack_tar(rows, "key") == data


def test_the_room_is_light_until_it_runs() -> None:
    code = "import sys, intarsia.engines, intarsia.engines.runner.run; print([n for n in sys.modules if n in HEAVY])"
    code = code.replace("HEAVY", "('torch', 'transformers', 'diffusers', 'pyarrow', 'ray', 'scipy')")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
