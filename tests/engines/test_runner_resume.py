"""Stopped, damaged, full, contended: the folder ends with the same bytes, or an error says what to do."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.engines.small_engine import run_small, small_source, small_steps
from tests.engines.test_runner import folder_bytes

from intarsia.engines import (
    EngineBusyError,
    EngineChangedError,
    EngineError,
    Progress,
    iterate_samples,
    measure_kills,
    verify_output,
)
from intarsia.errors import DiskFullError, OutputExistsError

ROOT = Path(__file__).resolve().parents[2]


class Stop(Exception):
    pass


def stop_after(shards: int) -> Any:
    def progress(now: Progress) -> None:
        if now.shards_done == shards:
            raise Stop

    return progress


@pytest.fixture
def reference(tmp_path: Path) -> dict[str, bytes]:
    run_small(tmp_path / "reference")
    return folder_bytes(tmp_path / "reference")


def test_committed_shards_are_not_made_again(tmp_path: Path, reference: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stop):
        run_small(out, progress=stop_after(2))
    assert len(list(iterate_samples(out))) > 0
    assert verify_output(out) == tuple(f"shard {n:05d} is not committed" for n in (2, 3, 4))
    before = (out / "shards" / "00001.tar").stat().st_mtime_ns
    report = run_small(out)
    assert (report.shards, report.shards_resumed) == (5, 2)
    assert (out / "shards" / "00001.tar").stat().st_mtime_ns == before
    assert folder_bytes(out) == reference
    again = run_small(out)
    assert again.shards_resumed == 5 and again.funnel == report.funnel
    assert folder_bytes(out) == reference


def test_any_leftovers_of_a_stopped_run_are_cleared(tmp_path: Path, reference: dict[str, bytes]) -> None:
    draw = random.Random(0)
    for number in range(12):
        out = tmp_path / f"out{number}"
        run_small(out)
        for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name not in (".lock", "engine.json")):
            chance = draw.random()
            if chance < 0.2:
                path.unlink()
            elif chance < 0.4:
                path.write_bytes(path.read_bytes()[:-1])
        (out / "shards" / ".intarsia-00ff00ff00ff.part").write_bytes(b"half")
        (out / ".intarsia-00ff00ff00ff.part").write_bytes(b"half")
        (out / "shards" / "00007.tar").write_bytes(b"of a shard that does not exist")
        run_small(out)
        assert folder_bytes(out) == reference


def test_a_run_that_ended_before_its_first_shard_blocks_nothing(tmp_path: Path, reference: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    run_small(out, settings={"seed": 2})
    for path in (out / "shards").glob("*.json"):
        path.unlink()
    run_small(out)
    assert folder_bytes(out) == reference


def test_damage_of_equal_size_is_found_by_hash(tmp_path: Path, reference: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    run_small(out)
    path = out / "shards" / "00002.tar"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert verify_output(out) == ("00002.tar has other bytes than when it was committed",)
    assert run_small(out).shards_resumed == 5
    assert run_small(out, verify=True).shards_resumed == 4
    assert folder_bytes(out) == reference and verify_output(out) == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"settings": {"seed": 2}},
            "the setting 'seed' was 1 and is now 2; choose another folder, or ask to overwrite",
        ),
        ({"settings": {"seed": 1, "new": None}}, "the setting 'new' was None and is now None"),
        ({"version": "2"}, "version was '1' and is now '2'"),
        ({"name": "other"}, "engine was 'small' and is now 'other'"),
        ({"source": small_source(21)}, r"the source is another one \(20 rows before, 21 now\)"),
        ({"source": small_source()[::-1]}, "the source is another one"),
        ({"steps": small_steps()[:1]}, "steps was"),
        ({"shard_size": 5}, "shard_size was 4 and is now 5"),
    ],
)
def test_what_changed_is_named(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    out = tmp_path / "out"
    run_small(out)
    before = folder_bytes(out)
    with pytest.raises(EngineChangedError, match=complaint):
        run_small(out, **options)
    assert folder_bytes(out) == before
    run_small(out, overwrite=True, **options)
    run_small(tmp_path / "fresh", **options)
    assert folder_bytes(out) == folder_bytes(tmp_path / "fresh")


def test_overwrite_makes_all_shards_again(tmp_path: Path, reference: dict[str, bytes]) -> None:
    run_small(tmp_path / "out")
    assert run_small(tmp_path / "out", overwrite=True).shards_resumed == 0
    assert folder_bytes(tmp_path / "out") == reference


def test_folders_of_other_things_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match=r"holds 'notes\.txt'"):
            run_small(tmp_path / "mine", overwrite=overwrite)
    assert folder_bytes(tmp_path / "mine") == {"notes.txt": b"keep"} and len([*(tmp_path / "mine").iterdir()]) == 1
    for read in (verify_output, iterate_samples):
        with pytest.raises(EngineError, match="is not the output of an engine"):
            read(tmp_path / "mine")


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    errors: list[str] = []

    def second(progress: Progress) -> None:
        with pytest.raises(EngineBusyError) as caught:
            run_small(tmp_path / "out")
        errors.append(str(caught.value))

    run_small(tmp_path / "out", progress=second)
    assert len(errors) == 5 and "another process is working in" in errors[0]
    run_small(tmp_path / "out")


@pytest.mark.parametrize("call", [9, 10, 13])  # the tar, the table and the commit of the second shard
def test_a_full_disk_leaves_what_is_committed(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    real, calls = os.fsync, [0]

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match=r"shard 00001 in .*committed is intact: free some space") as caught:
            run_small(out)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in (out / "shards").iterdir()) == [
        "00000.dead.parquet",
        "00000.json",
        "00000.parquet",
        "00000.tar",
    ]
    assert run_small(out).shards_resumed == 1
    assert folder_bytes(out) == reference


def test_killed_before_any_change_of_the_folder(tmp_path: Path) -> None:
    """The folder as SIGKILL would leave it right before each file that is opened, renamed or removed: every one of
    these goes on to the same bytes. Runs from nothing, over other settings, and from thresholds to others."""

    def run(out: Path, **options: Any) -> None:
        run_small(out, **{"source": small_source(6), "shard_size": 3, "thresholds": {"score": (0.3, None)}, **options})

    def first(out: Path) -> None:
        run(out)

    def over(out: Path) -> None:
        run(out, settings={"seed": 2}, overwrite=True)

    def decided(out: Path) -> None:
        run(out, thresholds={"area": (0.5, None)})

    for number, (earlier, call) in enumerate([(None, first), (first, over), (first, decided)]):
        base = tmp_path / str(number)
        call(base / "reference")
        expected = folder_bytes(base / "reference")
        if earlier is not None:
            earlier(base / "out")
        moments = snapshots(base / "out", partial(call, base / "out"), base / "moments")
        assert folder_bytes(base / "out") == expected and len(moments) > (30, 30, 5)[number]
        for moment in moments:
            call(moment)
            assert folder_bytes(moment) == expected and verify_output(moment) == (), moment


_watched: list[Callable[[str, Any], None]] = []


def _hook(event: str, arguments: Any) -> None:
    if _watched and event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
        _watched[0](event, arguments)


sys.addaudithook(_hook)  # cannot be taken away again; does nothing while nobody watches


def snapshots(out: Path, call: Callable[[], None], into: Path) -> list[Path]:
    """Copies of ``out`` right before each change that ``call`` makes to it."""
    taken: list[Path] = []

    def watch(event: str, arguments: Any) -> None:
        path = arguments[0]
        reads = event == "open" and isinstance(arguments[1], str) and not set(arguments[1]) & set("wxa+")
        # A folder that is removed as a tree names files by descriptors, without their paths.
        inside = isinstance(path, str | os.PathLike) and (str(path).startswith(str(out)) or not os.path.isabs(path))
        if inside and not reads and out.is_dir():
            watcher = _watched.pop()
            taken.append(into / f"{len(taken):03d}")
            shutil.copytree(out, taken[-1])
            _watched.append(watcher)

    _watched.append(watch)
    try:
        call()
    finally:
        _watched.clear()
    return taken


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments(tmp_path: Path, workers: int) -> None:
    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "tests.engines.small_engine", str(folder), "0.05", str(workers)]

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    report = measure_kills(
        command, tmp_path / "out", tmp_path / "reference", 3 - workers + 1, seed=workers, environment=environment
    )
    assert (report.lost, report.doubled, report.different) == (0, 0, ())
    assert report.kills == 3 - workers + 1 and report.rounds >= 1


def test_the_measure_of_kills_sees_lost_and_doubled_rows(tmp_path: Path) -> None:
    program = tmp_path / "bad.py"
    program.write_text(
        "import sys, pathlib\n"
        "from tests.engines.small_engine import run_small, small_source\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "rows = small_source(8) if out.name == 'reference' else small_source(7)\n"
        "run_small(out, source=rows)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    report = measure_kills(
        lambda folder: [sys.executable, str(program), str(folder)],
        tmp_path / "out",
        tmp_path / "reference",
        0,
        environment=environment,
    )
    assert (report.kills, report.rounds, report.lost, report.doubled) == (0, 1, 1, 0)
    assert "shards/00001.parquet" in report.different and "shards/00000.tar" not in report.different
    with pytest.raises(EngineError, match=r"ended with code 1: ZeroDivisionError"):
        measure_kills(lambda folder: [sys.executable, "-c", "1/0"], tmp_path / "x", tmp_path / "y", 0)
