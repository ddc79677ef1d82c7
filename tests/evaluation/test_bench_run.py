"""The methods, and runs over a benchmark: resumable, no row twice, errors named and tried again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.evaluation.bench_world import small_benchmark

from intarsia.evaluation import bench
from intarsia.evaluation.bench.manifest import file_sha256
from intarsia.evaluation.bench.methods import BUDGET
from intarsia.evaluation.bench.paste import cut_and_paste
from intarsia.evaluation.bench.results_folder import Result, ResultLines, broken_lines, locked
from intarsia.evaluation.bench.run import RunOptions, _Worker, run_part
from intarsia.evaluation.bench.run_record import open_run
from intarsia.imaging import Picture
from intarsia.learning import LearnConfig, Subject


@pytest.fixture(scope="session")
def built() -> Path:
    return small_benchmark()


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "benchmark"))


def test_the_methods_are_steps_of_the_ablation() -> None:
    steps = [bench.METHODS[name] for name in ("dreambooth", "dif", "tas", "paper")]
    assert steps[0].options["lam"] == 0 and "lam" not in steps[1].options
    assert steps[1].options["remove_attributes"] == "none" and "remove_attributes" not in steps[2].options
    assert steps[2].options == steps[3].options == {"preset": "paper"}
    assert len({step.learning_key() for step in steps[:3]}) == 1 != len({step.learning_key() for step in steps})
    learning = [method for method in bench.METHODS.values() if method.learning is not None]
    configs = [LearnConfig.preset("default", **method.learn_settings(steps=90)) for method in learning]
    assert len(configs) == 5 and len({tuple(getattr(config, name) for name in BUDGET) for config in configs}) == 1
    assert configs[0].steps == 90 and configs[0].regular_prompts == "class" and configs[3].refresh == 0


def test_a_variant_changes_requests_or_learning() -> None:
    variant = bench.method_of("default@subject_strength=0.5,learn_steps=60")
    assert variant.options["subject_strength"] == 0.5 and variant.learn_settings()["steps"] == 60
    assert variant.learning_key() != bench.method_of("default").learning_key()
    assert bench.method_of("default@subject_strength=0.5").learning_key() == bench.method_of("default").learning_key()
    assert bench.method_of("paper@lam=0").options["lam"] == 0


@pytest.mark.parametrize(
    "name",
    ["best", "paper@", "paper@lam", "paper@lam=2", "paper@light=1", "default@learn_speed=1", "text_only@learn_steps=3",
     "cut_and_paste@lam=1", "default@learn_steps=0", "paper@negative_prompt=a/b"],
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
            assert file_sha256(folder / result.picture) == result.picture_sha256
    painted.clear()
    (folder / "pictures" / "text_only" / "s01-02.png").write_bytes(b"no picture")
    run_part(opened, folder, methods, RunOptions())
    assert painted == ["s00-01 text_only", "s01-02 text_only"], "what is gone or changed is painted again"


def test_an_unforeseen_error_is_the_rows_until_there_are_many(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, folder, methods = bench.Benchmark.open(built), tmp_path / "results", [bench.method_of("text_only")]
    open_run(opened, folder, methods, RunOptions())

    def paint(self: _Worker, row: bench.Row, method: bench.Method) -> Picture:
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(_Worker, "_painted", paint)
    with pytest.raises(RuntimeError):
        run_part(opened, folder, methods, RunOptions())
    assert [result.error for result in bench.read_results(folder)] == ["RuntimeError: out of luck"] * 4


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(bench.BenchError, match="another run writes"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


class _Learner:
    """A Studio that paints nothing and learns subjects of so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.asked = steps, 0

    def learn(self, photos: Any, noun: str, *, config: LearnConfig, work_folder: Path) -> Any:
        self.asked += 1
        work_folder.mkdir(parents=True, exist_ok=True)
        (work_folder / "manifest.jsonl").write_text('{"kept": true}\n{"kept": false}\n')
        done = min(self.steps, config.steps)
        return SimpleNamespace(save=lambda path: path.write_bytes(b"subject"), steps_done=done)


def test_half_a_subject_is_none(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, method, options = bench.Benchmark.open(built), bench.method_of("paper"), RunOptions(budget={"steps": 9})
    path = tmp_path / "subjects" / method.learning_key(steps=9) / "s00.safetensors"
    monkeypatch.setattr(Subject, "load", lambda path: SimpleNamespace())
    with pytest.raises(KeyboardInterrupt):
        _Worker(opened, tmp_path, options, _Learner(4))._subject("s00", method)  # type: ignore[arg-type]
    assert not path.exists() and path.with_suffix(".work").is_dir(), "the checkpoint stays"
    worker = _Worker(opened, tmp_path, options, _Learner(9))  # type: ignore[arg-type]
    worker._subject("s00", method)
    worker._subject("s00", method)
    assert path.exists() and not path.with_suffix(".work").exists() and worker.studio.asked == 1  # type: ignore[attr-defined]
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "regular_images": 2,
        "regular_images_kept": 1,
        "steps": 9,
    }


def test_results_of_something_else_are_not_mixed_in(built: Path, copied: Path, tmp_path: Path) -> None:
    folder, methods = tmp_path / "results", [bench.method_of("text_only"), bench.method_of("default")]
    open_run(bench.Benchmark.open(built), folder, methods, RunOptions())
    open_run(bench.Benchmark.open(built), folder, methods[:1], RunOptions())
    assert set(json.loads((folder / "run.json").read_text())["methods"]) == {"text_only", "default"}
    with pytest.raises(bench.BenchError, match="another budget"):
        open_run(bench.Benchmark.open(built), folder, methods, RunOptions(budget={"steps": 3}))
    with pytest.raises(bench.BenchError, match="another dtype"):
        open_run(bench.Benchmark.open(built), folder, methods, RunOptions(dtype="bfloat16"))
    about = json.loads((copied / "benchmark.json").read_text())
    about["subjects"]["s00"]["photos"].pop()
    (copied / "benchmark.json").write_text(json.dumps(about))
    with pytest.raises(bench.BenchError, match="another subjects sha256"):
        open_run(bench.Benchmark.open(copied), folder, methods, RunOptions())


def test_a_method_whose_preset_changed_is_not_mixed_with_its_old_results(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intarsia.request import edit_request

    folder, methods = tmp_path / "results", [bench.method_of("text_only")]
    open_run(bench.Benchmark.open(built), folder, methods, RunOptions())
    ResultLines(folder, "1-of-1").add(Result("s00-00", "text_only", 1, None, None, 0.1, "error"))
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
    path.write_bytes(path.read_bytes() + b'{"row": 5}\n{"row": "b", "meth')
    assert [result.row for result in bench.read_results(folder)] == ["a"]
    lines = ResultLines(folder, "1-of-1")
    lines.add(Result("b", "m", 2, None, None, 0.1, "error"))
    lines.add(Result("b", "m", 2, "r", "2", 0.1))
    found = {result.row: result for result in bench.read_results(folder)}
    assert found["a"].picture == "q" and found["b"].picture == "r" and len(found) == 2
    assert broken_lines(folder) == {"1-of-1.jsonl": 1}
