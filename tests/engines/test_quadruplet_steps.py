"""Each step of the quadruplet engine against the truth."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.engines.quadruplet_scenes import PixelScorer, draw_scene

from intarsia.engines import EngineError
from intarsia.engines.quadruplets import Blacklist, quadruplet_thresholds
from intarsia.engines.quadruplets.captioning import caption
from intarsia.engines.quadruplets.cutting import cut
from intarsia.engines.quadruplets.detecting import company, detect, geometry
from intarsia.engines.quadruplets.quality import quality, sharpness
from intarsia.engines.quadruplets.reading import list_photos, read
from intarsia.engines.quadruplets.samples import mask_of, rgb_of
from intarsia.engines.quadruplets.segmenting import edge_ratio, segment
from intarsia.engines.quadruplets.tagging import drop_tags, tag
from intarsia.engines.quadruplets.words import Statement, agreement, same_thing, says
from intarsia.perception import (
    Description,
    Detection,
    Noise,
    Segmentation,
    Tag,
    TruthCaptioner,
    TruthDetector,
    TruthSegmenter,
    TruthTagger,
    Vocabulary,
    box_of,
    grow,
    shrink,
)

NONE = Noise(0.0)
VOCABULARY = Vocabulary.load()


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Any]:
    return tmp_path, draw_scene(tmp_path, "a.png", 3)


def candidates(folder: Path, tagger: Any = None, captioner: Any = None, segmenter: Any = None) -> list[dict[str, Any]]:
    """The rows of a.png before the last step; true helpers where no others are given."""
    tagger = tagger or TruthTagger(folder, NONE)
    (row,) = read(list_photos(folder)[0], folder=folder, least_side=32)
    (row,) = tag(row, tagger=tagger)
    (row,) = drop_tags(row, blacklist=Blacklist.load())
    (row,) = detect(row, detector=TruthDetector(folder, NONE))
    rows = []
    for candidate in segment(row, segmenter=segmenter or TruthSegmenter(folder, NONE)):
        (row,) = caption(candidate, captioner=captioner or TruthCaptioner(folder, NONE))
        rows += quality(row, tagger=TruthTagger(folder, NONE), scorer=PixelScorer(), vocabulary=VOCABULARY)
    return rows


def test_true_helpers_give_one_candidate_for_each_thing_and_full_marks(scene: tuple[Path, Any]) -> None:
    folder, truth = scene
    first, *rows = candidates(folder)
    assert first["key"].endswith("/scene") and [row["key"][-2:] for row in rows] == [f"/{n}" for n in range(len(rows))]
    assert first["instance"] == 0 and json.loads(first["dropped_tags"]) == [["table", 0.95], ["wall", 0.95]]
    assert len(rows) == len(truth.objects)
    for row in rows:
        thing = next(thing for thing in truth.objects if row["tag"] in thing.nouns)
        assert (row["x"], row["y"], row["w"], row["h"]) == thing.box
        assert np.array_equal(mask_of(row["mask.png"]), thing.mask) and row["caption"] == thing.caption
        assert row["mask_box_iou"] == row["mask_stability"] == row["largest_part"] == 1
        assert row["noun_agrees"] == row["captions_agree"] == 1 and row["second_tag"] == 0.95
        assert row["overlap"] == row["twin_iou"] == row["nms_iou"] == row["contains"] == 0
        assert row["edge_ratio"] > 1.5 and row["colour_margin"] > 0 and row["predicted_iou"] > 0.9


def test_the_last_step_makes_the_files_and_keeps_one_picture(scene: tuple[Path, Any]) -> None:
    folder, truth = scene
    first, *rows = [cut(row, names={"tagger": "t"})[0] for row in candidates(folder)]
    assert "image.png" in first and not any("image.png" in row for row in rows)
    assert all(row["scene"] == first["key"] for row in rows)
    for row in rows:
        thing = next(thing for thing in truth.objects if row["tag"] in thing.nouns)
        x, y, w, h = thing.box
        subject = np.asarray(Image.open(io.BytesIO(row["subject.png"])))
        inside = thing.mask[y : y + h, x : x + w]
        assert subject.shape == (h, w, 4) and np.array_equal(subject[..., 3] == 255, inside)
        assert np.array_equal(subject[inside, :3], rgb_of(first["image.png"])[y : y + h, x : x + w][inside])
        assert (subject[~inside] == [255, 255, 255, 0]).all()
        assert json.loads(row["helpers"]) == {"tagger": "t"} and row["source_sha256"] == first["source_sha256"]


class Fixed:
    """Helpers with fixed answers."""

    name = "fixed"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def tag(self, photo: Any, box: Any = None) -> list[Tag]:
        return [Tag(word, 0.9) for word in self.answers["tags"]]

    def detect(self, photo: Any, tags: Any) -> list[Detection]:
        return list(self.answers["boxes"])

    def segment(self, photo: Any, boxes: Any) -> list[Segmentation]:
        return [Segmentation(self.answers["mask"](n, photo), 0.9) for n, _ in enumerate(boxes)]

    def caption(self, photo: Any, box: Any, mask: Any, view: str = "context") -> Description:
        return Description(self.answers[view], 0.9)


def test_masks_that_are_too_thin_too_thick_or_leak_score_lower(scene: tuple[Path, Any]) -> None:
    folder, truth = scene
    right = {row["tag"]: row for row in candidates(folder)[1:]}
    for spoil in (lambda mask: shrink(mask, 3), lambda mask: grow(mask, 3)):
        order = [next(t for t in truth.objects if tag in t.nouns).mask for tag in right]
        helper = Fixed(mask=lambda n, photo, order=order, spoil=spoil: spoil(order[n]))
        for row in candidates(folder, segmenter=helper)[1:]:
            assert row["mask_box_iou"] < 0.75 < right[row["tag"]]["mask_box_iou"]
            assert row["edge_ratio"] < 0.8 < right[row["tag"]]["edge_ratio"]
    masks = [thing.mask for thing in truth.objects]
    leak = Fixed(mask=lambda n, photo: masks[0] | masks[1])
    for row in candidates(folder, segmenter=leak)[1:]:
        assert row["largest_part"] < 0.75 and row["mask_box_iou"] < 0.75


def test_an_empty_mask_leaves_scores_open_and_falls_by_any_threshold(scene: tuple[Path, Any]) -> None:
    folder, _ = scene
    for row in candidates(folder, segmenter=Fixed(mask=lambda n, photo: np.zeros(photo.size, bool)))[1:]:
        assert row["fill"] is None and "caption" not in row and row["edge_ratio"] is None
        (done,) = cut(row, names={})
        assert "subject.png" not in done


def test_wrong_captions_score_lower(scene: tuple[Path, Any]) -> None:
    folder, truth = scene
    thing, other = truth.objects[0], truth.objects[1]
    noun, colour = thing.nouns[0], thing.colours[0]

    def scores(context: str, cutout: str | None = None) -> dict[str, Any]:
        rows = candidates(folder, captioner=Fixed(context=context, cutout=cutout or context))
        return next(row for row in rows[1:] if row["tag"] == noun)

    good = scores(f"a {colour} {noun}")
    assert good["noun_agrees"] == 1 and good["colour_margin"] > 0 and good["words"] == 3
    assert scores(f"a {colour} {other.nouns[0]}")["noun_agrees"] == 0
    assert scores(f"a {colour} {noun} beside a {other.nouns[0]}")["noun_agrees"] == 0
    assert scores(f"a {other.colours[0]} {noun}")["colour_margin"] < 0
    assert scores(f"a {colour} {noun}", f"a {other.colours[0]} {noun}")["captions_agree"] == pytest.approx(2 / 3)
    assert scores(f"a {colour} {noun} wearing a blue hat", f"a {colour} {noun}")["captions_agree"] < 0.7
    assert scores(f"a {colour} {noun}", f"a {colour} {noun} wearing a blue hat")["captions_agree"] == 1


def test_a_second_look_that_sees_something_else_scores_nothing(scene: tuple[Path, Any]) -> None:
    folder, truth = scene
    rows = candidates(folder)
    again = quality(rows[1], tagger=Fixed(tags=["zebra"]), scorer=PixelScorer(), vocabulary=VOCABULARY)
    assert again[0]["second_tag"] == 0 < rows[1]["second_tag"] and truth is not None


def test_geometry_of_boxes() -> None:
    assert geometry((0, 10, 20, 5), (50, 100)) == {
        "area": 0.02,
        "side_share": 0.1,
        "side": 5,
        "aspect": 4.0,
        "borders": 1,
    }
    assert geometry((0, 0, 100, 50), (50, 100))["borders"] == 4
    found = [
        Detection((0, 0, 40, 40), "mug", 0.9, 0.9),
        Detection((10, 10, 10, 10), "mug", 0.8, 0.8),
        Detection((0, 0, 40, 30), "mug", 0.7, 0.7),
        Detection((12, 12, 5, 5), "duck", 0.6, 0.6),
    ]
    assert company(0, found) == {"nms_iou": 0.0, "contains": 2}
    assert company(2, found) == {"nms_iou": 0.75, "contains": 1}
    assert company(3, found) == {"nms_iou": 0.0, "contains": 0}


def test_nearly_equal_boxes_of_a_tag_are_one_candidate(scene: tuple[Path, Any]) -> None:
    folder, _ = scene
    (row,) = read(list_photos(folder)[0], folder=folder, least_side=32)
    row["tags"] = json.dumps([["mug", 0.5], ["duck", 0.5]])
    boxes = [
        Detection((10, 10, 40, 40), "mug", 0.5, 0.5),
        Detection((10, 10, 40, 41), "mug", 0.9, 0.9),
        Detection((10, 10, 40, 40), "duck", 0.4, 0.4),
    ]
    (found,) = detect(dict(row), detector=Fixed(boxes=boxes))
    assert [(box["tag"], box["box_score"]) for box in json.loads(found["boxes"])] == [("mug", 0.9), ("duck", 0.4)]
    (none,) = detect(dict(row), detector=Fixed(boxes=[]))
    assert none["rejected"] == "nothing found"


def test_edges_are_looked_for_at_any_size() -> None:
    picture = np.full((900, 1200, 3), 90, np.uint8)
    mask = np.zeros((900, 1200), bool)
    mask[200:700, 300:800] = True
    picture[mask] = (200, 40, 40)
    small = picture[::10, ::10], mask[::10, ::10]
    for rgb, inside in ((picture, mask), small):
        off = max(2, inside.shape[0] // 20)
        right = edge_ratio(rgb, inside, box_of(inside))
        thin = edge_ratio(rgb, shrink(inside, off), box_of(shrink(inside, off)))
        assert right is not None and thin is not None and right > 3 and thin < 0.7
    assert edge_ratio(picture, np.zeros_like(mask), None) is None


def test_sharpness_falls_with_blur() -> None:
    sharp = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(2)))
    mask = np.ones((40, 40), bool)
    assert sharpness(sharp, mask, (0, 0, 40, 40)) > 4 * sharpness(blurred, mask, (0, 0, 40, 40))


@pytest.mark.parametrize("word", ["stand", "standing", "sitting", "stripes pattern", "walls", "kitchen table", "42"])
def test_tags_that_name_no_object_fall(word: str) -> None:
    assert Blacklist.load().forbids(word)


@pytest.mark.parametrize("word", ["mug", "toy duck", "table lamp", "ring", "king", "building block", "glass vase"])
def test_tags_that_name_an_object_stay(word: str) -> None:
    assert not Blacklist.load().forbids(word)


def test_a_blacklist_of_ones_own_adds_and_allows(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("tags: [Mug]\nlast_words: [lamp]\nallow: [table]\n")
    blacklist = Blacklist.load(own)
    assert blacklist.forbids("mug") and blacklist.forbids("table lamp") and not blacklist.forbids("table")
    for text in ("tags: 3\n", "words: [a]\n", "- a\n", "{"):
        own.write_text(text)
        with pytest.raises(EngineError, match=r"own\.yaml"):
            Blacklist.load(own)
    with pytest.raises(EngineError, match="cannot be read"):
        Blacklist.load(tmp_path / "missing.yaml")


def test_words_for_the_same_thing() -> None:
    assert says("two blue cups", "mug") and says("A Mug.", "mug") and not says("a smug face", "mug")
    assert same_thing("toy duck", "duck") and same_thing("cup", "mug") and not same_thing("cat", "car")


def test_what_captions_say() -> None:
    said = Statement.of("a red clay duck with white stripes wearing a blue hat", VOCABULARY)
    assert said.colours == ("red",) and [mention.value for mention in said.borne] == ["stripes", "hat"]
    assert [said.without(mention) for mention in said.borne] == [
        "a red clay duck wearing a blue hat",
        "a red clay duck with white stripes",
    ]
    assert agreement(said, said, "duck") == 1
    assert agreement(said, Statement.of("a red duck wearing a blue hat", VOCABULARY), "duck") == pytest.approx(2 / 3)
    assert agreement(said, Statement.of("a blue robot", VOCABULARY), "duck") == 0


def test_thresholds_of_the_package_name_scores_that_exist(scene: tuple[Path, Any]) -> None:
    folder, _ = scene
    row = candidates(folder)[1]
    for name in ("photos", "tabletop"):
        thresholds = quadruplet_thresholds(name)
        assert next(iter(thresholds)) == "instance" and set(thresholds) <= set(row), name
    with pytest.raises(EngineError, match="photos or tabletop"):
        quadruplet_thresholds("strict")
