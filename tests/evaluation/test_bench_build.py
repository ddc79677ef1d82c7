"""The builder of the real benchmark, on a few small pictures and annotations made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from intarsia.cli.bench_build import register_build
from intarsia.errors import IntarsiaError, KnobError
from intarsia.evaluation.bench.build_coco import CocoBuild, build_coco
from intarsia.evaluation.bench.coco import PlaceFilter, find_places
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark

SIDE = (96, 120)
"""Height and width of the pictures."""
SMALL = PlaceFilter(least_picture_side=64, least_box_side=6)
BOXES = {"small": [10.2, 20.6, 10.0, 9.0], "medium": [30.0, 30.0, 20.0, 25.0], "large": [50.0, 10.0, 50.0, 40.0]}


def rectangle(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


class World:
    """A folder with COCO's pictures and annotations, and two subjects' photos."""

    def __init__(self, root: Path, pictures: int = 12) -> None:
        self.root, self.pictures, self.photos = root, root / "val2017", root / "dreambooth"
        self.pictures.mkdir()
        self.content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
        for number in range(pictures):
            self.picture(number)
            for box in BOXES.values():
                self.annotation(number, box)
        for name in ("duck_toy", "my_mug2"):
            (self.photos / name).mkdir(parents=True)
            for number in range(3):
                self.noise(number, (60, 40)).save(self.photos / name / f"{number:02d}.jpg")

    def noise(self, seed: int, size: tuple[int, int] = SIDE) -> Image.Image:
        values = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
        return Image.fromarray(values)

    def picture(self, number: int, **entry: Any) -> Path:
        path = self.pictures / f"{number:06d}.jpg"
        self.noise(number).save(path)
        known = {"id": number, "file_name": path.name, "height": SIDE[0], "width": SIDE[1]}
        self.content["images"].append({**known, **entry})
        return path

    def annotation(self, picture: int, box: Any, **more: Any) -> dict[str, Any]:
        number = 100 + len(self.content["annotations"])
        line = {"id": number, "image_id": picture, "category_id": 1, "bbox": box, "iscrowd": 0}
        self.content["annotations"].append({**line, "segmentation": rectangle(box), **more})
        return self.content["annotations"][-1]

    def build(self, name: str = "bench", **options: Any) -> CocoBuild:
        path = self.root / "instances.json"
        path.write_text(json.dumps(self.content))
        given = {"annotations": path, "pictures": self.pictures, "photos": self.photos, "wanted": SMALL}
        return build_coco(self.root / name, **{**given, "per_subject": 8, **options})

    def open(self, name: str = "bench") -> Benchmark:
        return Benchmark.open(self.root / name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_are_balanced_and_the_same_again(world: World) -> None:
    assert world.build(per_subject=12).short == {}
    bench = world.open()
    assert not bench.faults and len(bench.rows) == 24 and bench.name == "coco"
    for subject in ("duck_toy", "my_mug2"):
        rows = [row for row in bench.rows if row.subject == subject]
        assert Counter(row.size for row in rows) == {"small": 4, "medium": 4, "large": 4}
        assert Counter((row.size, row.task) for row in rows) == {
            (size, task): 2 for size in BOXES for task in ("identity", "editing")
        }
        assert len({row.scene for row in rows}) == 12, "one place of a picture"
        assert all((row.edit is None) == (row.task == "identity") for row in rows)
    assert len({row.seed for row in bench.rows}) == 24
    assert {row.class_noun for row in bench.rows} == {"toy", "my mug"}
    first = bytes_of(world.root / "bench")
    world.build("again", per_subject=12)
    assert bytes_of(world.root / "again") == first
    world.build("other", per_subject=12, seed=2)
    assert bytes_of(world.root / "other")["manifest.jsonl"] != first["manifest.jsonl"]
    assert sorted(path.name for path in world.root.iterdir() if path.name.startswith(".")) == []


def test_a_subject_draws_the_same_beside_others(world: World) -> None:
    world.build()
    world.build("alone", subjects=["my_mug2"])
    together = [row for row in world.open().rows if row.subject == "my_mug2"]
    assert list(world.open("alone").rows) == together
    assert {row.scene for row in together} != {row.scene for row in world.open().rows if row.subject == "duck_toy"}


def test_masks_are_the_annotated_boxes(world: World) -> None:
    world.build()
    boxes = {"small": (10, 20, 21, 30), "medium": (30, 30, 50, 55), "large": (50, 10, 100, 50)}
    for row in world.open().rows:
        with Image.open(world.root / "bench" / row.mask) as mask:
            assert mask.size == SIDE[::-1] and mask.getbbox() == boxes[row.size]
            assert mask.histogram()[255] == sum(mask.histogram()) - mask.histogram()[0]


def test_silhouettes_come_from_polygons(world: World) -> None:
    triangle = [[30.0, 30.0, 50.0, 30.0, 30.0, 55.0]]
    for line in world.content["annotations"]:
        if line["bbox"] == BOXES["medium"]:
            line["segmentation"] = triangle
        if line["bbox"] == BOXES["small"]:
            line["segmentation"] = {"size": list(SIDE), "counts": "1"}
        if line["bbox"] == BOXES["large"]:
            line["segmentation"] = rectangle([50.0, 10.0, 25.0, 40.0])
    made = world.build(shapes=("silhouette",))
    assert made.left_out["annotation without an outline"] == 12
    assert made.left_out["annotation with an outline unlike its box"] == 12
    for row in world.open().rows:
        with Image.open(world.root / "bench" / row.mask) as mask:
            assert row.shape == "silhouette" and row.size == "medium"
            assert 250 <= sum(mask.histogram()[128:]) < 300, "half of the box's 500, and the edge's pixels"


def test_both_shapes_are_crossed_with_tasks(world: World) -> None:
    world.build(per_subject=12, shapes=("box", "silhouette"))
    counts = Counter((row.shape, row.task) for row in world.open().rows)
    assert len(counts) == 4 and max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1, "segmentation": {"size": [96, 120], "counts": [1, 2]}}, "annotation of a crowd"),
        ({"bbox": [100.0, 10.0, 40.0, 30.0]}, "annotation with a box off the picture"),
        ({"bbox": [-20.0, 10.0, 40.0, 30.0]}, "annotation with a box off the picture"),
        ({"bbox": [20.0, 10.0, -5.0, 30.0]}, "annotation with a box off the picture"),
        ({"bbox": [20.0, 10.0, 5.0, 3.0]}, "annotation with a small box"),
        ({"bbox": [0.0, 0.0, 119.0, 95.0]}, "annotation with a large box"),
        ({"bbox": [0.0, 0.0, 100.0, 20.0]}, "annotation of the size huge"),
        ({"bbox": [float("nan"), 0.0, 9.0, 9.0]}, "annotation damaged"),
        ({"bbox": None}, "annotation damaged"),
        ({"id": "seven"}, "annotation damaged"),
        ({"id": 100}, "annotation with the id of another"),
        ({"image_id": 999}, "annotation of a picture that is not listed"),
        ({"image_id": ["?"]}, "annotation damaged"),
    ],
)
def test_annotations_that_are_no_places_are_counted(world: World, change: dict[str, Any], reason: str) -> None:
    world.annotation(0, [10.0, 10.0, 30.0, 30.0]).update(change)
    path = world.root / "instances.json"
    path.write_text(json.dumps(world.content))
    found = find_places(path, world.pictures, SMALL)
    assert found.left_out == {reason: 1} and len(found.items) == 36


def test_pictures_that_are_no_scenes_are_replaced_and_counted(world: World) -> None:
    Image.new("L", SIDE[::-1], 90).save(world.pictures / "000000.jpg")
    (world.pictures / "000001.jpg").write_bytes(b"no picture")
    turned = world.noise(2)
    turned.getexif()[0x0112] = 6
    turned.save(world.pictures / "000002.jpg", exif=turned.getexif())
    (world.pictures / "000003.jpg").unlink()
    world.content["images"][4]["height"] = 20
    made = world.build(per_subject=140)
    assert made.left_out["picture in grey"] == 1
    assert made.left_out["picture that cannot be read"] == 1
    assert made.left_out["picture of another size than annotated"] == 1
    assert made.left_out["annotation of a picture that is missing"] == 3
    assert made.left_out["annotation of a small picture"] == 3
    assert made.short == {"duck_toy": 7, "my_mug2": 7} and made.rows == 14
    bench = world.open()
    assert len(bench.rows) == 14 and not bench.faults
    about = json.loads((world.root / "bench" / "benchmark.json").read_text())
    assert about["left_out"] == made.left_out
    assert {path.name for path in (world.root / "bench" / "scenes").iterdir()} == {
        f"{number:06d}.jpg" for number in range(5, 12)
    }


def test_photos_keep_their_masks_and_turn_with_them(world: World) -> None:
    duck = world.photos / "duck_toy"
    mask = Image.new("L", (40, 60))
    mask.paste(255, (5, 10, 20, 30))
    (duck / "masks").mkdir()
    mask.save(duck / "masks" / "00.png")
    turned = world.noise(7, (60, 40))
    turned.getexif()[0x0112] = 6
    turned.save(duck / "01.jpg", exif=turned.getexif())
    mask.save(duck / "masks" / "01.png")
    mask.resize((10, 10)).save(duck / "masks" / "02.png")
    (duck / "03.jpg").write_bytes(b"broken")
    (world.photos / "empty").mkdir()
    made = world.build()
    shots = world.open().subjects["duck_toy"].photos
    assert [shot.mask is not None for shot in shots] == [True, True, False]
    with Image.open(world.root / "bench" / str(shots[1].mask)) as upright:
        assert upright.size == (60, 40) and upright.getbbox() == (30, 5, 50, 20), "a quarter to the right"
    assert made.left_out["mask of a photo of another size"] == 1
    assert made.left_out["photo that cannot be read"] == 1
    assert made.left_out["subject without photos"] == 1


def test_masks_may_lie_elsewhere(world: World) -> None:
    """DreamBooth's photos, and the masks of a second data set with folders `image` and `mask`."""
    mask = Image.new("L", (40, 60))
    mask.paste(255, (5, 10, 20, 30))
    other = world.root / "masks" / "my_mug2" / "mask"
    other.mkdir(parents=True)
    for number in range(3):
        mask.save(other / f"{number:02d}.png")
    nested = world.photos / "duck_toy"
    (nested / "image").mkdir()
    for path in nested.glob("*.jpg"):
        path.rename(nested / "image" / path.name)
    world.build(masks=world.root / "masks")
    subjects = world.open().subjects
    assert [shot.mask for shot in subjects["duck_toy"].photos] == [None] * 3
    assert all(shot.mask for shot in subjects["my_mug2"].photos)


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
            world.build(**{name: nothing})
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
    with pytest.raises(BenchError, match="12 picture that cannot be read"):
        world.build(overwrite=True)
    assert bytes_of(world.root / "bench") == before
    assert [path.name for path in world.root.iterdir() if path.name.startswith(".")] == []


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
    done = invoke("coco", out, *inputs, *filters, "--per-subject", 6, "--subjects", "duck_toy", "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == 6 and told["task"] == {"identity": 3, "editing": 3}
    assert told["left_out"]["annotation of a crowd"] == 1 and "1 x annotation of a crowd" in done.stderr
    assert len(Benchmark.open(out).rows) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coco", "OUT"], "--annotations is missing"),
        (["coco", "OUT", "--side", "9"], "--side has no meaning for coco"),
        (["tabletop", "OUT", "--photos", "x"], "--photos has no meaning for tabletop"),
        (["tabletop", "OUT", "--subjects", "many"], "whole number"),
        (["imagenet", "OUT"], "tabletop or coco"),
        (["coco", "OUT", "--annotations", "a", "--pictures", "b", "--photos", "c", "--share", "1"], "LEAST,GREATEST"),
    ],
)
def test_commands_that_cannot_be(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = invoke(*[str(tmp_path / "out") if part == "OUT" else part for part in arguments])
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
