from __future__ import annotations

import warnings
from pathlib import Path

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
