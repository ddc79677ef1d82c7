"""Annotations of all kinds as one table of instances."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from intarsia.engines.pairs import AnnotationsError, InstanceError, list_instances
from intarsia.engines.pairs.coco import read_expressions
from intarsia.engines.pairs.instances import Instance
from intarsia.engines.pairs.reading import read
from intarsia.engines.pairs.run_lengths import compress, expand, mask_of_polygons, mask_of_text, mask_text
from intarsia.perception import to_rle

SIZE = (40, 60)


def photo(folder: Path, name: str, size: tuple[int, int] = SIZE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 128, np.uint8)).save(folder / name)


def box_mask(x: int, y: int, w: int, h: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y : y + h, x : x + w] = True
    return mask


def taken(row: dict[str, Any], photos: Path, masks: Path | None = None) -> dict[str, Any]:
    (after,) = read(row, photos=photos, masks=masks, least_side=8)
    return after


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_masks_survive_as_text(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 90))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    assert np.array_equal(mask_of_text(mask_text(mask)), mask)
    counts = to_rle(mask)["counts"]
    assert expand(compress(counts)) == counts


def test_run_lengths_are_those_of_coco() -> None:
    assert compress([6, 1, 40, 4, 5, 4, 5, 4, 21]) == "61X13mN000`0"
    assert expand("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]
    for broken in ("61X", "6\x7f", "6 1"):
        with pytest.raises(InstanceError):
            expand(broken)
    for text in ("4x4:6", "what", "4x4:!"):
        with pytest.raises(InstanceError):
            mask_of_text(text)


def test_polygons_cover_their_pixels() -> None:
    mask = mask_of_polygons([[10, 5, 30, 5, 30, 25, 10, 25]], SIZE)
    expected = box_mask(10, 5, 20, 20)
    assert (mask ^ expected).sum() <= 82 and (expected & ~mask).sum() == 0, "at most the rim differs"
    with pytest.raises(InstanceError, match="polygon"):
        mask_of_polygons([[1, 2, 3]], SIZE)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_keys_are_safe_and_apart(one: str, other: str) -> None:
    from intarsia.engines.runner.rows import check_key

    keys = [Instance("coco", "COCO", image, "1", "p.jpg", "mug").key for image in (one, other)]
    assert all(check_key(key).count("/") == 2 for key in keys) and (keys[0] == keys[1]) == (one == other)


def coco_file(path: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    images = [{"id": 7, "file_name": "7.png", "height": SIZE[0], "width": SIZE[1], "license": 1}]
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "dining_table"}, {"id": 2, "name": "Mug"}],
        "licenses": [{"id": 1, "name": "CC BY 2.0"}],
        "annotations": annotations,
        **changes,
    }
    path.write_text(json.dumps(content))
    return path


def thing(number: int, mask: np.ndarray, **changes: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": 2, "iscrowd": 0, "segmentation": to_rle(mask), **changes}


def test_coco_with_all_its_faults(tmp_path: Path) -> None:
    photo(tmp_path, "7.png")
    mask = box_mask(10, 8, 20, 12)
    packed = {"size": list(SIZE), "counts": compress(to_rle(mask)["counts"])}
    annotations = [
        thing(1, mask),
        thing(2, mask, segmentation=packed),
        thing(3, mask, iscrowd=1),
        thing(4, mask, image_id=8),
        thing(5, mask, category_id=9),
        thing(6, box_mask(1, 1, 5, 5, (20, 30))),
        thing(7, mask, segmentation=[]),
        thing(8, mask, segmentation=[[1.0, 2.0]]),
        thing(9, mask, category_id=1, segmentation=[[10, 8, 30, 8, 30, 20, 10, 20]]),
    ]
    file = coco_file(tmp_path / "instances.json", annotations)
    rows = {row["ann_id"]: row for row in list_instances(tmp_path, None, (f"coco:{file}",))}
    good = taken(rows["1"], tmp_path)
    assert (good["class"], good["x"], good["y"], good["w"], good["h"]) == ("mug", 10, 8, 20, 12)
    assert good["licence"] == "CC BY 2.0" and good["area"] == 0.1 and good["pictures"] == "COCO"
    assert good["border"] == pytest.approx(10 / 60, abs=1e-6) and good["fill"] == good["largest_part"] == 1
    assert taken(rows["2"], tmp_path)["mask.png"] == good["mask.png"] and rows["9"]["class"] == "dining table"
    assert taken(rows["3"], tmp_path)["rejected"] == "crowd"
    faults = {"4": "do not list its picture", "5": "class is unknown", "6": "30x20 px but the picture is 60x40"}
    for number, complaint in {**faults, "7": "cannot be read", "8": "cannot be read"}.items():
        with pytest.raises(InstanceError, match=complaint):
            taken(rows[number], tmp_path)
    (tmp_path / "7.png").unlink()
    missing = {row["ann_id"]: row for row in list_instances(tmp_path, None, (f"coco:{file}",))}
    with pytest.raises(InstanceError, match=r"7\.png is missing"):
        taken(missing["1"], tmp_path)


def test_lvis_twins_are_merged_and_expressions_joined(tmp_path: Path) -> None:
    photo(tmp_path / "val2017", "7.png")
    mask = box_mask(10, 8, 20, 12)
    nearly = mask.copy()
    nearly[8, 10:14] = False
    url = {"coco_url": "http://images.cocodataset.org/val2017/7.png"}
    images = [{"id": 7, "height": SIZE[0], "width": SIZE[1], **url}]
    coco = coco_file(tmp_path / "coco.json", [thing(1, mask)], images=images)
    lvis = coco_file(tmp_path / "lvis.json", [thing(5, nearly), thing(6, box_mask(40, 5, 8, 8))], images=images)
    refs = tmp_path / "refs.json"
    refs.write_text(json.dumps([{"ann_id": 1, "sentences": [{"sent": "Left  mug"}, {"raw": "left mug"}]}]))
    options = (f"coco:{coco}", f"lvis:{lvis}", f"refcoco:{refs}")
    rows = {row["key"]: row for row in list_instances(tmp_path, None, options)}
    first, twin, other = rows["coco/7/1"], rows["lvis/7/5"], rows["lvis/7/6"]
    assert first["source"] == "val2017/7.png" and first["split"] == "val2017"
    assert json.loads(first["also"]) == ["lvis/7/5"] and json.loads(first["expressions"]) == ["left mug"]
    assert "same thing" in taken(twin, tmp_path)["rejected"] and other["drop"] is None
    assert json.loads(first["others"]) == [[40, 5, 8, 8]] and taken(first, tmp_path)["crowding"] == 0
    crowded = {**first, "others": "[[20, 8, 30, 6]]"}
    assert taken(crowded, tmp_path)["crowding"] == 0.25
    held = {row["key"]: row for row in list_instances(tmp_path, None, options, exclude=frozenset({"7"}))}
    assert held["coco/7/1"]["drop"] == "held out"


def test_pickled_expressions_are_plain_values_only(tmp_path: Path) -> None:
    good, bad = tmp_path / "refs.p", tmp_path / "evil.p"
    good.write_bytes(pickle.dumps([{"ann_id": 3, "sentences": [{"sent": "the red one"}]}]))
    assert read_expressions(good) == {"3": ("the red one",)}
    bad.write_bytes(pickle.dumps(Path("x")))
    with pytest.raises(AnnotationsError, match="plain values"):
        read_expressions(bad)


def test_open_images_with_flags_names_and_scaled_masks(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "aa.jpg")
    masks.mkdir()
    small = box_mask(5, 4, 10, 6, (20, 30))
    for name in ("aa_m_1.png", "aa_m_2.png", "aa_m_3.png"):
        Image.fromarray(small if name != "aa_m_3.png" else box_mask(1, 1, 5, 5, (30, 30))).save(masks / name)
    table = tmp_path / "train-annotations-object-segmentation.csv"
    table.write_text(
        "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
        "aa_m_1.png,aa,/m/1,b1,0.1,0.5,0.2,0.5,,\n"
        "aa_m_2.png,aa,/m/1,b2,0.3,0.5,0.2,0.5,,\n"
        "aa_m_3.png,aa,/m/9,b3,0.7,0.9,0.2,0.5,,\n"
    )
    (tmp_path / "class-descriptions.csv").write_text("/m/1,Coffee cup\n/m/9,Tree\n")
    (tmp_path / "train-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        "aa,x,/m/1,1,0.300000,0.500000,0.200000,0.500000,0,0,1,0,0\n"
    )
    rows = {row["ann_id"]: row for row in list_instances(photos, masks, (f"open-images:{table}",))}
    first = taken(rows["aa_m_1"], photos, masks)
    assert (first["class"], first["x"], first["y"], first["w"], first["h"]) == ("coffee cup", 10, 8, 20, 12)
    assert first["split"] == "train" and rows["aa_m_2"]["drop"] == "crowd"
    with pytest.raises(InstanceError, match="30x30 px"):
        taken(rows["aa_m_3"], photos, masks)


def test_a_folder_of_masks(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in ("a.png", "b.png", "c.png", "d-1.png"):
        photo(photos, name)
    masks.mkdir()
    labels = np.zeros(SIZE, np.uint8)
    labels[5:15, 5:25], labels[20:30, 30:50] = 3, 7
    Image.fromarray(labels).save(masks / "a.png")
    (masks / "a.json").write_text('{"3": "Red Mug", "7": "duck"}')
    Image.fromarray(box_mask(1, 1, 9, 9)).save(masks / "b-0.png")
    Image.fromarray(box_mask(1, 1, 9, 9, (20, 20))).save(masks / "b-1.png")
    Image.fromarray(box_mask(30, 1, 9, 9)).save(masks / "d-1.png")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(masks / "c.png")
    Image.fromarray(box_mask(1, 1, 9, 9)).save(masks / "z.png")
    rows = {row["key"]: row for row in list_instances(photos, masks)}
    assert set(rows) == {
        "folder/a/3",
        "folder/a/7",
        "folder/b/0",
        "folder/b/1",
        "folder/c/0",
        "folder/d-1/0",
        "folder/z/0",
    }
    first = taken(rows["folder/a/3"], photos, masks)
    assert first["class"] == "red mug" and (first["x"], first["w"]) == (5, 20)
    for key, complaint in {"folder/b/0": "class is unknown", "folder/z/0": "no photo z"}.items():
        with pytest.raises(InstanceError, match=complaint):
            taken(rows[key], photos, masks)
    named = {row["key"]: row for row in list_instances(photos, masks, class_name="cup")}
    assert taken(named["folder/b/0"], photos, masks)["class"] == "cup"
    for key, complaint in {"folder/b/1": "20x20 px but the picture is 60x40", "folder/c/0": "mask is empty"}.items():
        with pytest.raises(InstanceError, match=complaint):
            taken(named[key], photos, masks)
    Image.fromarray(box_mask(2, 1, 9, 9)).save(masks / "b-0.png")
    with pytest.raises(InstanceError, match="changed while"):
        taken(named["folder/b/0"], photos, masks)
    (masks / "b-0.png").unlink()
    with pytest.raises(InstanceError, match="is missing"):
        taken(named["folder/b/0"], photos, masks)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("yolo:x",), "no known kind"),
        (("coco",), "no known kind"),
        (("coco:none.json",), "no file of annotations"),
        (("coco:BROKEN",), "cannot be read"),
        (("coco:LIST",), "not in COCO's format"),
        (("refcoco:REFS",), "give coco:FILE as well"),
        (("open-images:none.csv",), "folder of its mask pictures"),
        (("tabletop",), "no truth"),
        ((), "nothing says where"),
    ],
)
def test_annotations_that_are_none(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    photo(tmp_path, "a.png")
    texts = {"BROKEN": "{", "LIST": "[]", "REFS": '[{"ann_id": 1, "sentences": ["x"]}]'}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    named = tuple(
        option.replace(name, str(tmp_path / name)) for option in options for name in [option.partition(":")[2] or " "]
    )
    with pytest.raises(AnnotationsError, match=complaint) as caught:
        list_instances(tmp_path, None, named)
    assert "\n" not in str(caught.value)
