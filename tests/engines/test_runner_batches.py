"""Steps of batches: grouped, repeated row by row when they fail, and no trace of how rows were put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.small_engine import batched_steps, make_batched, make_size, run_small, small_source
from tests.engines.test_runner import FATES, fated, folder_bytes

from intarsia.engines import EngineError, Row, Step, read_dead_rows, read_rows
from intarsia.engines.runner.process import Dead, Lines, advance, build
from intarsia.errors import DiskFullError
from intarsia.perception import HelperAwayError


def steps_of(function: Callable[[list[Row]], list[list[Row]]], **options: Any) -> list[Step]:
    return [Step("step", lambda: function, **{"batch": 3, **options})]


def through(rows: list[Row], steps: list[Step]) -> Lines:
    return advance(Lines.of(rows, steps), steps, build(steps), "key")


def test_batches_are_of_one_value_in_order_and_as_full_as_can_be() -> None:
    seen: list[list[str]] = []

    def note(rows: list[Row]) -> list[list[Row]]:
        seen.append([row["key"] for row in rows])
        return [[{**row, "seen": True}] for row in rows]

    rows: list[Row] = [
        {"key": key, "side": side} for key, side in zip("abcdefg", (64, 96, 64, 64, 64, 96, 64), strict=True)
    ]
    rows.append({"key": "h"})
    lines = through(rows, steps_of(note, group_by="side"))
    assert seen == [["a", "c", "d"], ["e", "g"], ["b", "f"], ["h"]]
    assert [line["key"] for line in lines.rows if not isinstance(line, Dead)] == list("abcdefgh")
    seen.clear()
    through(rows, steps_of(note))
    assert [len(batch) for batch in seen] == [3, 3, 2]


def test_the_batch_does_not_show_in_any_file(tmp_path: Path) -> None:
    one = run_small(tmp_path / "one", steps=batched_steps(batch=1))
    many = run_small(tmp_path / "many", steps=batched_steps(batch=3))
    run_small(tmp_path / "two", steps=batched_steps(batch=3), workers=2)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "many") == folder_bytes(tmp_path / "two")
    assert one.kept == 19 and many.step_rows == one.step_rows and many.batches_repeated == {}
    assert many.step_rows["detect"] == 20
    run_small(tmp_path / "one", steps=batched_steps(batch=2))  # the same run: nothing is to be done
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "many")


@pytest.mark.parametrize(("mode", "error"), [("raise", "ValueError"), ("short", "RowError")])
def test_one_poisoned_row_does_not_take_its_batch_along(tmp_path: Path, mode: str, error: str) -> None:
    run_small(tmp_path / "good", steps=batched_steps())
    report = run_small(tmp_path / "out", steps=batched_steps(5, mode))
    (dead,) = read_dead_rows(tmp_path / "out").to_pylist()
    assert (dead["key"], dead["step"], dead["error"]) == ("photo-005", "detect", error)
    assert report.batches_repeated == {"detect": 1} and report.rates[1].repeated == 1
    good, found = (read_rows(tmp_path / name).to_pylist() for name in ("good", "out"))
    assert found == [row for row in good if row["number"] != 5]


def test_a_batch_that_kills_its_worker_loses_one_row(tmp_path: Path) -> None:
    report = run_small(tmp_path / "out", steps=batched_steps(5, "kill"), workers=2)
    assert report.funnel.step("detect").quarantined == {"WorkerDied": 1}
    run_small(tmp_path / "good", steps=batched_steps())
    good, found = (read_rows(tmp_path / name).to_pylist() for name in ("good", "out"))
    assert found == [row for row in good if row["number"] != 5]


def test_what_is_no_rows_fault_ends_the_run_at_once() -> None:
    for raised, expected in ((HelperAwayError("down"), HelperAwayError), (OSError(28, "full"), DiskFullError)):
        calls: list[int] = []

        def fail(rows: list[Row], raised: Exception = raised, calls: list[int] = calls) -> list[list[Row]]:
            calls.append(len(rows))
            raise raised

        with pytest.raises(expected):
            through(small_source(6), steps_of(fail))
        assert calls == [3]


def test_a_batch_too_large_for_memory_is_repeated_and_a_row_too_large_ends_the_run() -> None:
    def greedy(rows: list[Row]) -> list[list[Row]]:
        if len(rows) > 1 or rows[0]["number"] == 4:
            raise MemoryError
        return [[row] for row in rows]

    assert through(small_source(3), steps_of(greedy)).repeated == {"step": 1}
    for rows, batch in ((small_source(5), 3), (small_source(5)[4:], 1)):
        with pytest.raises(EngineError, match="no memory left in the step 'step' at the row 'photo-004'"):
            through(rows, steps_of(greedy, batch=batch))


def test_a_failing_row_alone_is_asked_once() -> None:
    calls: list[int] = []

    def fail(rows: list[Row]) -> list[list[Row]]:
        calls.append(len(rows))
        raise ValueError("no")

    lines = through(small_source(4), steps_of(fail))
    assert calls == [3, 1, 1, 1, 1] and lines.funnel.quarantined == 4 and lines.repeated == {"step": 1}


def test_changed_rows_of_a_failed_batch_come_fresh_to_the_second_try() -> None:
    def spoil(rows: list[Row]) -> list[list[Row]]:
        for row in rows:
            row["number"] += 1
        if len(rows) > 1:
            raise ValueError("too many")
        return [[row] for row in rows]

    lines = through(small_source(3), steps_of(spoil))
    assert [line["number"] for line in lines.rows if not isinstance(line, Dead)] == [1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7**5 - 1), min_size=1, max_size=12), st.integers(1, 5), st.booleans())
def test_rows_meet_the_same_fate_alone_and_in_batches(fates: list[int], batch: int, keen: bool) -> None:
    def together(step: str) -> Any:
        return lambda: lambda rows: [fated(row, step) for row in rows]

    def alone(step: str) -> Any:
        return lambda: lambda row: fated(row, step)

    rows: list[Row] = [{"key": f"row-{n}", "fates": fate, "fate": FATES[fate % 7]} for n, fate in enumerate(fates)]
    single = [Step(name, alone(name), sees_rejected=keen) for name in "abc"]
    mixed = [
        single[0],
        Step("b", together("b"), batch=batch, group_by="fate", sees_rejected=keen),
        Step("c", together("c"), batch=batch, sees_rejected=keen),
    ]
    one, other = through(rows, single), through(rows, mixed)
    assert one.rows == other.rows and one.funnel == other.funnel


def test_batches_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for step, complaint in (
        (Step("a", make_size, batch=0), "batches of 0 rows"),
        (Step("a", make_batched, group_by="side"), "has no batch"),
    ):
        with pytest.raises(EngineError, match=complaint):
            run_small(tmp_path / "out", steps=[step])
