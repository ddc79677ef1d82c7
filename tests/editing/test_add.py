"""Adding on an instruction: what is added is known, because the model draws it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest_tiny import save_tiny, tiny_backbone, tiny_instruct
from tests.editing.conftest import tiny_studio
from tests.editing.drawing_model import block, drawing_model

from intarsia.editing import EditingError, InputChangedError, NothingAddedError, SceneLostError, Studio
from intarsia.errors import BoxError, IntarsiaError, IntarsiaWarning, NonFiniteError
from intarsia.imaging import Mask, Picture, Window
from intarsia.learning import Subject
from intarsia.perception import InstructionError, place_of
from intarsia.request import RequestError
from intarsia.result import EditResult, read_recipe

RED, BLUE = (0.8, 0.1, 0.1), (0.1, 0.2, 0.8)
MUG, DUCK = "add a red mug", "add a blue duck"
# What the drawing model predicts needs no guidance, and no steps to speak of.
QUICK: dict[str, Any] = {
    "steps": 2, "scheduler": "ddim", "guidance_scale": 1.0, "image_guidance_scale": 1.0, "change_threshold": 0.12,
    "candidates": 1, "place_hold": 0.0, "finish": "repaint", "repaint_strength": 1.0,
}  # fmt: skip
DIRECT = {**QUICK, "finish": "direct"}


def room(height: int = 72, width: int = 96, channels: int = 3, dtype: Any = np.uint8) -> Picture:
    """A wall that gets darker to one side; half transparent where there is alpha."""
    top = np.iinfo(dtype).max
    shade = np.linspace(0.55, 0.75, width)[None, :, None] + np.zeros((height, 1, channels))
    if channels in (2, 4):
        shade[..., -1] = np.linspace(1, 0.6, height)[:, None]
    return Picture.from_array(np.rint(shade * top).astype(dtype))


def drawn(mask: Mask, result: EditResult) -> Any:
    return result.picture.rgb()[mask.array]


@pytest.fixture(scope="module")
def adding() -> Studio:
    drawings = {MUG: block(0.4, 0.1, 0.3, 0.25, RED), DUCK: block(0.4, 0.6, 0.3, 0.25, BLUE)}
    return Studio(tiny_studio().backbone, drawing_model(**drawings))


def test_only_the_added_thing_changes_and_it_has_its_colours(adding: Studio) -> None:
    scene = room()
    result = adding.add(scene, "a red mug", **DIRECT)
    mug = Mask.from_box((10, 29, 23, 21), scene.size)
    assert np.array_equal(result.picture.pixels[~result.support], scene.pixels[~result.support])
    assert result.support[mug.array].all()
    inner = Mask.from_box((13, 32, 17, 15), scene.size)
    assert np.abs(drawn(inner, result) - RED).max() < 0.05
    (mask,) = result.change_masks
    assert mask[mug.array].all() and mask.sum() < 2 * mug.array.sum()
    assert np.array_equal(Mask(mask).feather(4) > 0, result.support)


@given(
    size=st.tuples(st.integers(24, 150), st.integers(24, 150)),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    finish=st.sampled_from(["direct", "repaint"]),
    place=st.booleans(),
    growth=st.integers(0, 5),
    feather=st.integers(0, 6),
)
@settings(max_examples=8, deadline=None)
def test_no_byte_changes_outside_the_support(
    size: tuple[int, int], channels: int, dtype: Any, finish: str, place: bool, growth: int, feather: int
) -> None:
    words = "add a red mug at the center" if place else MUG
    studio = Studio(tiny_studio().backbone, drawing_model(**{words: block(0.4, 0.4, 0.2, 0.2, RED)}))
    source = replace(room(*size, channels, dtype), icc_profile=b"profile")
    box = f"{size[1] // 3},{size[0] // 3},{size[1] // 4},{size[0] // 4}" if place else None
    options = {**QUICK, "steps": 1, "finish": finish, "growth": growth, "feather": feather}
    result = studio.add(source, "a red mug", place=box, **options)
    kept = ~result.support
    assert 0 < result.support.sum() < 0.8 * kept.size
    assert np.array_equal(result.picture.pixels[kept], source.pixels[kept])
    assert (result.picture.mode, result.picture.icc_profile) == (source.mode, b"profile")
    reach = Mask(result.change_masks[0]).grow(growth).grow(feather + 1).array
    assert not (result.support & ~reach).any()


@given(
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    seed=st.integers(0, 9),
    preset=st.sampled_from(["default", "paper"]),
)
@settings(max_examples=4, deadline=None)
def test_whatever_a_model_paints_the_rest_keeps_its_bytes(size: tuple[int, int], seed: int, preset: str) -> None:
    source = room(*size)
    studio = Studio(tiny_studio().backbone, tiny_instruct(seed))
    try:
        result = studio.add(source, ["a red mug", "a duck"], seed=seed, steps=2, preset=preset, change_threshold=0.02)
    except (NothingAddedError, SceneLostError):
        return
    assert np.array_equal(result.picture.pixels[~result.support], source.pixels[~result.support])


def test_repainting_is_an_insertion_in_the_place_found(adding: Studio) -> None:
    scene = room()
    seen: list[tuple[int, int]] = []
    options = {**QUICK, "repaint_guidance_scale": 2.0, "seed": 5}
    result = adding.add(scene, "a red mug", progress=lambda *done: seen.append(done), **options)
    assert seen == [(done, 4) for done in range(1, 5)]
    (mask,) = result.change_masks
    inserted = adding.insert(
        scene, mask=mask, prompt="a red mug", seed=5, guidance_scale=2.0, steps=2, scheduler="ddim"
    )
    assert result.picture.sha256 == inserted.picture.sha256
    assert np.array_equal(result.support, inserted.support)
    recipe = result.recipe
    assert recipe.prompt_used == "a red mug"
    assert [stage.name for stage in recipe.stages] == ["add", *(stage.name for stage in inserted.recipe.stages)]
    assert recipe.stages[0].window == (0, 0, 72, 96) and recipe.stages[0].size == (56, 72)
    direct = adding.add(scene, "a red mug", **DIRECT)
    assert direct.picture.sha256 != result.picture.sha256 and direct.recipe.prompt_used == MUG
    assert np.array_equal(direct.change_masks[0], mask)


def test_repainting_starts_from_the_proposal_if_it_is_not_to_paint_anew(adding: Studio) -> None:
    scene, seen = room(), list[tuple[int, int]]()
    options = {**QUICK, "steps": 4, "seed": 5}
    progress = {"progress": lambda *done: seen.append(done)}
    result = adding.add(scene, "a red mug", **{**options, **progress, "repaint_strength": 0.25})
    assert seen == [(done, 5) for done in range(1, 6)]
    assert [(stage.start, stage.end) for stage in result.recipe.stages] == [(0, 4), (3, 4)]
    anew = adding.add(scene, "a red mug", **options)
    assert np.array_equal(anew.change_masks[0], result.change_masks[0])
    assert anew.picture.sha256 != result.picture.sha256
    with pytest.raises(RequestError, match="repaint_strength"):
        adding.add(scene, "a red mug", repaint_strength=0.0)


def test_several_things_one_after_the_other_in_latent_space() -> None:
    """The duck is only drawn beside a mug: the second instruction sees what the first one made, without a trip
    through the VAE."""

    def duck_beside_mug(picture: Any) -> Any:
        return block(0.4, 0.6, 0.3, 0.25, BLUE)(picture) if (picture[..., 0] - picture[..., 1] > 0.4).any() else picture

    model = drawing_model(**{MUG: block(0.4, 0.1, 0.3, 0.25, RED), DUCK: duck_beside_mug})
    studio = Studio(tiny_studio().backbone, model)
    result = studio.add(room(), [MUG, DUCK], **DIRECT)
    assert model.vae.encoded == 1
    first, second = result.change_masks
    assert not (first & second).any()
    assert np.abs(drawn(Mask.from_box((13, 32, 17, 15), (72, 96)), result) - RED).max() < 0.05
    assert np.abs(drawn(Mask.from_box((61, 32, 17, 15), (72, 96)), result) - BLUE).max() < 0.05
    assert not (result.support & ~Mask(first | second).grow(5).array).any()
    painted = studio.add(room(), [MUG, DUCK], **QUICK)
    assert painted.recipe.prompt_used == "a red mug; a blue duck"
    assert [stage.name for stage in painted.recipe.stages].count("add") == 2
    with pytest.raises(NothingAddedError, match="a blue duck"):
        studio.add(room(), DUCK, **DIRECT)


def test_a_chain_restores_what_did_not_change_or_leaves_it() -> None:
    """Each pass tints the whole picture; only `plain` hands the tint on."""

    def tinted(draw: Any) -> Any:
        return lambda picture: draw(picture + np.float32(0.03))

    drifts = {}
    for chain in ("restored", "plain"):
        model = drawing_model(**{MUG: tinted(block(0.4, 0.1, 0.3, 0.25, RED)), DUCK: block(0.4, 0.6, 0.3, 0.25, BLUE)})
        result = Studio(tiny_studio().backbone, model).add(room(), [MUG, DUCK], chain=chain, **DIRECT)
        assert len(result.change_masks) == 2
        first, last = model.unet.sources[0], model.unet.sources[-1]
        drifts[chain] = np.abs(last - first)[:8].mean()
    assert drifts["restored"] < 0.001 and drifts["plain"] == pytest.approx(0.03, abs=0.003)


def test_a_place_is_seen_in_its_surroundings_and_said_in_words() -> None:
    model = drawing_model(**{"add a red mug at the center": block(0.4, 0.4, 0.2, 0.2, RED)})
    studio = Studio(tiny_studio().backbone, model)
    scene = room(200, 300)
    result = studio.add(scene, "a red mug at the left", place=(150, 80, 40, 40), **DIRECT)
    top, left, height, width = result.recipe.stages[0].window
    assert (height, width) == (80, 80)
    window = Window(top, left, height, width)
    assert window.contains((80, 150, 40, 40))
    outside = result.support.copy()
    window.crop(outside)[...] = False
    assert not outside.any() and result.support[95:105, 165:175].all()
    elsewhere = drawing_model(**{"add a red mug at the center": block(0.0, 0.0, 0.2, 0.2, RED)})
    with pytest.raises(NothingAddedError, match="near 150,80,40,40"):
        Studio(tiny_studio().backbone, elsewhere).add(scene, "a red mug", place=(150, 80, 40, 40), **DIRECT)


def test_grain_that_the_model_cannot_hold_does_not_show_through(adding: Studio) -> None:
    grain = np.random.default_rng(0).normal(0, 0.05, (288, 384, 1))
    pixels = np.clip(0.6 + grain + np.zeros(3), 0, 1)
    scene = Picture.from_array(np.rint(255 * pixels).astype(np.uint8))
    result = adding.add(scene, "a red mug", **DIRECT)
    mug = result.picture.rgb()[130:190, 55:115]
    assert mug.std(axis=(0, 1)).max() < 0.02 < scene.rgb()[130:190, 55:115].std(axis=(0, 1)).min()


def test_it_repeats_and_the_png_replays(adding: Studio, tmp_path: Path) -> None:
    room().save(tmp_path / "room.png")
    first = adding.add(tmp_path / "room.png", "a red mug", **QUICK)
    path = first.save(tmp_path / "out.png")
    recipe = read_recipe(path)
    assert recipe == first.recipe and recipe.request.add_model_hash
    assert recipe.request.instruction == ("a red mug",) and recipe.request.add_model == "drawing"
    assert adding.replay(path).picture.sha256 == first.picture.sha256
    assert adding.run(recipe.request).picture.sha256 == first.picture.sha256
    room(channels=1).save(tmp_path / "room.png", overwrite=True)
    with pytest.raises(InputChangedError, match="is not the scene"):
        adding.replay(path)


def test_replay_names_another_instruction_model(adding: Studio, tmp_path: Path) -> None:
    room().save(tmp_path / "room.png")
    path = adding.add(tmp_path / "room.png", "a red mug", **QUICK).save(tmp_path / "out.png")
    request = read_recipe(path).request
    other = drawing_model(**{MUG: block(0.4, 0.5, 0.3, 0.25, RED)})
    with pytest.raises(EditingError, match="made with another 'drawing'"):
        studio = Studio(tiny_studio().backbone, other)
        studio._instruct_models._given.unet.conv_in.weight.data += 1  # type: ignore[union-attr]
        studio.run(request)
    with pytest.warns(IntarsiaWarning, match="instruction model: "):
        studio.replay(path)


def test_the_place_found_takes_a_learned_subject(adding: Studio, subject: Subject) -> None:
    scene = room()
    proposed = adding.add(scene, "a red mug", **DIRECT)
    result = adding.insert(scene, mask=proposed.support, subject=subject, prompt="a red duck", steps=1, feather=0)
    assert np.array_equal(result.support, proposed.support)
    assert np.array_equal(result.picture.pixels[~result.support], scene.pixels[~result.support])


def test_models_are_loaded_by_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intarsia.editing import instruct_models

    save_tiny(tiny_instruct(), tmp_path / "add")
    loaded: list[object] = []
    load = instruct_models.load_instruct_model

    def count(*given: Any, **named: Any) -> Any:
        loaded.append(given[0])
        return load(*given, **named)

    monkeypatch.setattr(instruct_models, "load_instruct_model", count)
    studio = Studio(tiny_backbone())
    for _ in range(2):
        with pytest.raises((NothingAddedError, SceneLostError)):
            studio.add(room(), "a red mug", add_model=str(tmp_path / "add"), steps=1, change_threshold=1.0)
    assert loaded == [str(tmp_path / "add")]


def test_a_difference_shares_what_it_can_with_the_studios_model(tmp_path: Path) -> None:
    import copy

    from intarsia.backbones import load_backbone, save_instruct_model, start_instructions
    from intarsia.request import EditRequest

    save_tiny(tiny_backbone(), tmp_path / "base")
    base = load_backbone(tmp_path / "base")
    save_instruct_model(tmp_path / "add", start_instructions(copy.deepcopy(base.unet)), base, (), {})
    before = base.unet.conv_in.weight.shape
    request = EditRequest(verb="add", scene="a.png", instruction=("a mug",), add_model=str(tmp_path / "add"))
    model = Studio(base)._instruct_models.of(request)
    assert model.kind == "instruct" and model.vae is base.vae
    assert base.unet.conv_in.weight.shape == before
    with pytest.raises(EditingError, match="leave out add_model_hash"):
        Studio(base)._instruct_models.of(request.replace(add_model_hash="0" * 64))


@pytest.mark.parametrize(
    ("drawing", "error", "words"),
    [
        (lambda picture: picture, NothingAddedError, "'add a red mug' added nothing: try another seed than 0"),
        (lambda picture: np.random.default_rng(0).random(picture.shape) > 0.5, IntarsiaError, "try another seed"),
        (block(0.03, 0.03, 0.94, 0.94, RED), SceneLostError, "of the picture instead of adding to it"),
        (lambda picture: picture * np.nan, NonFiniteError, "float32"),
    ],
)
def test_results_that_are_no_addition(drawing: Any, error: type[IntarsiaError], words: str) -> None:
    studio = Studio(tiny_studio().backbone, drawing_model(**{MUG: drawing}))
    with pytest.raises(error, match=words) as caught:
        studio.add(room(), "a red mug", **QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("instruction", "options", "error", "words"),
    [
        ("", {}, RequestError, "instruction is empty"),
        ([], {}, RequestError, "instruction is empty"),
        (["a mug", " "], {}, RequestError, "instruction is empty"),
        ("add it", {}, InstructionError, "names nothing"),
        ("remove the mug", {}, InstructionError, "asks to remove"),
        ("a mug", {"place": "90,60,20,20"}, BoxError, "not inside"),
        ("a mug", {"place": "left"}, BoxError, "x,y,w,h"),
        ("a mug", {"finish": "sketch"}, RequestError, "finish 'sketch'"),
        ("a mug", {"change_threshold": 0}, RequestError, "change_threshold 0"),
        ("a mug", {"box": "1,1,4,4"}, RequestError, "no part in an addition"),
        ("a mug", {"prompt": "a mug"}, RequestError, "say it in the instruction"),
        ("a mug", {"subject": "d.safetensors"}, RequestError, "no part in an addition"),
        ("a mug", {"reference": ("a.png",)}, RequestError, "no part in an addition"),
        ("a mug", {"left": 4}, RequestError, "for outpainting only"),
        ("a mug", {"add_model": "imaginary"}, IntarsiaError, "unknown model 'imaginary'"),
    ],
)
def test_bad_requests_are_refused(
    adding: Studio, instruction: Any, options: dict[str, Any], error: type[IntarsiaError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        adding.add(room(), instruction, **options)
    assert "\n" not in str(caught.value)


def test_instructions_are_for_adding_only(adding: Studio) -> None:
    with pytest.raises(RequestError, match="for adding only"):
        adding.insert(room(), box=(1, 1, 8, 8), prompt="a mug", instruction=("a mug",))
    with pytest.raises(RequestError, match="for adding only"):
        adding.remove(room(), box=(1, 1, 8, 8), place="1,1,8,8")


def test_words_are_refused_before_the_instruction_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from intarsia.editing import instruct_models

    monkeypatch.setattr(instruct_models, "find_model", lambda *given: pytest.fail("looked for a model"))
    with pytest.raises(InstructionError, match="asks to remove"):
        Studio(tiny_studio().backbone).add(room(), "just remove the mug")


def test_the_smallest_place_is_seen_with_its_surroundings(adding: Studio) -> None:
    scene = room()
    model = drawing_model(**{f"{MUG} at the center": block(0.3, 0.3, 0.4, 0.4, RED)})
    result = Studio(adding.backbone, model).add(scene, "a red mug", place=(40, 30, 1, 1), **DIRECT)
    assert result.recipe.stages[0].window[2:] == (24, 24)
    assert np.array_equal(result.picture.pixels[~result.support], scene.pixels[~result.support])


def test_the_scene_outside_a_place_can_be_held() -> None:
    """The model draws at the right whatever the words say."""
    wrong = {f"{MUG} at the left": block(0.4, 0.6, 0.3, 0.25, RED)}
    studio = Studio(tiny_studio().backbone, drawing_model(**wrong))
    free = studio.add(room(), f"{MUG} at the left", **DIRECT)
    assert free.support[:, 48:].any()
    with pytest.raises(NothingAddedError):
        studio.add(room(), f"{MUG} at the left", **{**DIRECT, "place_hold": 1.0})
    unnamed = Studio(tiny_studio().backbone, drawing_model(**{MUG: block(0.4, 0.6, 0.3, 0.25, RED)}))
    shas = {unnamed.add(room(), MUG, **{**DIRECT, "place_hold": hold}).picture.sha256 for hold in (0.0, 1.0)}
    assert len(shas) == 1
    box = (58, 25, 24, 30)
    given = drawing_model(**{f"{MUG} at the {name}": block(0.2, 0.2, 0.5, 0.5, RED) for name in ("center", "right")})
    placed = Studio(tiny_studio().backbone, given).add(room(), MUG, place=box, **{**DIRECT, "place_hold": 1.0})
    assert not (placed.change_masks[0] & ~Mask.from_box(box, (72, 96)).grow(12).array).any()


def test_of_candidates_the_one_that_hides_least_is_taken() -> None:
    """The model draws over the ball, or beside it, as its noise has it; with words, where they say."""
    scene = np.array(room().pixels)
    scene[30:50, 60:80] = (20, 30, 200)
    source = Picture.from_array(scene)
    draws: list[int] = []

    def either(picture: Any) -> Any:
        draws.append(len(draws))
        return block(0.4, 0.6 if len(draws) <= STEPS else 0.1, 0.3, 0.25, RED)(picture)

    STEPS = int(QUICK["steps"])
    for words, expected in ((MUG, "the left"), (f"{MUG} at the right", "the right")):
        draws.clear()
        studio = Studio(tiny_studio().backbone, drawing_model(**{words: either}))
        seen: list[tuple[int, int]] = []
        options = {**DIRECT, "progress": lambda *done: seen.append(done)}  # noqa: B023
        result = studio.add(source, words, seed=5, **{**options, "candidates": 2})
        assert place_of(result.change_masks[0]) == expected
        assert seen[-1] == (2 * STEPS, 2 * STEPS)
    assert studio.add(source, words, seed=5, **{**DIRECT, "candidates": 2}).recipe.request.candidates == 2
