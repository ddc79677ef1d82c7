"""Which thing of which photo is meant, and what is refused. No model is needed for any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.editing.conftest import noise_picture, thing

from intarsia.editing import InputChangedError, ReferenceModelError, ReferencePhotoError, load_references, preflight
from intarsia.editing.reference_models import check_count, reference_model_of
from intarsia.errors import EmptyMaskError, IntarsiaWarning, MaskSizeError, NotAnImageError, PictureError
from intarsia.imaging import Picture
from intarsia.request import EditRequest

SCENE = noise_picture()


def test_the_mask_is_the_given_one_else_transparency_else_a_guess(tmp_path: Path) -> None:
    opaque = thing().alpha() > 0.5
    (by_alpha,) = load_references(thing(), None, SCENE)
    assert by_alpha.origin == "alpha" and np.array_equal(by_alpha.mask.array, opaque)
    (given,) = load_references(thing(), "1,2,3,4", SCENE)
    assert given.origin == "given" and given.mask.box == (2, 1, 4, 3)
    Picture.from_array(opaque.astype(np.uint8) * 255).save(tmp_path / "m.png")
    (from_file,) = load_references([noise_picture(40, 40)], [tmp_path / "m.png"], SCENE)
    assert from_file.origin == "given" and np.array_equal(from_file.mask.array, opaque)
    with pytest.warns(IntarsiaWarning, match="outline of what is meant is guessed"):
        (guessed,) = load_references(noise_picture(40, 40, seed=3), None, SCENE)
    assert guessed.origin == "estimated" and guessed.mask.array.any()


def test_transparent_parts_are_white_and_photos_come_in_every_form(tmp_path: Path) -> None:
    from PIL import Image

    thing().save(tmp_path / "t.png")
    forms: list[Any] = [tmp_path / "t.png", str(tmp_path / "t.png"), Image.open(tmp_path / "t.png"), thing()]
    found = load_references(forms, None, SCENE)
    assert len({one.picture.sha256 for one in found}) == 1 and len(found) == 4
    assert np.array_equal(found[0].rgb[~found[0].mask.array], np.ones((40 * 40 - 22 * 24, 3), np.float32))


def test_unusable_photos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    clear = np.zeros((20, 20, 4), np.uint8)
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (tmp_path / "none.jpg", None, PictureError, r"reference .*none\.jpg cannot be used: .*does not exist"),
        (tmp_path / "text.jpg", None, NotAnImageError, r"reference .*text\.jpg cannot be used"),
        (Picture.from_array(clear), None, EmptyMaskError, "cut-out of the reference picture is empty"),
        (thing(), np.zeros((40, 40), bool), EmptyMaskError, "cut-out of the reference picture is empty"),
        (thing(), np.ones((40, 41), bool), MaskSizeError, "mask of the reference picture cannot be used"),
        (SCENE, None, ReferencePhotoError, "is the scene itself"),
        (thing(), ["1,1,4,4", "1,1,4,4"], ReferencePhotoError, "2 reference masks for 1 references"),
    ]
    for photo, mask, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            load_references(photo, mask, SCENE)
        assert "\n" not in str(caught.value)


def test_the_scene_itself_is_fine_where_a_mask_says_which_part() -> None:
    (reference,) = load_references(SCENE, "3,4,20,20", SCENE)
    assert reference.mask.box == (4, 3, 20, 20)


def test_too_many_and_missing_weights_are_refused(tmp_path: Path) -> None:
    check_count(2, 2)
    with pytest.raises(ReferencePhotoError, match="3 references were given, but the model takes 2"):
        check_count(3, 2)
    with pytest.raises(ReferenceModelError, match=r"model 'tiny' has no weights for references: give reference_model"):
        reference_model_of(None, "tiny", tmp_path)
    with pytest.raises(ReferenceModelError, match="none does not exist"):
        reference_model_of(str(tmp_path / "none"), "tiny", tmp_path)
    (tmp_path / "reference").mkdir()
    assert reference_model_of(None, "tiny", tmp_path) == tmp_path / "reference"
    assert reference_model_of("reference", "tiny", None, tmp_path) == tmp_path / "reference"


def test_changed_photos_and_masks_are_found_beside_the_picture_and_refused(tmp_path: Path) -> None:
    SCENE.save(tmp_path / "scene.png")
    thing().save(tmp_path / "mug.png")
    (tmp_path / "reference").mkdir()
    request = EditRequest(
        verb="insert",
        scene="elsewhere/scene.png",
        box="30,20,24,24",
        reference=["elsewhere/mug.png"],
        reference_model="elsewhere/reference",
    )
    known = preflight(request, tmp_path)
    assert known.reference_sha256 == (thing().sha256,) and preflight(known, tmp_path) == known
    with pytest.raises(InputChangedError, match=r"mask of the reference elsewhere/mug\.png"):
        preflight(known.replace(reference_mask=["1,1,4,4"]), tmp_path)
    thing(seed=8).save(tmp_path / "mug.png", overwrite=True)
    with pytest.raises(InputChangedError, match=r"mug\.png is not the reference of this request"):
        preflight(known, tmp_path)
