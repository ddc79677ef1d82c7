from __future__ import annotations

import numpy as np
import pytest
from tests.conftest_tiny import tiny_backbone

from intarsia.conditioning import empty_conditioning, encode_prompt
from intarsia.editing import PaintOptions, paint
from intarsia.editing.detail import add_lost_detail
from intarsia.editing.paint import plan, seam_ring
from intarsia.errors import EmptyMaskError
from intarsia.imaging import Mask, Window
from intarsia.result import StageRecord

BACKBONE = tiny_backbone()


def box_mask(size: tuple[int, int], top: int, left: int, height: int, width: int) -> Mask:
    array = np.zeros(size, bool)
    array[top : top + height, left : left + width] = True
    return Mask(array)


def test_default_windows_hold_the_object_at_a_good_share_and_some_context() -> None:
    chosen = plan(BACKBONE, box_mask((400, 600), 200, 300, 48, 60), PaintOptions.preset("default", lam=0.7, steps=30))
    local, context = chosen.windows["local"], chosen.windows["global"]
    assert local.size == (75, 75)  # 60 px at a share of 0.8
    assert 135 <= context.height <= 145 and context.size[0] == context.size[1]
    assert context.contains((local.top, local.left, *local.size))
    assert [stage.name for stage in chosen.stages] == ["local", "global"]
    assert chosen.stages[0].end == round(0.7 * 30)


def test_paper_windows_are_margin_and_fraction_then_the_whole_scene() -> None:
    chosen = plan(BACKBONE, box_mask((400, 600), 200, 300, 48, 60), PaintOptions.preset("paper"))
    assert min(chosen.windows["local"].height / 400, chosen.windows["local"].width / 600) >= 0.5
    assert chosen.windows["global"] == Window.full((400, 600))


def test_equal_windows_are_painted_once() -> None:
    chosen = plan(BACKBONE, box_mask((64, 64), 4, 4, 56, 56), PaintOptions.preset("default", lam=0.7, steps=30))
    assert chosen.windows["local"] == chosen.windows["global"]
    assert [(stage.name, stage.start, stage.end) for stage in chosen.stages] == [("local", 0, 30)]


@pytest.mark.parametrize(("lam", "names"), [(0.0, ["global"]), (1.0, ["local"]), (0.5, ["local", "global"])])
def test_lambda_chooses_the_stages(lam: float, names: list[str]) -> None:
    options = PaintOptions.preset("default", lam=lam, steps=4)
    assert [stage.name for stage in plan(BACKBONE, box_mask((90, 90), 30, 30, 20, 20), options).stages] == names


def painted(mask: Mask, seed: int = 0, **changes: object) -> np.ndarray:
    rgb = np.random.default_rng(1).random((*mask.size, 3), dtype=np.float32)
    options = PaintOptions.preset("default", **{"steps": 2, "lam": 0.7, **changes})
    words = encode_prompt(BACKBONE, "a red mug"), empty_conditioning(BACKBONE)
    return paint(BACKBONE, rgb, mask.array, positive=words[0], negative=words[1], options=options, seed=seed).rgb


def test_the_painter_repeats_itself_and_obeys_the_seed() -> None:
    mask = box_mask((70, 90), 20, 30, 24, 20)
    first, again, other = painted(mask), painted(mask), painted(mask, seed=1)
    assert first.shape == (70, 90, 3) and first.dtype == np.float32 and np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_draft_shows_the_more_the_less_it_is_painted_over() -> None:
    """Near the end of the schedule two drafts stay as far apart as the VAE leaves them; from its start, much less."""
    mask, words = box_mask((64, 64), 16, 16, 32, 32), encode_prompt(BACKBONE, "a red mug")
    grey = np.full((64, 64, 3), 0.5, np.float32)
    drafts = [np.where(mask.array[..., None], value, grey).astype(np.float32) for value in (0.1, 0.9)]

    def apart(strength: float) -> float:
        one, other = (
            paint(
                BACKBONE, grey, mask.array, positive=words, negative=empty_conditioning(BACKBONE), seed=0,
                options=PaintOptions.preset("default", steps=8), draft=draft, strength=strength,
            ).rgb
            for draft in drafts
        )  # fmt: skip
        return float(np.abs(one - other)[mask.array].mean())

    near, middle, far = apart(0.125), apart(0.5), apart(1.0)
    assert near > 1.2 * middle > 1.2 * far


def test_progress_counts_every_step() -> None:
    mask, seen = box_mask((70, 90), 20, 30, 24, 20), []
    words = encode_prompt(BACKBONE, "a red mug"), empty_conditioning(BACKBONE)
    rgb = np.zeros((70, 90, 3), np.float32)
    options = PaintOptions.preset("default", steps=3, lam=0.7)
    report = paint(
        BACKBONE,
        rgb,
        mask.array,
        positive=words[0],
        negative=words[1],
        options=options,
        seed=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [(stage.start, stage.end) for stage in report.stages] == [(0, 2), (2, 3)]


def test_the_ring_is_past_the_feather_and_two_of_the_models_latent_cells_wide() -> None:
    first = StageRecord(name="local", start=0, end=2, window=(0, 0, 64, 64), size=(64, 64))
    last = StageRecord(name="global", start=2, end=3, window=(0, 0, 128, 192), size=(64, 64))
    assert seam_ring((first, last), 4, latent_factor=8) == 48  # the wider side: 3 scene pixels a painted one
    assert seam_ring((first, last), 4, latent_factor=4) == 24
    assert seam_ring((last, first), 40, latent_factor=4) == 41


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(EmptyMaskError):
        painted(Mask(np.zeros((70, 90), bool)))


def test_options_change_the_picture() -> None:
    mask = box_mask((120, 160), 40, 60, 30, 30)
    base = painted(mask)
    for change in ({"start": "noise"}, {"keep_detail": False}, {"lam": 1.0}, {"context_share": None}):
        assert not np.array_equal(base, painted(mask, **change)), change


def test_detail_is_added_where_the_global_stage_was_coarser() -> None:
    scene = np.full((64, 64, 3), 0.5, np.float32)
    window = Window(16, 16, 32, 32)
    stripes = np.full((32, 32, 3), 0.5, np.float32)
    stripes[:, ::2] += 0.25
    stripes[:, 1::2] -= 0.25
    finer = add_lost_detail(scene, stripes, window, Window.full((64, 64)), (16, 16))
    # Stripes of one pixel average to grey at a quarter of the resolution, so all of them comes back.
    assert np.abs(finer[16:48, 16:48] - stripes).max() < 0.02
    outside = np.ones((64, 64), bool)
    outside[16:48, 16:48] = False
    assert np.array_equal(finer[outside], scene[outside])


def test_nothing_is_added_where_the_global_stage_lost_nothing() -> None:
    scene = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    local = np.random.default_rng(1).random((32, 32, 3), dtype=np.float32)
    window = Window(16, 16, 32, 32)
    assert add_lost_detail(scene, local, window, Window.full((64, 64)), (64, 64)) is scene
