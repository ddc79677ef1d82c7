"""`intarsia train add`: a model folder that `add` takes, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.test_instant import heavy_after
from tests.training.pair_folders import write_shards

from intarsia.backbones import load_instruct_model


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "pairs", (3, 2))


def test_train_add_writes_a_model_and_goes_on(run: Run, pairs: Path, tmp_path: Path, model_folder: Path) -> None:
    out = tmp_path / "mine"
    command = ("train", "add", pairs, "-o", out, "--preset", "smoke", "--images", 16, "--base", model_folder)
    stopped = run(*command, "--minutes", 0, "--json")
    assert stopped.code == 0 and not json.loads(stopped.out)["finished"] and not out.exists()
    done = run(*command, "--json")
    assert done.code == 0, done.err
    outcome = json.loads(done.out)
    assert (outcome["output"], outcome["run"]) == (str(out), f"{out}.run")
    assert outcome["finished"] and outcome["pairs"] == 5
    assert load_instruct_model(out).kind == "instruct"
    again = run(*command)
    assert again.code == 2 and "overwrite" in again.err
    other = run(*command, "--overwrite", "--images", 24)
    assert other.code == 2 and "another recipe" in other.err


def test_nothing_that_is_no_model_is_replaced(run: Run, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.txt").write_text("mine")
    refused = run("train", "add", pairs, "-o", tmp_path / "photos", "--overwrite")
    assert refused.code == 2 and "is no model" in refused.err
    assert (tmp_path / "photos" / "one.txt").read_text() == "mine"


def test_faults_are_found_before_torch_is_loaded(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for fault in (
        (tmp_path / "absent", "-o", out),
        (pairs, "-o", out, "--base", "imaginary"),
        (pairs, "-o", out, "--preset", "tiny"),
        (pairs, "-o", out, "--pair-weights", "1,2"),
        (pairs, "-o", out, "--pair-weights", "much"),
        (pairs, "-o", out, "--images", 0),
        (pairs, "-o", pairs),
    ):
        assert heavy_after("train", "add", *fault) == ["2"], fault
