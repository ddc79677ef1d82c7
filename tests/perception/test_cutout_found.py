"""Cutting out by words: a detector's best box, segmented; and the choice of cutters by a short text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.perception.test_model_helpers import bert_tokenizer, tiny_grounding_dino, tiny_sam2

from intarsia.perception import (
    CutOutError,
    Detection,
    FoundCutter,
    GrabCutter,
    GuessCutter,
    Photo,
    Segmentation,
    cutter_from_option,
)

RGB = np.random.default_rng(0).random((48, 64, 3)).astype(np.float32)


class Fixed:
    """A detector of fixed answers and a segmenter that marks the box's middle; both remember what they were asked."""

    def __init__(self, name: str, *found: Detection, empty: bool = False) -> None:
        self.name, self.found, self.empty, self.asked = name, list(found), empty, []  # type: ignore[var-annotated]

    def detect(self, photo: Any, tags: Any) -> list[Detection]:
        self.asked.append((photo.rgb, tags))
        return self.found

    def segment(self, photo: Any, boxes: Any) -> list[Segmentation]:
        self.asked.append(boxes)
        mask = np.zeros(photo.size, bool)
        x, y, w, h = boxes[0]
        mask[y + 1 : y + h - 1, x + 1 : x + w - 1] = not self.empty
        return [Segmentation(mask, 0.9)]


def test_the_surest_box_of_the_class_noun_is_segmented() -> None:
    detector = Fixed(
        "dino", Detection((1, 1, 9, 9), "toy duck", 0.3, 0.3), Detection((20, 10, 30, 20), "toy duck", 0.7, 0.6)
    )
    segmenter = Fixed("sam2")
    cutter = FoundCutter(segmenter, detector)
    mask = cutter.cut(RGB, " Toy  duck")
    assert segmenter.asked == [[(20, 10, 30, 20)]] and mask.sum() == 28 * 18 and mask[20, 30]
    rgb, tags = detector.asked[0]
    assert tags == ["toy duck"] and rgb.dtype == np.uint8 and np.abs(rgb / 255 - RGB).max() < 0.01
    assert cutter.name == "sam2+dino" and cutter.origin == "sam2"
    # A box that was given is not looked for, and cut to the photo.
    cutter.cut(RGB, "toy duck", (50, 30, 99, 99))
    assert len(detector.asked) == 1 and segmenter.asked[1] == [(50, 30, 14, 18)]


def test_nothing_found_says_what_to_do() -> None:
    unsure = Fixed("dino", Detection((1, 1, 9, 9), "duck", 0.21, 0.2))
    for detector, seen in ((Fixed("dino"), "nothing;"), (unsure, r"nothing surer than 0\.21")):
        with pytest.raises(CutOutError, match=rf"dino finds no duck \({seen}.*give a box or a mask"):
            FoundCutter(Fixed("sam2"), detector).cut(RGB, "duck")
    assert FoundCutter(Fixed("sam2"), unsure, least=0.2).cut(RGB, "duck").any()
    with pytest.raises(CutOutError, match="marks nothing in the box 1,1,9,9"):
        FoundCutter(Fixed("sam2", empty=True), unsure, least=0.2).cut(RGB, "duck")
    with pytest.raises(CutOutError, match="where the duck is"):
        FoundCutter(Fixed("sam2")).cut(RGB, "duck")
    with pytest.raises(CutOutError, match="class noun"):
        FoundCutter(Fixed("sam2"), unsure).cut(RGB, " ")
    with pytest.raises(CutOutError, match="99,0,5,5"):
        FoundCutter(Fixed("sam2")).cut(RGB, "duck", (99, 0, 5, 5))


def test_models_of_the_real_classes_are_read_from_their_folders(tmp_path: Path) -> None:
    segmenter, detector = tiny_sam2(), tiny_grounding_dino(bert_tokenizer("toy duck mug vase"))
    segmenter.model.save_pretrained(tmp_path / "sam")
    for part in (detector.model, detector.tokenizer, detector.image_processor):
        part.save_pretrained(tmp_path / "dino")
    cutter = cutter_from_option(f"sam2:{tmp_path / 'sam'}+grounding-dino:{tmp_path / 'dino'}", "cpu")
    assert cutter.name == "sam2:sam+grounding-dino:dino" and cutter.origin == "sam2"
    told = cutter_from_option(f"sam2:{tmp_path / 'sam'}", "cpu")
    box = (5, 5, 40, 30)
    expected = FoundCutter(segmenter).cut(RGB, "duck", box)
    for one in (cutter, told):
        assert np.array_equal(one.cut(RGB, "duck", box), expected)
    with pytest.raises(CutOutError, match="where the duck is"):
        told.cut(RGB, "duck")
    best = detector.detect(Photo("", np.rint(RGB * 255).astype(np.uint8)), ["toy duck"])[0]
    found = FoundCutter(segmenter, detector, least=0.0).cut(RGB, "toy duck")
    assert np.array_equal(found, told.cut(RGB, "toy duck", best.box))


def test_cutters_by_option(tmp_path: Path) -> None:
    assert isinstance(cutter_from_option("guess"), GuessCutter) and isinstance(
        cutter_from_option("grabcut"), GrabCutter
    )
    for option in ("", "guess:x", "sam2", "sam2:", "sam2:a+grounding-dino:", "grounding-dino:a", "oracle"):
        with pytest.raises(CutOutError, match=r"use guess, grabcut, or sam2:MODEL\+grounding-dino:MODEL"):
            cutter_from_option(option)
    gone = cutter_from_option(f"sam2:{tmp_path / 'gone'}+grounding-dino:b")
    with pytest.raises(CutOutError, match=r"gone.* cannot be loaded") as caught:
        gone.cut(RGB, "duck")
    assert "\n" not in str(caught.value)
