"""The builder of the real benchmark: what it refuses, what it keeps, and its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.evaluation.coco_world import World, bytes_of
from typer.testing import CliRunner

from intarsia.cli.bench_build import register_build
from intarsia.errors import IntarsiaError, KnobError
from intarsia.evaluation.bench.coco import PlaceFilter
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no JSON"),
        ("[]", "lacks lists of images and annotations"),
        ('{"images": [], "annotations": {}}', "lacks lists"),
        ('{"images": [], "annotations": []}', "holds none of the 0 pictures"),
        ('{"images": [7, {"id": 1}], "annotations": []}', "holds none of the 0 pictures"),
    ],
)
def test_a_file_that_is_no_coco(world: World, content: str, words: str) -> None:
    path = world.root / "broken.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=words):
        world.build(annotations=path)
    assert not (world.root / "bench").exists()


def test_inputs_that_are_missing(world: World) -> None:
    nothing = world.root / "nothing"
    for name in ("annotations", "pictures", "photos", "masks", "prompts"):
        with pytest.raises(BenchError, match="nothing"):
            world.build(**{name: nothing})  # type: ignore[arg-type]
    nothing.mkdir()
    with pytest.raises(BenchError, match="none of the 12 pictures"):
        world.build(pictures=nothing)
    with pytest.raises(BenchError, match="no folder with photos"):
        world.build(photos=world.photos / "duck_toy")
    with pytest.raises(BenchError, match="no folder 'duck'"):
        world.build(subjects=["duck"])
    with pytest.raises(BenchError, match="36 annotation of a small picture"):
        world.build(wanted=PlaceFilter())


@pytest.mark.parametrize(
    "options",
    [{"per_subject": 0}, {"seed": -1}, {"shapes": ()}, {"shapes": ("circle",)}],
)
def test_numbers_out_of_range(world: World, options: dict[str, Any]) -> None:
    with pytest.raises(KnobError):
        world.build(**options)


@pytest.mark.parametrize(
    "options",
    [{"least_picture_side": 0}, {"least_share": 0.6}, {"greatest_share": 2.0}, {"sizes": ("tiny",)}, {"sizes": ()}],
)
def test_filters_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(KnobError):
        PlaceFilter(**options)


def test_nothing_but_a_benchmark_is_replaced(world: World) -> None:
    world.build()
    with pytest.raises(BenchError, match="overwrite"):
        world.build()
    world.build(overwrite=True, per_subject=2)
    assert len(world.open().rows) == 4
    precious = world.root / "precious"
    precious.mkdir()
    (precious / "letter.txt").write_text("x")
    with pytest.raises(BenchError, match="is no benchmark"):
        world.build("precious", overwrite=True)
    assert (precious / "letter.txt").read_text() == "x"
    with pytest.raises(BenchError, match="is no benchmark"):
        world.build("precious/letter.txt", overwrite=True)


def test_a_failed_build_leaves_nothing_and_keeps_the_old(world: World) -> None:
    world.build()
    before = bytes_of(world.root / "bench")
    for path in world.pictures.iterdir():
        path.unlink()  # links in the benchmark stay
        path.write_bytes(b"broken")
    with pytest.raises(BenchError, match=r"12 picture that cannot be read \(first: 0000\d\d\.jpg\)"):
        world.build(overwrite=True)
    assert bytes_of(world.root / "bench") == before
    assert [path.name for path in world.root.iterdir() if path.name.startswith(".")] == []


def test_the_old_benchmark_comes_back_where_the_new_one_cannot_be_moved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.build()
    before = bytes_of(world.root / "bench")
    usual = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise PermissionError(13, "no")
        return usual(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(PermissionError):
        world.build(overwrite=True, per_subject=2)
    assert bytes_of(world.root / "bench") == before
    assert [path.name for path in world.root.iterdir() if path.name.startswith(".")] == []


def test_of_many_the_first_twenty_are_named(world: World) -> None:
    for _ in range(30):
        world.annotation(0, [10.0, 10.0, 2.0, 2.0])
    made = world.build()
    assert made.left_out["annotation with a small box"] == 30
    assert made.left_out_names["annotation with a small box"] == [
        f"000000.jpg, annotation {136 + n}" for n in range(20)
    ]


def invoke(*arguments: object) -> Any:
    app = typer.Typer()
    register_build(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["build", *map(str, arguments)])


def test_the_command(world: World) -> None:
    world.content["annotations"][0]["iscrowd"] = 1
    (world.root / "instances.json").write_text(json.dumps(world.content))
    inputs = ["--annotations", world.root / "instances.json", "--pictures", world.pictures, "--photos", world.photos]
    filters = ["--least-picture", 64, "--least-box", 6, "--share", "0.001,0.5"]
    out = world.root / "out"
    done = invoke("coco", "-o", out, *inputs, *filters, "--per-subject", 6, "--subjects", "duck_toy", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == 6 and told["task"] == {"identity": 3, "editing": 3}
    assert told["left_out"]["annotation of a crowd"] == 1
    assert "left out: 1 x annotation of a crowd: 000000.jpg, annotation 100" in done.stderr
    assert len(Benchmark.open(out).rows) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coco"], "--annotations is missing"),
        (["coco", "--side", "9"], "--side has no meaning for coco"),
        (["tabletop", "--photos", "x"], "--photos has no meaning for tabletop"),
        (["tabletop", "--shapes", "silhouette"], "--shapes has no meaning for tabletop"),
        (["tabletop", "--sizes", "small"], "--sizes has no meaning for tabletop"),
        (["tabletop", "--share", "0.1,0.2"], "--share has no meaning for tabletop"),
        (["tabletop", "--least-picture", "9"], "--least-picture has no meaning for tabletop"),
        (["tabletop", "--least-box", "9"], "--least-box has no meaning for tabletop"),
        (["tabletop", "--subjects", "many"], "whole number"),
        (["imagenet"], "tabletop or coco"),
        (["coco", "--annotations", "a", "--pictures", "b", "--photos", "c", "--share", "1"], "LEAST,GREATEST"),
        (["coco", "--annotations", "a", "--pictures", "b", "--photos", "c", "--sizes", "tiny"], "'tiny' is unknown"),
    ],
)
def test_commands_that_cannot_be(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = invoke(*arguments, "--output", tmp_path / "out")
    assert done.exit_code == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys, intarsia.cli.bench_build, intarsia.evaluation.bench.build_coco;"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'cv2') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_one_line() -> None:
    assert issubclass(BenchError, IntarsiaError) and "\n" not in str(BenchError("a\nb"))
