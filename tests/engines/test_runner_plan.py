"""The plan of a run: what is left, how long it takes, and that it touches nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.engines.small_engine import batched_steps, make_trap, run_small, small_source, small_steps
from tests.engines.test_runner import folder_bytes

from intarsia.engines import (
    EngineChangedError,
    EngineError,
    EnginePlan,
    EngineReport,
    Funnel,
    Progress,
    Step,
    plan_run,
)
from intarsia.errors import OutputExistsError
from intarsia.perception import HelperAwayError


def plan_small(output: Path, **options: Any) -> EnginePlan:
    given: dict[str, Any] = {
        "name": "small",
        "version": "1",
        "source": small_source(),
        "steps": small_steps(),
        "settings": {"seed": 1},
        "shard_size": 4,
        **options,
    }
    return plan_run(output=output, **given)


def test_a_plan_tells_pace_and_cost_and_writes_nothing(tmp_path: Path) -> None:
    plan = plan_small(tmp_path / "out", steps=small_steps(0.01), workers=2, sample=5, price_per_hour=2.0)
    assert not (tmp_path / "out").exists()
    assert (plan.source_rows, plan.shards, plan.shards_left, plan.rows_left, plan.sampled) == (20, 5, 5, 20, 5)
    detect, paint = plan.steps
    assert (detect.rows, detect.stage, paint.stage) == (5, 0, 0) and detect.seconds >= 0.05
    pace = plan.seconds_per_row
    assert pace is not None and pace == pytest.approx((detect.seconds + paint.seconds) / 5)
    assert plan.eta_seconds == pytest.approx(plan.build_seconds + 10 * pace)
    assert plan.worker_hours() == pytest.approx(1e6 * pace / 3600) and plan.cost(500) == pytest.approx(pace / 3.6)
    told = str(plan)
    assert "20 rows in 5 shards of 4" in told and "detect" in told and "cost" in told and "a million rows" in told
    assert json.loads(json.dumps(plan.to_json()))["seconds_per_row"] == pace


def test_a_plan_counts_what_is_committed_and_leaves_it_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.shards_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_small(out, progress=stop)
    before = folder_bytes(out)
    plan = plan_small(out, sample=2)
    assert (plan.shards_left, plan.rows_left, plan.sampled) == (3, 12, 2)
    assert plan_small(out, overwrite=True, sample=0).rows_left == 20
    assert folder_bytes(out) == before
    run_small(out)
    done = plan_small(out)
    assert (done.rows_left, done.sampled, done.eta_seconds, done.seconds_per_row) == (0, 0, 0.0, None)
    assert "no row was tried" in str(done)


def test_a_plan_refuses_what_the_run_would_refuse(tmp_path: Path) -> None:
    run_small(tmp_path / "out")
    with pytest.raises(EngineChangedError, match="'seed' was 1 and is now 2"):
        plan_small(tmp_path / "out", settings={"seed": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(OutputExistsError, match="not the output of an engine"):
        plan_small(tmp_path / "mine")
    wrong: list[dict[str, Any]] = [{"sample": -1}, {"price_per_hour": -1.0}, {"workers": 0}, {"steps": []}]
    for options in wrong:
        with pytest.raises(EngineError):
            plan_small(tmp_path / "new", **options)
    with pytest.raises(HelperAwayError):
        plan_small(tmp_path / "new", steps=[Step("trap", partial(make_trap, 0, "away"))])
    assert not (tmp_path / "new").exists()


def test_a_poisoned_row_of_the_sample_is_counted_and_batches_are_told(tmp_path: Path) -> None:
    plan = plan_small(tmp_path / "out", steps=batched_steps(5), sample=20)
    assert plan.sampled == 20 and plan.steps[2].rows == plan.kept and plan.steps[1].batch == 3
    assert plan_small(tmp_path / "out", sample=0).seconds_per_row is None


def test_rates_and_overhead_of_a_report(tmp_path: Path) -> None:
    report = run_small(tmp_path / "out", steps=small_steps(0.02))
    detect = report.rates[0]
    assert (detect.name, detect.rows) == ("detect", 20) and 0 < detect.rows_per_second <= 50
    assert report.overhead is not None and report.overhead > -0.01
    again = run_small(tmp_path / "out", steps=small_steps(0.02))
    assert again.overhead is None and {rate.rows for rate in again.rates} == {0}
    by_hand = EngineReport(tmp_path, Funnel.empty(["a"]), 1, 0, 12.0, {"a": 20.0}, {"a": 40}, {}, 2)
    assert by_hand.overhead == pytest.approx(0.2) and by_hand.rates[0].rows_per_second == 2.0
