"""Ray Data makes the same bytes. Starting Ray takes long: set INTARSIA_TEST_RAY=1 for what needs it."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path

import pytest
from tests.engines.small_engine import batched_steps, make_broken, make_trap, run_small
from tests.engines.test_runner import folder_bytes

from intarsia.engines import EngineError, Step, read_dead_rows, verify_output
from intarsia.engines.runner.ray_data import stages_of

needs_ray = pytest.mark.skipif(
    os.environ.get("INTARSIA_TEST_RAY") != "1" or importlib.util.find_spec("ray") is None,
    reason="set INTARSIA_TEST_RAY=1, with Ray installed",
)


def test_neighbours_with_the_same_need_of_gpus_share_an_actor() -> None:
    steps = [Step(name, make_broken, gpus=gpus) for name, gpus in (("a", 0), ("b", 0), ("c", 0.5), ("d", 0))]
    assert [[step.name for step in stage] for stage in stages_of(steps)] == [["a", "b"], ["c"], ["d"]]


@needs_ray
def test_ray_makes_the_same_bytes_and_survives_poison(tmp_path: Path) -> None:
    import ray

    run_small(tmp_path / "local")
    report = run_small(tmp_path / "ray", runner="ray")
    assert folder_bytes(tmp_path / "local") == folder_bytes(tmp_path / "ray")
    run_small(tmp_path / "batches", steps=batched_steps(5))
    batches = run_small(tmp_path / "batches-ray", runner="ray", steps=batched_steps(5))
    assert folder_bytes(tmp_path / "batches") == folder_bytes(tmp_path / "batches-ray")
    assert batches.batches_repeated == {"detect": 1} and batches.overhead is not None
    assert report.step_seconds["detect"] > 0
    assert not ray.is_initialized()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        steps = [Step("trap", partial(make_trap, 5, "kill"))]
        assert run_small(tmp_path / "dead", runner="ray", steps=steps).quarantined == 1
        assert read_dead_rows(tmp_path / "dead")["message"].to_pylist() == ["worker died (signal 9)"]
        assert verify_output(tmp_path / "dead") == ()
        with pytest.raises(EngineError, match=r"'broken' cannot be started"):
            run_small(tmp_path / "broken", runner="ray", steps=[Step("broken", make_broken)])
    finally:
        ray.shutdown()
