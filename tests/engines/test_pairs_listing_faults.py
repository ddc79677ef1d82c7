"""A bad file or line costs itself alone; and what stands beside a thing is known, whatever the annotations."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.engines.pairs_scenes import draw_pairs
from tests.engines.test_pairs_instances import SIZE, box_mask, coco_file, photo, taken, thing

from intarsia.engines import EngineError
from intarsia.engines.pairs import AnnotationsError, InstanceError, list_instances
from intarsia.engines.pairs.coco import read_expressions
from intarsia.engines.pairs.instructing import NOTHING, UNNAMED, UNREFERRED, instruct
from intarsia.engines.pairs.mask_pictures import labels_of, places_in
from intarsia.engines.pairs.samples import mask_of, png
from intarsia.engines.pairs.texts import class_instruction, expression_instruction, fault_of, spoken, tidy
from intarsia.engines.runner.rows import check_source
from intarsia.perception import Description, to_rle

TABLE = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf,IsDepiction,IsInside\n"


def listed(photos: Path, masks: Path | None, *options: str, **more: Any) -> dict[str, dict[str, Any]]:
    """The rows by key, as the runner takes them."""
    return {row["key"]: row for row in check_source(list_instances(photos, masks, options, **more), "key")}


def others(row: dict[str, Any]) -> list[list[int]]:
    return [list(box) for box in json.loads(row["others"])]


def complaint(row: dict[str, Any], photos: Path, masks: Path | None = None) -> str:
    with pytest.raises(InstanceError) as caught:
        taken(row, photos, masks)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What else is in the picture


def test_masks_of_a_folder_know_of_each_other(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "a.png")
    photo(photos, "b.png")
    masks.mkdir()
    Image.fromarray(box_mask(2, 3, 10, 20)).save(masks / "a-0.png")
    Image.fromarray(box_mask(7, 3, 30, 8)).save(masks / "a-1.png")
    labels = np.zeros(SIZE, np.uint8)
    labels[5:15, 5:25], labels[20:30, 30:50] = 3, 7
    Image.fromarray(labels).save(masks / "b.png")
    rows = listed(photos, masks, class_name="mug")
    assert others(rows["folder/a/0"]) == [[7, 3, 30, 8]] and others(rows["folder/a/1"]) == [[2, 3, 10, 20]]
    assert others(rows["folder/b/3"]) == [[30, 20, 20, 10]] and others(rows["folder/b/7"]) == [[5, 5, 20, 10]]
    assert taken(rows["folder/a/0"], photos, masks)["crowding"] == pytest.approx(5 * 8 / 200)


def test_a_turned_photo_has_its_upright_size(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    masks.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)).save(photos / "a.jpg", exif=exif)
    Image.fromarray(box_mask(50, 3, 10, 20)).save(masks / "a-0.png")
    Image.fromarray(box_mask(1, 3, 9, 9)).save(masks / "a-1.png")
    rows = listed(photos, masks, class_name="mug")
    assert others(rows["folder/a/1"]) == [[50, 3, 10, 20]] and taken(rows["folder/a/0"], photos, masks)["x"] == 50


def test_open_images_know_their_boxes_and_coco_its_crowds(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "aa.jpg")
    masks.mkdir()
    for name in "123":
        Image.fromarray(box_mask(5, 4, 10, 6, (20, 30))).save(masks / f"{name}.png")
    table = tmp_path / "train-annotations-object-segmentation.csv"
    table.write_text(
        f"{TABLE}1.png,aa,/m/1,b1,0.1,0.5,0.25,0.5,,\n2.png,aa,/m/1,b2,0.5,1.5,0.5,0.75,,\n3.png,aa,/m/1,b3,,,,,,\n"
    )
    rows = listed(photos, masks, f"open-images:{table}")
    assert others(rows["open-images/aa/1"]) == [[30, 20, 30, 10], [10, 8, 20, 12]], "of the mask where no box is said"
    (tmp_path / "train-annotations-bbox.csv").write_text(f"{BOXES}aa,x,/m/1,1,0.5,1.5,0.5,0.75,0,0,1\n")
    inside = listed(photos, masks, f"open-images:{table}")
    assert others(inside["open-images/aa/1"]) == [[10, 8, 20, 12]], "a view from inside surrounds what is in it"

    photo(tmp_path, "7.png")
    crowd = thing(2, box_mask(40, 5, 8, 8), iscrowd=1, bbox=[40.4, 5.0, 30.0, 7.6])
    broken = thing(3, box_mask(1, 1, 2, 2), segmentation=[], bbox=[0, 30, 10, 10])
    file = coco_file(tmp_path / "coco.json", [thing(1, box_mask(10, 8, 20, 12)), crowd, broken])
    assert others(listed(tmp_path, None, f"coco:{file}")["coco/7/1"]) == [[40, 5, 20, 8], [0, 30, 10, 10]]


def test_twins_that_are_not_merged_do_not_crowd_each_other(tmp_path: Path) -> None:
    photo(tmp_path, "7.png")
    mask = box_mask(10, 8, 20, 12)
    twin, part = box_mask(10, 8, 20, 10), box_mask(10, 8, 10, 12)
    coco = coco_file(tmp_path / "coco.json", [thing(1, mask), thing(2, twin)])
    lvis = coco_file(tmp_path / "lvis.json", [thing(5, twin), thing(6, part)])
    rows = listed(tmp_path, None, f"coco:{coco}", f"lvis:{lvis}")
    first = rows["coco/7/1"]
    assert rows["lvis/7/5"]["drop"] is not None and json.loads(rows["coco/7/2"]["also"]) == ["lvis/7/5"]
    alone = listed(tmp_path, None, f"coco:{coco_file(tmp_path / 'one.json', [thing(1, mask)])}", f"lvis:{lvis}")
    assert others(alone["coco/7/1"]) == [[10, 8, 10, 12]] and others(alone["lvis/7/5"]) == [[10, 8, 10, 12]]
    assert taken(alone["coco/7/1"], tmp_path)["crowding"] == 0.5, "what is much smaller is another thing"
    assert [10, 8, 20, 10] in others(first), "of one kind of annotations two are two things"


# Faults of one file or one line


def without_checksum(path: Path) -> None:
    """A PNG whose second chunk is damaged: Pillow raises SyntaxError."""
    data = path.read_bytes()
    chunk = b"tEXtkey\0value"
    wrong = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk) ^ 1)
    path.write_bytes(data[:33] + wrong + data[33:])


def test_a_bad_mask_costs_its_own_row(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in "abcd":
        photo(photos, f"{name}.png")
    masks.mkdir()
    for name in ("a", "a-1", "c", "c-1"):
        Image.fromarray(box_mask(1, 1, 9, 9)).save(masks / f"{name}.png")
    for name in ("a", "a-1"):
        without_checksum(masks / f"{name}.png")
    for name in ("b", "b-1"):
        Image.new("1", (20000, 20000)).save(masks / f"{name}.png")
    (masks / "c.json").write_text("{")
    (masks / "d.json").write_text("[" * 100_000)
    Image.fromarray(box_mask(1, 1, 9, 9)).save(masks / "d.png")
    Image.fromarray(box_mask(1, 1, 9, 9)).save(masks / "d.bmp")
    rows = listed(photos, masks, class_name="mug")
    for name in ("a/0", "a/1", "b/0", "b/1"):
        assert "cannot be read" in complaint(rows[f"folder/{name}"], photos, masks)
    assert "more than 100 million pixels" in complaint(rows["folder/b/0"], photos, masks)
    for name in ("c/0", "c/1", "d/0"):
        told = complaint(rows[f"folder/{name}"], photos, masks)
        assert f"the classes {name[0]}.json cannot be read" in told and str(tmp_path) not in told
    assert set(rows) == {f"folder/{n}/{i}" for n in "abc" for i in "01"} | {"folder/d/0", "folder/d/0-again1"}
    (masks / "c.json").write_text('{"0": "cup"}')
    assert taken(listed(photos, masks)["folder/c/0"], photos, masks)["class"] == "cup"


def test_a_broken_truth_costs_its_own_scene(tmp_path: Path) -> None:
    scenes, _ = draw_pairs(tmp_path, 2)
    whole = listed(scenes, None)
    (scenes / "001.truth.json").write_text('{"version": 1, "objects": 3}')
    rows = listed(scenes, None)
    kept = {key for key in whole if key.startswith("tabletop/000/")}
    assert set(rows) == kept | {"tabletop/001/truth"} and all(rows[key] == whole[key] for key in kept)
    told = complaint(rows["tabletop/001/truth"], scenes)
    assert "001.truth.json is malformed" in told and str(tmp_path) not in told


def images(**values: Any) -> list[dict[str, Any]]:
    return [{"id": 7, "file_name": "7.png", "height": SIZE[0], "width": SIZE[1], **values}]


GOOD = to_rle(box_mask(10, 8, 20, 12))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a text", "the annotation is a str"),
        (None, "the annotation is a NoneType"),
        ({"image_id": [7]}, "do not list its picture"),
        ({"image_id": {"a": 1}}, "do not list its picture"),
        ({"category_id": [2]}, "class is unknown"),
        ({"id": None}, "it has no id"),
        ({"id": [5]}, "it has no id"),
        ({"id": 1}, "its id occurs twice"),
        ({"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}}, "its mask cannot be read"),
        ({"segmentation": {"size": [float("inf"), 3], "counts": []}}, "its mask cannot be read"),
        ({"segmentation": {"size": list(SIZE), "counts": "o" * 400 + "0"}}, "its mask cannot be read"),
        ({"segmentation": [[0, 0, 9, 0, float("nan"), 9]]}, "far out of any picture"),
        ({"segmentation": [[0, 0, 1e300, 0, 9, 9]]}, "far out of any picture"),
        ({"segmentation": [["a"] * 6]}, "its mask cannot be read"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "its mask cannot be read"),
        ({"segmentation": {}}, "its mask cannot be read"),
    ],
)
def test_a_bad_annotation_costs_its_own_row(tmp_path: Path, line: Any, told: str) -> None:
    photo(tmp_path, "7.png")
    bad = {**thing(5, box_mask(1, 1, 4, 4)), **line} if isinstance(line, dict) else line
    lines = [thing(1, box_mask(10, 8, 20, 12)), bad]
    file = coco_file(tmp_path / "coco.json", lines)
    rows = listed(tmp_path, None, f"coco:{file}")
    assert len(rows) == 2 and taken(rows.pop("coco/7/1"), tmp_path)["area"] == 0.1
    (row,) = rows.values()
    assert told in complaint(row, tmp_path)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ({"height": float("inf")}, "its mask cannot be read"),
        ({"height": "high"}, "its mask cannot be read"),
        ({"width": 10**9, "height": 10**9}, "its mask cannot be read"),
        ({"file_name": "a\0.png"}, "no path below the folder"),
        ({"file_name": "../out.png"}, "no path below the folder"),
        ({"file_name": "a/../../out.png"}, "no path below the folder"),
        ({"file_name": "OUT"}, "no path below the folder"),
        ({"file_name": None, "coco_url": "http://x/val2017/.."}, "no path below the folder"),
        ({"file_name": None}, "no path below the folder"),
        ({"file_name": "n" * 5000, "coco_url": "http://x/val2017/7.png"}, "cannot be that of a file"),
        ({"file_name": "\ud800.png"}, "is missing"),
        ({"license": [1]}, None),
        ({"license": 3}, None),
        ({"coco_url": 5}, None),
    ],
)
def test_a_bad_picture_costs_its_own_rows(tmp_path: Path, image: dict[str, Any], told: str | None) -> None:
    photo(tmp_path, "out.png")
    photos = tmp_path / "photos"
    photo(photos, "7.png")
    photo(photos, "8.png")
    named = {name: str(tmp_path / "out.png") if value == "OUT" else value for name, value in image.items()}
    both = [*images(**named), {"id": 8, "file_name": "8.png", "height": SIZE[0], "width": SIZE[1]}, "no picture", {}]
    lines = [thing(1, box_mask(10, 8, 20, 12)), thing(2, box_mask(10, 8, 20, 12), image_id=8)]
    extra = {"licenses": [{"id": 3, "name": {"a": "b"}}, None], "categories": [{"id": 2, "name": "Mug"}, {"id": 3}, 4]}
    file = coco_file(tmp_path / "coco.json", lines, images=both, **extra)
    rows = listed(photos, None, f"coco:{file}")
    assert taken(rows["coco/8/2"], photos)["class"] == "mug"
    if told is None:
        assert taken(rows["coco/7/1"], photos)["class"] == "mug"
    else:
        assert told in complaint(rows["coco/7/1"], photos)
        whole = told == "its mask cannot be read"
        assert (rows["coco/7/1"]["source_sha256"] is not None) == whole, "what is outside is not even read"


def test_without_any_ids_all_rows_say_so(tmp_path: Path) -> None:
    photo(tmp_path, "7.png")
    lines = [{**thing(0, box_mask(1 + 9 * n, 1, 8, 8)), "id": None} for n in range(3)]
    rows = listed(tmp_path, None, f"coco:{coco_file(tmp_path / 'coco.json', lines)}")
    assert set(rows) == {f"coco/7/line-{n}" for n in range(3)}
    assert all("has no id" in complaint(row, tmp_path) for row in rows.values())


def test_of_equal_ids_the_first_stays(tmp_path: Path) -> None:
    photo(tmp_path, "7.png")
    lines = [thing(1, box_mask(10, 8, 20, 12)), thing(1, box_mask(10, 8, 20, 12)), thing(1, box_mask(40, 8, 9, 9))]
    file = coco_file(tmp_path / "coco.json", lines)
    rows = listed(tmp_path, None, f"coco:{file}")
    assert list(rows) == ["coco/7/1", "coco/7/1-again1", "coco/7/1-again2"]
    assert others(rows["coco/7/1"]) == [[40, 8, 9, 9]], "what repeats it does not crowd it"
    assert all("occurs twice" in complaint(rows[f"coco/7/1-again{n}"], tmp_path) for n in (1, 2))
    twice = listed(tmp_path, None, f"coco:{file}", f"coco:{file}")
    assert twice == rows, "a file that is given twice counts once"


@pytest.mark.parametrize(
    "changes", [{"annotations": None}, {"annotations": "none"}, {"images": {}}, {"categories": 3}, {"licenses": "all"}]
)
def test_a_file_that_is_no_annotations_is_one_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    photo(tmp_path, "7.png")
    file = coco_file(tmp_path / "coco.json", [])
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(AnnotationsError, match="not in COCO's format") as caught:
        list_instances(tmp_path, None, (f"coco:{file}",))
    assert "\n" not in str(caught.value)


def test_deep_files_are_one_line(tmp_path: Path) -> None:
    photo(tmp_path, "7.png")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(AnnotationsError, match="cannot be read"):
        list_instances(tmp_path, None, (f"coco:{tmp_path / 'deep.json'}",))


def test_broken_expressions_are_left_out(tmp_path: Path) -> None:
    refs = tmp_path / "refs.json"
    entries = ["a text", {"ann_id": [1], "sentences": ["x"]}, {"ann_id": 2}, {"ann_id": 3, "sentences": ["Red mug", 4]}]
    refs.write_text(json.dumps([*entries, {"ann_id": 3, "sentences": [{"sent": "left mug"}]}]))
    with pytest.raises(AnnotationsError, match="no referring expressions"):
        read_expressions(_rewritten(refs, entries[:3]))
    refs.write_text(json.dumps([*entries[:3], {"ann_id": 3, "sentences": [{"sent": "left mug"}, "Red  mug"]}]))
    assert read_expressions(refs) == {"3": ("left mug", "red mug")}


def _rewritten(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_open_images_with_bad_lines(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "aa.jpg")
    photo(tmp_path, "out.jpg")
    masks.mkdir()
    for path in (masks / "1.png", tmp_path / "secret.png"):
        Image.fromarray(box_mask(5, 4, 10, 6)).save(path)
    table = tmp_path / "table.csv"
    lines = ["1.png,aa", "../secret.png,aa", f"{tmp_path}/secret.png,aa", "1.png,../out", ",aa", "a\0.png,aa"]
    text = "\ufeffMaskPath,ImageID,LabelName\n" + "".join(f"{line},/m/1\n" for line in lines) + "short\n"
    table.write_bytes(text.encode() + b"\xff.png,aa,/m/1\n")
    (tmp_path / "class-descriptions.csv").write_text("/m/1,Cup\n")
    rows = list_instances(photos, masks, (f"open-images:{table}",))
    check_source(rows, "key")
    told = [row["fault"] for row in rows if row["fault"] is not None]
    assert len(rows) == 8 and sum("no path below" in fault for fault in told) == len(told) == 6
    assert all(row["mask_sha256"] is None and row["source"] is None for row in rows if row["fault"] is not None)
    good, unknown = sorted((row for row in rows if row["fault"] is None), key=lambda row: len(row["mask_file"]))
    assert taken(good, photos, masks)["class"] == "cup" and "is missing" in complaint(unknown, photos, masks)
    table.write_text("MaskPath,ImageID,LabelName\n" + '"' + "x" * 200_000)
    with pytest.raises(AnnotationsError, match="cannot be read"):
        list_instances(photos, masks, (f"open-images:{table}",))


# Which flags


def test_flags_are_those_of_the_split(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "aa.jpg")
    masks.mkdir()
    Image.fromarray(box_mask(5, 4, 10, 6)).save(masks / "1.png")
    table = tmp_path / "validation-annotations-object-segmentation.csv"
    table.write_text(f"{TABLE}1.png,aa,/m/1,b1,0.1,0.5,0.25,0.5,,\n")
    flagged = f"{BOXES}aa,x,/m/1,1,0.1,0.5,0.25,0.5,1,0,0\n"
    (tmp_path / "test-annotations-bbox.csv").write_text(BOXES)
    (tmp_path / "oidv6-validation-annotations-bbox.csv").write_text(flagged)
    option = f"open-images:{table}"
    assert listed(photos, masks, option)["open-images/aa/1"]["drop"] == "crowd"
    (tmp_path / "validation-annotations-bbox.csv").write_text(flagged)
    with pytest.raises(AnnotationsError, match="several tables of boxes fit") as caught:
        list_instances(photos, masks, (option,))
    assert "oidv6-validation-annotations-bbox.csv, validation-annotations-bbox.csv" in str(caught.value)
    for path in tmp_path.glob("*validation-annotations-bbox.csv"):
        path.unlink()
    assert listed(photos, masks, option)["open-images/aa/1"]["drop"] is None
    (tmp_path / "my-annotations-bbox.csv").write_text(flagged)
    assert listed(photos, masks, option)["open-images/aa/1"]["drop"] == "crowd"
    unsplit = tmp_path / "table.csv"
    unsplit.write_bytes(table.read_bytes())
    with pytest.raises(EngineError, match="several tables"):
        list_instances(photos, masks, (f"open-images:{unsplit}",))


# Label maps


def palette_map(values: np.ndarray) -> Image.Image:
    """In VOC's colours: dark ones, and 255 nearly white."""
    image = Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putpalette([colour for n in range(255) for colour in (n * 37 % 129, n * 91 % 129, 0)] + [224, 224, 192])
    return image


def test_a_palettes_void_is_no_thing_and_no_mask(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photo(photos, "a.png")
    masks.mkdir()
    values = np.zeros(SIZE, np.uint8)
    values[4:16, 4:26] = 255
    values[5:15, 5:25], values[20:30, 30:50] = 3, 7
    palette_map(values).save(masks / "a.png")
    rows = listed(photos, masks, class_name="mug")
    assert set(rows) == {"folder/a/3", "folder/a/7"} and others(rows["folder/a/7"]) == [[5, 5, 20, 10]]
    assert np.array_equal(mask_of(taken(rows["folder/a/3"], photos, masks)["mask.png"]), values == 3)
    palette_map(np.where(values == 255, 255, 0)).save(masks / "a.png")
    (white,) = listed(photos, masks, class_name="mug").values()
    assert white["ann_id"] == "0" and taken(white, photos, masks)["w"] == 22


def test_what_is_a_label_map() -> None:
    values = np.zeros(SIZE, np.uint8)
    values[1:3, 1:3], values[5:9, 5:9], values[5:7, 8] = 9, 200, 255
    grey, deep = Image.fromarray(values), Image.fromarray(values.astype(np.uint16) * 200)
    assert labels_of(grey) == [], "softened edges"
    assert labels_of(deep) == [1800, 40000, 51000]
    assert labels_of(Image.fromarray(np.where(values == 9, 255, 0).astype(np.uint16))) == []
    places = places_in(palette_map(values), labels_of(palette_map(values)))
    assert places == {9: (1 / 60, 1 / 40, 3 / 60, 3 / 40), 200: (5 / 60, 5 / 40, 9 / 60, 9 / 40)}
    assert places_in(Image.fromarray(np.zeros(SIZE, np.uint8)), []) == {}


# Texts


def test_names_are_spoken_without_brackets() -> None:
    name = "bow (decorative ribbons)"
    assert class_instruction(name) == "add a bow" and fault_of("add a red bow", name) is None
    assert fault_of("add a red ribbon", name) == "does not name the class"
    assert spoken("monitor (computer equipment) computer monitor") == "monitor" and spoken("(odd)") == "odd"
    assert class_instruction("tights (clothing)") == "add tights"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("add a left", "names nothing but a place"),
        ("add a second from left", "names nothing but a place"),
        ("add a side on the left", "names nothing but a place"),
        ("add a not the cat", "says what the thing is not"),
        ("add the dog that isn't brown", "says what the thing is not"),
        ("add a people", "article of one thing"),
        ("add a red scissors", "article of one thing"),
        ("add a horses on the right", "article of one thing"),
        ("add a man in glasses", None),
        ("add a man eating fries", None),
        ("add a pair of scissors", None),
        ("add a glasses case", None),
        ("add a few children", None),
        ("add a forget-me-not", None),
        ("add a left shoe", None),
        ("add a bus", None),
    ],
)
def test_texts_name_a_thing(text: str, fault: str | None) -> None:
    found = fault_of(text, None)
    assert found == fault if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("people in the back", "add people in the back"),
        ("left people", "add people on the left"),
        ("horses", "add horses"),
        ("pair of scissors", "add a pair of scissors"),
    ],
)
def test_several_things_have_no_article(expression: str, text: str) -> None:
    assert tidy(expression_instruction(expression)) == text and fault_of(text, None) is None


class Names:
    """Says what noun it was asked for."""

    name = "names"

    def describe(self, photo: Any, box: Any, mask: Any, class_name: str) -> Description:
        return Description(f"a red {class_name}")

    def write(self, description: str, class_name: str) -> str:
        return f"add {description}"


def told(class_name: str, expressions: list[str], helper: Names | None = None) -> dict[str, Any]:
    row = {"class": class_name, "expressions": json.dumps(expressions), "mask.png": png(box_mask(1, 1, 9, 9))}
    row |= {"x": 1, "y": 1, "w": 9, "h": 9, "source": "a.png", "image.png": png(np.zeros((*SIZE, 3), np.uint8))}
    (made,) = instruct(row, describer=helper, writer=helper)
    return made


def test_all_three_texts_are_checked() -> None:
    good = told("bow (decorative ribbons)", ["left"], Names())
    assert (good["Instruction_Class"], good["Instruction_VLM-LLM"]) == ("add a bow", "add a red bow")
    assert good["class"] == "bow (decorative ribbons)" and good["Instruction_Ref_Dataset"] == ""
    assert good["instruction_note"] == f"{UNREFERRED} names nothing but a place" and "rejected" not in good
    odd = told("left", ["not it", "the mug"])
    assert odd["Instruction_Class"] == "" and odd["Instruction_Ref_Dataset"] == "add the mug"
    assert odd["instruction_note"] == f"{UNNAMED} names nothing but a place" and "rejected" not in odd
    assert told("left", ["not it"])["rejected"] == NOTHING
