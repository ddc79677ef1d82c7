from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tests.learning.helpers import photo_arrays, write_png

from intarsia.errors import (
    EmptyMaskError,
    FullMaskError,
    IntarsiaError,
    IntarsiaWarning,
    MaskSizeError,
    MissingFileError,
    NotAnImageError,
    UnreadableImageError,
    ZeroSizeError,
)
from intarsia.learning import Photos, PhotosError
from intarsia.perception import GrabCutter, cutter_from_option, mask_iou

IMAGES, MASKS = photo_arrays(3)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "subjects"


def test_masks_are_found_beside_in_a_folder_or_given(tmp_path: Path) -> None:
    for index, (image, mask) in enumerate(zip(IMAGES, MASKS, strict=True)):
        write_png(tmp_path / "a" / f"{index}.png", image)
        write_png(tmp_path / "a" / "masks" / f"{index}.png", mask)
        write_png(tmp_path / "b" / f"{index}.png", image)
        write_png(tmp_path / "b" / f"{index}-mask.png", mask)
        write_png(tmp_path / "c" / "images" / f"{index}.png", image)
        write_png(tmp_path / "c" / "masks" / f"{index}.png", mask)
        write_png(tmp_path / "d" / f"{index}.png", image)
        write_png(tmp_path / "outlines" / f"{index}.png", mask)
    masks = [tmp_path / "outlines" / f"{index}.png" for index in range(3)]
    loaded = [
        Photos.load(tmp_path / "a"),
        Photos.load(str(tmp_path / "b")),
        Photos.load(tmp_path / "c"),
        Photos.load(tmp_path / "d", tmp_path / "outlines"),
        Photos.load([tmp_path / "d" / f"{index}.png" for index in range(3)], masks),
    ]
    for photos in loaded:
        assert [photo.name for photo in photos.items] == ["0.png", "1.png", "2.png"]
        assert all(np.array_equal(photo.mask, mask) for photo, mask in zip(photos.items, MASKS, strict=True))
        assert photos.hashes == loaded[0].hashes and len(set(photos.hashes)) == 3


def test_transparency_is_a_mask_and_stands_on_plain_ground(tmp_path: Path) -> None:
    pixels = np.rint(IMAGES[0] * 255).astype(np.uint8)
    alpha = np.where(MASKS[0], 255, 0).astype(np.uint8)
    for index in range(2):
        write_png(tmp_path / f"{index}.png", np.dstack([pixels, alpha]))
    photo = Photos.load(tmp_path).items[0]
    assert photo.mask_origin == "alpha" and np.array_equal(photo.mask, MASKS[0])
    assert np.allclose(photo.rgb[~MASKS[0]], 0.75) and np.allclose(photo.rgb[MASKS[0]], pixels[MASKS[0]] / 255)


def test_without_masks_they_are_guessed_with_a_warning(tmp_path: Path) -> None:
    for index in range(2):
        image = np.full((60, 60, 3), 0.9, np.float32)
        image[20:45, 15:40] = (0.8, 0.1, 0.1)
        write_png(tmp_path / f"{index}.png", image)
    with pytest.warns(IntarsiaWarning, match=r"no masks for 0\.png, 1\.png"):
        photos = Photos.load(tmp_path)
    assert photos.items[0].mask_origin == "estimated" and photos.items[0].mask[30, 30]


def test_one_photo_works_and_warns(tmp_path: Path) -> None:
    path, mask = write_png(tmp_path / "duck.png", IMAGES[0]), write_png(tmp_path / "m.png", MASKS[0])
    with pytest.warns(IntarsiaWarning, match=r"only one photo \(duck\.png\)"):
        assert len(Photos.load(path, mask)) == 1
    with pytest.warns(IntarsiaWarning, match="only one photo"):
        Photos.load([path], [mask])


def test_two_photos_with_masks_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Photos.from_arrays(IMAGES[:2], MASKS[:2])) == 2


def test_folders_that_do_not_help(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(PhotosError, match="holds no pictures"):
        Photos.load(tmp_path)
    with pytest.raises(PhotosError, match="does not exist"):
        Photos.load(tmp_path / "nowhere")
    with pytest.raises(PhotosError, match="no photos"):
        Photos.load([])
    with pytest.raises(MissingFileError):
        Photos.load([tmp_path / "gone.png"])


def _broken(folder: Path, kind: str) -> type[IntarsiaError]:
    path = write_png(folder / "1.png", IMAGES[1])
    mask = folder / "masks" / "1.png"
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
        return UnreadableImageError
    if kind == "text":
        path.write_text("no picture")
        return NotAnImageError
    if kind == "empty file":
        path.write_bytes(b"")
        return ZeroSizeError
    if kind == "cut mask":
        write_png(mask, MASKS[1])
        mask.write_bytes(mask.read_bytes()[:60])
        return UnreadableImageError
    if kind == "black mask":
        write_png(mask, np.zeros_like(MASKS[1]))
        return EmptyMaskError
    if kind == "white mask":
        write_png(mask, np.ones_like(MASKS[1]))
        return FullMaskError
    write_png(mask, MASKS[1][:, :-3])
    return MaskSizeError


@pytest.mark.parametrize("kind", ["cut", "text", "empty file", "cut mask", "black mask", "white mask", "small mask"])
def test_a_broken_file_is_named(tmp_path: Path, kind: str) -> None:
    write_png(tmp_path / "0.png", IMAGES[0])
    write_png(tmp_path / "masks" / "0.png", MASKS[0])
    error = _broken(tmp_path, kind)
    with pytest.raises(error, match=r"1\.png") as caught:
        Photos.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_counts_and_shapes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match="3 photos but 2 masks"):
        Photos.from_arrays(IMAGES, MASKS[:2])
    with pytest.raises(PhotosError, match="shape"):
        Photos.from_arrays([IMAGES[0]], [MASKS[0][:-1]])
    paths = [write_png(tmp_path / f"{index}.png", image) for index, image in enumerate(IMAGES)]
    with pytest.raises(PhotosError, match="3 photos but 1 masks"):
        Photos.load(paths, [paths[0]])
    with pytest.raises(PhotosError, match="no folder of masks"):
        Photos.load(tmp_path, tmp_path / "nowhere")


def test_a_pixel_is_enough_to_load(tmp_path: Path) -> None:
    path = write_png(tmp_path / "1.png", np.full((1, 1, 3), 0.5, np.float32))
    with pytest.warns(IntarsiaWarning):
        assert Photos.load(path).items[0].mask.tolist() == [[True]]


@pytest.mark.photos
@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos of ../shared/data are not here")
def test_real_photos_load_with_their_masks() -> None:
    photos = Photos.load(REAL / "duck_toy")
    assert len(photos) >= 3 and {photo.mask_origin for photo in photos.items} == {"file"}


def disc_photos(folder: Path) -> list[np.ndarray]:
    """Two photos of a red disc, left and right on a grey ground with a band of the disc's colour; the true masks."""
    y, x = np.mgrid[:90, :120]
    masks = [np.hypot(y - 45, x - middle) < 22 for middle in (35, 85)]
    for name, mask in zip(("a.png", "b.png"), masks, strict=True):
        rng = np.random.default_rng(1)
        image = np.where(mask[..., None] | (y < 9)[..., None], [0.8, 0.1, 0.1], [0.5, 0.55, 0.5])
        write_png(folder / name, np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1).astype(np.float32))
    return masks


BOXES = {"a": "10,20,50,50", "b.png": [60, 20, 50, 50]}


def test_photos_without_masks_are_cut_out_where_boxes_tell(tmp_path: Path) -> None:
    masks = disc_photos(tmp_path)
    file = tmp_path / "elsewhere.yaml"
    file.write_text("a: 10,20,50,50\nb.png: [60, 20, 50, 50]\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = [
            Photos.load(tmp_path, cutter=GrabCutter(), boxes=BOXES),
            Photos.load(tmp_path, cutter=GrabCutter(), boxes=file),
        ]
        (tmp_path / "boxes.json").write_text(json.dumps({**BOXES, "elsewhere": "0,0,1,1"}))
        loaded.append(Photos.load(tmp_path, cutter=GrabCutter()))
        write_png(tmp_path / "masks" / "a.png", masks[1])
        mixed = Photos.load([tmp_path / "a.png", tmp_path / "b.png"], cutter=GrabCutter())
    for photos in loaded:
        assert [photo.mask_origin for photo in photos.items] == ["grabcut", "grabcut"]
        assert all(mask_iou(photo.mask, mask) > 0.9 for photo, mask in zip(photos.items, masks, strict=True))
        assert photos.hashes == loaded[0].hashes
    # A mask comes before a box.
    assert [photo.mask_origin for photo in mixed.items] == ["file", "grabcut"]
    assert np.array_equal(mixed.items[0].mask, masks[1])


def test_photos_with_numbers_for_names_have_boxes_too(tmp_path: Path) -> None:
    masks = disc_photos(tmp_path)
    for old, new in (("a", "00"), ("b", "1e3")):
        (tmp_path / f"{old}.png").rename(tmp_path / f"{new}.png")
    (tmp_path / "boxes.yaml").write_text("00: 10,20,50,50\n1e3: [60, 20, 50, 50]\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photos = Photos.load(tmp_path, cutter=GrabCutter())
    assert all(mask_iou(photo.mask, mask) > 0.9 for photo, mask in zip(photos.items, masks, strict=True))
    (tmp_path / "boxes.yaml").write_text("00: 10,20,50,50\n0: 10,20,50,50\n")
    with pytest.raises(PhotosError, match=r"boxes\.yaml are of 0, but the photos are 00\.png, 1e3\.png"):
        Photos.load(tmp_path, cutter=GrabCutter())


def test_a_cutter_is_told_the_class_noun_and_asked_only_without_a_mask(tmp_path: Path) -> None:
    masks = disc_photos(tmp_path)
    write_png(tmp_path / "masks" / "a.png", masks[0])

    class Remembers:
        name, origin = "sam2:x", "sam2"
        asked: ClassVar[list[object]] = []

        def cut(self, rgb: np.ndarray, class_noun: str, box: object = None) -> np.ndarray:
            self.asked.append((rgb.shape, class_noun, box))
            return masks[1]

    photos = Photos.load(tmp_path, cutter=Remembers(), class_noun="disc")  # type: ignore[arg-type]
    assert Remembers.asked == [((90, 120, 3), "disc", None)]
    assert [photo.mask_origin for photo in photos.items] == ["file", "sam2"]


def test_guesses_without_boxes_warn(tmp_path: Path) -> None:
    disc_photos(tmp_path)
    with pytest.warns(IntarsiaWarning, match=r"no masks for b\.png: .*boxes with GrabCut"):
        Photos.load(tmp_path, cutter=GrabCutter(), boxes={"a": "10,20,50,50"})
    with pytest.warns(IntarsiaWarning, match=r"no masks for a\.png, b\.png: .*or GrabCut with these boxes"):
        Photos.load(tmp_path, boxes=BOXES)


def test_a_file_of_boxes_is_looked_at_only_where_a_mask_is_missing(tmp_path: Path) -> None:
    masks = disc_photos(tmp_path / "duck")
    (tmp_path / "boxes.yaml").write_text("of another program")
    for name, mask in zip(("a.png", "b.png"), masks, strict=True):
        write_png(tmp_path / "duck" / "masks" / name, mask)
    assert len(Photos.load(tmp_path / "duck")) == 2
    pixels = np.dstack([np.full((90, 120, 3), 90, np.uint8), np.where(masks[0], 255, 0).astype(np.uint8)])
    (tmp_path / "duck" / "a.png").unlink()
    write_png(tmp_path / "duck" / "a.png", pixels)
    (tmp_path / "duck" / "masks" / "a.png").unlink()
    assert len(Photos.load(tmp_path / "duck")) == 2, "transparency is a mask"
    (tmp_path / "duck" / "masks" / "b.png").unlink()
    with pytest.raises(PhotosError, match=r"boxes\.yaml map no photos"):
        Photos.load(tmp_path / "duck")


def test_files_of_boxes_may_speak_of_other_photos_than_those_learned(tmp_path: Path) -> None:
    disc_photos(tmp_path / "duck")
    paths, beside = [tmp_path / "duck" / "a.png"], tmp_path / "duck" / "boxes.yaml"
    (tmp_path / "boxes.yaml").write_text("a: 10,20,50,50\nmug: 1,1,5,5\n")  # beside the folder: of other folders, too
    beside.write_text("a: 10,20,50,50\nb.png: 60,20,50,50\n")
    with pytest.warns(IntarsiaWarning, match="only one photo"):
        told = Photos.load(paths, cutter=GrabCutter(), boxes=beside)
        found = Photos.load(paths, cutter=GrabCutter())
        beside.unlink()
        above = Photos.load(paths, cutter=GrabCutter())
    assert told.hashes == found.hashes == above.hashes
    beside.write_text("mug: 1,1,5,5\n")
    with pytest.raises(PhotosError, match=r"duck/boxes\.yaml are of mug, but the photos are a\.png"):
        Photos.load(paths)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("c.png: 1,1,5,5", r"b\.yaml are of c\.png, but the photos are a\.png, b\.png"),
        ("a.png: 1,1,500,5", r"a\.png: the box 1,1,500,5 .* is not inside"),
        ("a.png: 1,1,5", r"a\.png: .* is not \"x,y,w,h\""),
        ("a.png: 7", r"a\.png: .*7"),
        ("a.png: {x: 1}", r"a\.png: .* is not \"x,y,w,h\""),
        ("- 1,1,5,5", "map no photos"),
        ("a: [", "neither YAML nor JSON"),
    ],
)
def test_bad_boxes_say_why(tmp_path: Path, text: str, complaint: str) -> None:
    disc_photos(tmp_path)
    file = tmp_path / "b.yaml"
    file.write_text(text)
    with pytest.raises(PhotosError, match=complaint) as caught:
        Photos.load(tmp_path, boxes=file)
    assert "\n" not in str(caught.value)


def test_a_file_of_boxes_that_is_not_there_and_a_subject_that_is_not_found(tmp_path: Path) -> None:
    disc_photos(tmp_path)
    with pytest.raises(PhotosError, match=r"no\.yaml cannot be read"):
        Photos.load(tmp_path, boxes=tmp_path / "no.yaml")
    with pytest.raises(PhotosError, match=r"a\.png: the sam2 .* cannot be loaded"):
        Photos.load(tmp_path, cutter=cutter_from_option(f"sam2:{tmp_path / 'none'}"), class_noun="disc")
