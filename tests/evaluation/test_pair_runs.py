"""The engine of pairs as it is measured: the truth beside each candidate, equal files, the command that is killed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.evaluation.test_zero_shot import save_judges

from intarsia.engines import KillReport, decide, pairs, read_rows
from intarsia.evaluation import Judges, ResultsError, pair_runs


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    return Judges.load(save_judges(tmp_path_factory.mktemp("judges") / "judges"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny(tiny_backbone(), folder)
    return str(folder)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps a removal, and thresholds that keep everything."""
    monkeypatch.setattr(pairs, "RemoverOption", partial(pairs.RemoverOption, steps=2))
    run = pairs.pair_run
    kept = {"area": (0.0, None)}
    monkeypatch.setattr(pairs, "pair_run", lambda *args, **options: run(*args, **{**options, "thresholds": kept}))


@pytest.mark.usefixtures("fast")
def test_each_candidate_is_compared_with_the_truth(judges: Judges, model: str, tmp_path: Path) -> None:
    found = pair_runs.removal_numbers(3, 1, model, judges, tmp_path)
    rows = read_rows(tmp_path / "best-3" / "output").to_pylist()
    assert len(rows) == 3 and found["masks"] == found["kept"] == found["timed_rows"] == 3
    psnrs = [json.loads(row["truth_psnr"]) for row in rows]
    assert {len(values) for values in psnrs} == {3}
    every = [value for values in psnrs for value in values]
    assert found["psnr_before"] == pytest.approx(sum(every) / 9)
    chosen = [values[row["candidate"]] for values, row in zip(psnrs, rows, strict=True)]
    assert found["psnr_after"] == pytest.approx(sum(chosen) / 3)
    bounds = pairs.before_removal(pairs.pair_thresholds("tabletop"))
    gated = [values for values, row in zip(psnrs, rows, strict=True) if decide(row, bounds) is None]
    assert found["gated"] == len(gated) and found["psnr_gated"] == pytest.approx(np.mean(gated) if gated else 0)
    assert 0 <= found["success_before"] <= found["gone_before"] <= 1 and found["overhead"] > 0
    again = pair_runs.removal_numbers(3, 1, model, judges, tmp_path)
    assert again["timed_rows"] == 0 and again["psnr_after"] == found["psnr_after"]


def test_an_engine_that_keeps_nothing_is_no_measurement(
    judges: Judges, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pairs.pair_run
    none = {"area": (0.99, None)}
    monkeypatch.setattr(pairs, "pair_run", lambda *args, **options: run(*args, **{**options, "thresholds": none}))
    with pytest.raises(ResultsError, match="kept 0 pairs of 1 removals"):
        pair_runs.removal_numbers(1, 1, model, judges, tmp_path)


@pytest.mark.usefixtures("fast")
def test_runs_are_compared_file_by_file(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = pair_runs.run_scenes, list[tuple[Any, Any]]()

    def here(*args: Any, runner: str, workers: int, output: str, **options: Any) -> Any:
        """In this process; the second run is another one."""
        calls.append((runner, workers))
        seed = 2 if spoiled and len(calls) == 2 else args[2]
        root = args[0] / "spoiled" if seed == 2 else args[0]
        report = run(root, args[1], seed, *args[3:], output=output, **options)
        if seed == 2:
            (root / output).rename(args[0] / output)
        return report

    monkeypatch.setattr(pair_runs, "run_scenes", here)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for spoiled in (False, True):
        calls.clear()
        found = pair_runs.same_numbers(1, 1, model)
        assert calls == [("local", 1), ("local", 2)] and found["ray"] == 0 and found["kept"] == 1
        assert (found["different"] > 0) == spoiled


def test_the_probe_is_asked_of_kept_pairs(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Report:
        output = tmp_path

    def scenes(*args: Any, **options: Any) -> Any:
        asked.append(args[1:5])
        return Report()

    monkeypatch.setattr(pair_runs, "run_scenes", scenes)
    monkeypatch.setattr(pairs, "read_pairs", lambda run: asked.append(run))
    monkeypatch.setattr(pairs, "probe_edits", lambda found: pairs.ProbeReport(4, 0.5, (0.4, 0.6)))
    assert pair_runs.probe_numbers(4, 3, model, "paper") == {
        "auc": 0.5, "auc_n": 4, "auc_low": 0.4, "auc_high": 0.6
    }  # fmt: skip
    assert asked == [(4, 3, model, "paper"), tmp_path]


def test_the_command_that_is_killed_is_the_one_users_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from intarsia.cli import app

    def killed(command: Any, output: Path, reference_output: Path, kills: int, seed: int) -> KillReport:
        words = list(command(output))
        assert words[1:3] == ["-c", "from intarsia.cli import main; main()"]
        done = CliRunner().invoke(app, words[3:])
        assert done.exit_code == 0, done.output
        assert (output / "manifest.json").is_file()
        return KillReport(kills, 1, 0, 2, ("a",))

    monkeypatch.setattr(pair_runs, "measure_kills", killed)
    assert pair_runs.kill_numbers(3, 1, scenes=1) == (0, 2, 1)
