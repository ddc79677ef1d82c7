"""The builder of the real benchmark, on a few small pictures and annotations made here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.evaluation.coco_world import BOXES, SIDE, SMALL, World, bytes_of, rectangle

from intarsia.evaluation.bench.coco import find_places


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


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
    assert found.left_out.counts == {reason: 1} and len(found.items) == 36
    (name,) = found.left_out.names[reason]
    number = change.get("id", 136)
    assert name.endswith(f", annotation {number}")
    assert name.startswith("no listed picture" if "image_id" in change else "000000.jpg")


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
    names = about["left_out_names"]
    assert names == made.left_out_names and names.keys() == about["left_out"].keys()
    assert names["picture that cannot be read"] == ["000001.jpg"] and names["picture in grey"] == ["000000.jpg"]
    assert names["picture of another size than annotated"] == ["000002.jpg"]
    assert names["annotation of a picture that is missing"] == [f"000003.jpg, annotation {n}" for n in (109, 110, 111)]
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
    assert made.left_out_names == {
        "mask of a photo of another size": ["duck_toy/02.jpg: 02.png"],
        "photo that cannot be read": ["duck_toy/03.jpg"],
        "subject without photos": ["empty"],
    }


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
