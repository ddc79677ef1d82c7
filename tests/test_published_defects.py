"""Each defect of LAR-Gen's released code, and the tests that keep it out; those without another home are below."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.editing.conftest import model_folder, noise_picture, save_random_reference, thing, tiny_studio

from intarsia.imaging import Picture

__all__ = ["model_folder"]

ROOT = Path(__file__).resolve().parents[1]

DEFECTS: dict[str, tuple[str, ...]] = {
    "the whole crop overwrites the original": (
        "editing/test_contracts.py::test_no_byte_changes_outside_the_support",
        "editing/test_outpaint.py::test_the_scene_is_kept_at_its_place",
        "editing/test_chains.py::test_ten_edits_leave_every_other_byte",
    ),
    "the seed decides the first noise only": (
        "sampling/test_denoise.py::test_the_global_random_state_is_neither_read_nor_changed",
        "conditioning/test_reference_guide.py::test_the_same_seed_gives_the_same_bytes_and_the_reference_counts",
        "sampling/test_guidance_apart.py::test_a_reference_never_shifts_the_picture_s_own_noise",
    ),
    "thin masks vanish": (
        "imaging/test_mask.py::test_thin_strokes_survive_in_latents",
        "sampling/test_denoise.py::test_latent_mask_marks_every_touched_cell",
        "conditioning/test_reference.py::test_thin_parts_of_the_mask_survive",
    ),
    "black bars at the border are called known": (
        "imaging/test_window.py::test_always_in_the_scene_around_the_mask_and_large_enough",
        "test_published_defects.py::test_windows_at_the_border_hold_scene_alone",
    ),
    "windows are distorted": (
        "imaging/test_window.py::test_native_size_keeps_area_and_aspect",
        "conditioning/test_reference.py::test_views_are_squares_without_distortion",
    ),
    "the last row and column are lost": (
        "conditioning/test_reference.py::test_the_box_keeps_the_last_row_and_column",
        "imaging/test_canvas.py::test_a_rectangle_holds_the_last_row_and_column_of_a_mask",
        "editing/test_references.py::test_a_box_is_repainted_to_its_last_row_and_column",
    ),
    "an empty or tiny mask means the whole picture": (
        "imaging/test_mask.py::test_validation",
        "editing/test_reference_photos.py::test_unusable_photos_are_refused",
        "test_published_defects.py::test_a_tiny_mask_is_a_tiny_place",
    ),
    "xformers and CUDA are a must, and the model is built twice": (
        "test_published_defects.py::test_imports_are_declared_and_few",
        "adapters/test_refine.py::test_bfloat16_keeps_the_bias",
        "editing/test_references.py::test_weights_are_loaded_once_and_again_when_the_files_change",
    ),
    "both halves of guidance compute the reference, with different noise": (
        "conditioning/test_reference_guide.py::test_the_reference_unet_runs_once_per_step_for_three_blocks",
        "adapters/test_refine.py::test_guidance_halves_share_the_references",
        "adapters/test_refine.py::test_it_ends_after_its_last_attention_block",
    ),
    "no batches, one guidance, one strength": (
        "conditioning/test_reference_guide.py::test_a_sample_does_not_depend_on_its_neighbours",
        "sampling/test_guidance_apart.py::test_equals_the_formula_by_hand",
        "adapters/test_assign.py::test_strength_of_a_block_group_acts_there_alone",
        "conditioning/test_reference_guide.py::test_a_schedule_changes_both_strengths_from_step_to_step",
    ),
    "preprocessing lives in the web page, and loading writes files": (
        "test_architecture.py::test_arrows_run_down_and_no_room_reaches_into_another",
        "test_published_defects.py::test_imports_are_declared_and_few",
        "test_published_defects.py::test_loading_and_painting_write_nothing",
    ),
    "results cannot be used as they come back": (
        "editing/test_chains.py::test_a_result_paints_as_its_picture_does",
        "editing/test_chains.py::test_a_result_can_be_the_reference_of_the_next_edit",
    ),
    "dependencies are not pinned": ("test_published_defects.py::test_dependencies_are_bounded",),
    "Refine cannot be switched on: no null text, no text alone, a wrong first layer, an unused detail encoder": (
        "adapters/test_reference_files.py::test_round_trip_is_exact",
        "editing/test_references.py::test_one_set_of_weights_paints_from_words_from_a_reference_and_from_both",
        "adapters/test_refine.py::test_own_parameters_are_trained_and_all_others_are_the_main_u_nets",
        "adapters/test_refine.py::test_the_reference_u_net_sees_its_detail_its_time_and_no_words",
    ),
    "white padding is read as part of the thing": (
        "adapters/test_refine.py::test_the_paddings_tokens_are_never_read",
        "conditioning/test_reference_guide.py::test_white_padding_never_leaks",
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_tests_named_here_exist(defect: str) -> None:
    for name in DEFECTS[defect]:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (76, 52, 20, 20), (40, 0, 12, 30)])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_windows_at_the_border_hold_scene_alone(
    box: tuple[int, int, int, int], preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A white scene is white wherever the model is told that it is known."""
    room = importlib.import_module("intarsia.sampling.run_stages")  # the package has a function of that name

    seen: list[tuple[Any, Any]] = []
    real = room.masked_image

    def masked_image(image: Any, mask: Any) -> Any:
        seen.append((image, mask))
        return real(image, mask)

    monkeypatch.setattr(room, "masked_image", masked_image)
    white = Picture.from_array(np.full((72, 96, 3), 255, np.uint8))
    tiny_studio().insert(white, box=box, prompt="a mug", steps=2, lam=0.5, preset=preset)
    assert len(seen) == 2
    for image, mask in seen:
        known = image[(mask == 0).expand_as(image)]
        assert len(known) and float(known.min()) > 0.99


@pytest.mark.parametrize("side", [1, 3])
def test_a_tiny_mask_is_a_tiny_place(side: int) -> None:
    result = tiny_studio().insert(noise_picture(), box=(50, 30, side, side), prompt="a mug", steps=1, feather=0)
    assert result.support.sum() == side**2


def test_loading_and_painting_write_nothing(model_folder: Path, tmp_path: Path) -> None:
    from intarsia.editing import Studio

    studio = Studio.load(model_folder)
    save_random_reference(tmp_path / "reference", studio.backbone)
    files = [*model_folder.rglob("*"), *tmp_path.rglob("*")]
    before = {file: file.stat().st_mtime_ns for file in files}
    studio.insert(
        noise_picture(), box=(30, 20, 24, 24), reference=thing(), reference_model=str(tmp_path / "reference"), steps=1
    )
    after = {file: file.stat().st_mtime_ns for file in [*model_folder.rglob("*"), *tmp_path.rglob("*")]}
    assert after == before


def declared() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def test_imports_are_declared_and_few() -> None:
    """No xformers, open_clip, albumentations; OpenCV in two files alone, for those who ask; nothing undeclared."""
    found: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            own = {name.partition(".")[0] for name in names}
            assert "cv2" not in own or file.name in ("grabcut.py", "paste.py"), file
            found |= own
    known = {"pillow": "PIL", "pyyaml": "yaml", "ray[data]": "ray", "opencv-python-headless": "cv2"}
    found -= {"huggingface_hub"}  # comes with transformers and diffusers, which pin it
    wanted = {line.partition(">")[0] for lines in declared().values() for line in lines}
    assert found - set(sys.stdlib_module_names) - {"intarsia"} <= {known.get(name, name) for name in wanted}
    assert not found & {"xformers", "open_clip", "albumentations"}
    assert not any("opencv" in line for line in declared()[""])


def test_dependencies_are_bounded() -> None:
    lines = [line for each in declared().values() for line in each]
    assert lines and all(">=" in line and "<" in line for line in lines)
