"""Training from references: which pixels a reference holds, what is dropped, what moves, and resuming exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intarsia.tabletop import level, vocabulary_words
from intarsia.training.examples import ExampleSet, draw_example, render_shard
from intarsia.training.latents import LatentCache, cache_latents
from intarsia.training.recipe import SMOKE, ReferenceRecipe
from intarsia.training.references import ReferenceCache, cache_references, is_mirrored
from intarsia.training.tokenizer import build_tokenizer
from intarsia.training.towers import Towers
from intarsia.training.unet import CaptionBank, build_unet, caption_bank
from intarsia.training.vae import build_vae
from intarsia.training.vision import cutout_views, tower_top1, train_vision
from intarsia.training.zero_shot import Phase, build_zero_shot, draw_shown, rates, train_zero_shot

RECIPE = replace(SMOKE, reference=replace(SMOKE.reference, assign_images=24, refine_images=24, batch=8))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    arrays = render_shard([draw_example(i, level("small"), 7) for i in range(8)], 32)
    path = tmp_path_factory.mktemp("examples") / "shard.npz"
    np.savez(path, **arrays)
    return ExampleSet.load([path])


@pytest.fixture(scope="module")
def towers() -> tuple[Towers, Any]:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(vocabulary_words(), SMOKE.towers.context)
    return Towers(SMOKE, tokenizer, level("small")).eval(), tokenizer


@pytest.fixture(scope="module")
def caches(examples: ExampleSet, towers: tuple[Towers, Any]) -> tuple[LatentCache, CaptionBank, ReferenceCache]:
    torch.manual_seed(1)
    vae = build_vae(SMOKE).eval()
    latents = cache_latents(vae, examples, seed=7)
    bank = caption_bank(*towers, latents, examples, seed=7, each=2, brief=True)
    return latents, bank, cache_references(vae, towers[0].vision[1], examples, 7, SMOKE.side)


def test_a_cut_out_shows_the_object_on_white_and_nothing_else(examples: ExampleSet) -> None:
    views = cutout_views(examples, [0, 1, 2], side=32)
    assert views.pictures.shape == (3, 3, 32, 32) and views.masks.shape == (3, 1, 32, 32)
    outside = (views.masks == 0).expand_as(views.pictures)
    assert torch.allclose(views.pictures[outside], torch.ones(()), atol=1e-6)
    for mask in views.masks[:, 0] > 0.5:
        ys, xs = torch.nonzero(mask, as_tuple=True)
        longest = max(int(ys.max() - ys.min()), int(xs.max() - xs.min())) + 1
        assert 29 <= longest <= 32
        assert abs(float(ys.min() + ys.max()) / 2 - 15.5) <= 1 and abs(float(xs.min() + xs.max()) / 2 - 15.5) <= 1
    mirrored = cutout_views(examples, [0], side=32, flip=np.array([True]))
    assert torch.allclose(mirrored.pictures, views.pictures[:1].flip(-1), atol=1e-4)


def test_a_hidden_object_is_a_white_reference_without_cells(examples: ExampleSet, towers: tuple[Towers, Any]) -> None:
    silhouette = examples.silhouette.copy()
    silhouette[3] = False
    hidden = replace(examples, silhouette=silhouette)
    cache = cache_references(build_vae(SMOKE).eval(), towers[0].vision[1], hidden, 7, SMOKE.side)
    assert cache.cells.flatten(1).any(1).tolist() == [True, True, False, *[True] * 5]


def test_the_reference_is_the_partner_mirrored_with_the_scene(
    examples: ExampleSet, towers: tuple[Towers, Any], caches: tuple[LatentCache, CaptionBank, ReferenceCache]
) -> None:
    seed = 7
    flips = [is_mirrored(seed, row) for row in range(8)]
    assert 0 < sum(flips) < 8
    for row in range(8):
        view = cutout_views(examples, [row ^ 1], flip=np.array([flips[row]])).pictures
        with torch.no_grad():
            expected = towers[0].vision[1](pixel_values=view, output_hidden_states=True).hidden_states[-2]
        assert torch.allclose(caches[2].assign[row].float(), expected[0], atol=2e-2)
    # A sample's scene is mirrored by the same rule, or markings would change sides.
    vae = build_vae(SMOKE).eval()
    torch.manual_seed(3)
    lit = examples.present.copy()
    lit[...] = 255 * (np.arange(32) >= 16)[None, None, :, None]
    half = replace(examples, present=lit, absent=lit)
    plain = cache_latents(vae, half, seed=seed)
    other = cache_latents(vae, replace(half, present=lit[:, :, ::-1].copy(), absent=lit[:, :, ::-1].copy()), seed=seed)
    removal = plain.target[2::3].float() - other.target[2::3].float()
    sign = [bool(removal[row, 0].sum() != 0) for row in range(8)]
    assert all(sign)
    unmirrored = vae.encode(torch.from_numpy(lit[:1].transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1).latent_dist.mean
    for row in range(8):
        same = torch.allclose(plain.target[3 * row + 2].float(), unmirrored[0], atol=2e-2)
        assert same != flips[row]


def test_shares_of_what_samples_see() -> None:
    recipe = ReferenceRecipe(
        text_only=0.3, reference_only=0.2, neither=0.1, refine_drop=0.1, assign_drop=0.4, detail_only=0.0
    )
    empty = torch.zeros(20_000, dtype=torch.bool)
    empty[:4_000] = True
    shown = draw_shown(recipe, empty, torch.Generator().manual_seed(0))
    seen = ~empty
    reference = (shown.assign + shown.refine) > 0
    words = shown.words > 0

    def part(x: torch.Tensor) -> float:
        return float(x[seen].float().mean())

    assert not reference[:4_000].any()
    assert part(~words & ~reference) == pytest.approx(0.1, abs=0.01)
    assert part(words & ~reference) == pytest.approx(0.3, abs=0.01)
    assert part(~words & reference) == pytest.approx(0.2, abs=0.01)
    inside = seen & reference
    assert float((shown.assign[inside] == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float((shown.refine[inside] == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((words[:4_000]).float().mean()) == pytest.approx(0.9, abs=0.02)
    alone = draw_shown(replace(recipe, detail_only=0.5), empty, torch.Generator().manual_seed(0))
    only = (alone.refine > 0) & (alone.assign == 0) & (alone.words == 0)
    # Half of all, and of the other half those that would have seen Refine alone anyway.
    before = (shown.refine > 0) & (shown.assign == 0) & (shown.words == 0)
    assert part(only) == pytest.approx(0.5 + 0.5 * part(before), abs=0.01)
    assert torch.equal(alone.words[:4_000], shown.words[:4_000])
    assert not alone.refine[:4_000].any()


def test_copied_layers_learn_slower_than_new_ones() -> None:
    rate = rates(ReferenceRecipe(adapter_rate=2.0, refine_rate=0.5))
    assert rate("unet.up_blocks.0.attentions.0.proj_in.weight") == 1.0
    assert rate("refine.reference.up_blocks.0.attentions.0.proj_in.weight") == 0.5
    assert rate("refine.reference.conv_in.weight") == rate("refine.detail.weight") == 2.0
    assert rate("assign.resampler.queries") == 2.0


@pytest.mark.parametrize("phase", ["assign", "refine", "joint"])
def test_each_phase_moves_what_it_says_and_resumes_exactly(
    phase: Phase, caches: tuple[LatentCache, CaptionBank, ReferenceCache], tmp_path: Path
) -> None:
    latents, bank, references = caches
    null = torch.zeros(1, RECIPE.towers.projection)

    def new() -> Any:
        torch.manual_seed(5)
        return build_zero_shot(RECIPE, build_unet(RECIPE), phase, null)

    def run(model: Any, folder: Path, minutes: float | None = None) -> bool:
        return train_zero_shot(RECIPE, model, phase, latents, bank, references, folder, minutes=minutes)

    whole = new()
    before = {name: p.detach().clone() for name, p in whole.named_parameters()}
    assert run(whole, tmp_path / "whole")
    moved = {name for name, p in whole.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.startswith("assign.resampler") for name in moved)
    assert any(name.startswith("assign.layers") for name in moved)
    frozen = {n for n in before if n.startswith("unet.") and ".resnets." in n}
    if phase == "assign":
        assert frozen & moved
    else:
        assert not frozen & moved
        assert {"refine.reference.conv_in.weight", "refine.detail.weight"} <= moved
        assert any(".attn1." in n for n in moved if n.startswith("refine.")) and any(
            ".attn1." in n for n in moved if n.startswith("unet.")
        )
    pieces = new()
    assert not run(pieces, tmp_path / "pieces", minutes=0.0)
    finished = False
    while not finished:
        pieces = new()
        finished = run(pieces, tmp_path / "pieces", minutes=0.0005)
    for (name, a), (_, b) in zip(whole.named_parameters(), pieces.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("phase", ["assign", "refine"])
def test_bfloat16_trains_as_well(
    phase: Phase, caches: tuple[LatentCache, CaptionBank, ReferenceCache], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    model = build_zero_shot(RECIPE, build_unet(RECIPE), phase, torch.zeros(1, RECIPE.towers.projection))
    assert train_zero_shot(RECIPE, model, phase, *caches, tmp_path, bf16=True)
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in model.parameters())


def test_the_image_tower_goes_on_while_words_stand_still(
    examples: ExampleSet, towers: tuple[Towers, Any], tmp_path: Path
) -> None:
    import copy

    mine = copy.deepcopy(towers[0])
    words = {n: p.clone() for n, p in mine.text.named_parameters()}
    pictures = {n: p.clone() for n, p in mine.vision[1].named_parameters()}
    recipe = replace(SMOKE, vision=replace(SMOKE.vision, images=16, batch=8))
    assert train_vision(recipe, mine, towers[1], examples, tmp_path)
    assert all(torch.equal(p, words[n]) for n, p in mine.text.named_parameters())
    assert any(not torch.equal(p, pictures[n]) for n, p in mine.vision[1].named_parameters())
    assert 0 <= tower_top1(mine.vision[1], examples) <= 1
