"""The recipe's parts at toy size: tokenizer, masks, VAE normalisation, loop resume, cached samples."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from intarsia.errors import IntarsiaError
from intarsia.tabletop import level, vocabulary_words
from intarsia.training.__main__ import main
from intarsia.training.examples import ExampleSet, draw_example, render_shard
from intarsia.training.latents import cache_latents
from intarsia.training.loop import DivergedError, LoopConfig, train
from intarsia.training.masks import SHAPES, bounding_box, draw_mask
from intarsia.training.miniature import Run
from intarsia.training.recipe import CPU, SMOKE, recipe
from intarsia.training.run import OtherRecipeError
from intarsia.training.tokenizer import build_tokenizer, learn_merges
from intarsia.training.towers import attribute_targets, object_crops
from intarsia.training.vae import build_vae, normalise_latents, to_tensor


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    arrays = render_shard([draw_example(i, level("small"), 7) for i in range(6)], 32)
    path = tmp_path_factory.mktemp("examples") / "shard.npz"
    np.savez(path, **arrays)
    return ExampleSet.load([path])


def test_recipe_hash_follows_every_setting() -> None:
    assert CPU.hash == recipe("cpu").hash
    assert replace(CPU, unet=replace(CPU.unet, learning_rate=1e-5)).hash != CPU.hash
    with pytest.raises(IntarsiaError, match="smoke, cpu, gpu"):
        recipe("huge")


def test_every_word_of_the_world_is_one_token_and_any_text_encodes() -> None:
    tokenizer = build_tokenizer(vocabulary_words(), 32)
    for word in vocabulary_words():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    for text in ("zyzzyva 123", "Grüße, мир! 🙂", "sks"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
        # CLIP's rule splits digits one by one, so spaces may differ.
        assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")
    padded = tokenizer("a red mug", padding="max_length", truncation=True).input_ids
    assert len(padded) == 32


def test_merges_end_when_words_are_whole() -> None:
    assert learn_merges(["ab", "abc"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]


@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 500),
    box=st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(3, 20)] * 2),
)
@settings(max_examples=60, deadline=None)
def test_masks_cover_the_object(shape: str, seed: int, box: tuple[int, int, int, int]) -> None:
    x, y, w, h = box
    silhouette = np.zeros((48, 48), bool)
    silhouette[y : y + h, x : x + w] = True
    mask = draw_mask(shape, silhouette, random.Random(seed))
    assert mask.shape == silhouette.shape
    covered = (mask & silhouette).sum() / silhouette.sum()
    assert covered > (0.75 if shape == "scribble" else 0.999)
    if shape == "box":
        left, top, right, bottom = bounding_box(mask)
        assert mask[top:bottom, left:right].all()


def test_examples_pair_subjects_and_differ_only_by_the_target(examples: ExampleSet) -> None:
    assert examples.seeds[0] == examples.seeds[1] != examples.seeds[2]
    outside = ~examples.full
    difference = np.abs(examples.present.astype(int) - examples.absent.astype(int)).max(3)
    assert difference[outside].max() <= 5
    assert (examples.silhouette & ~examples.full).sum() == 0


def test_targets_of_captions(examples: ExampleSet) -> None:
    world = level("small")
    targets = attribute_targets(examples.attributes, world)
    for row, attributes in zip(targets, examples.attributes, strict=True):
        assert world.classes[row[0]] == attributes["class"]
        assert (row[5] == -100) == ("second_colour" not in attributes)


def test_object_crops_centre_the_object(examples: ExampleSet) -> None:
    marked = replace(examples, present=np.repeat(examples.silhouette[..., None], 3, 3).astype(np.uint8) * 255)
    crops = (object_crops(marked, [0, 2, 4], margin=(1.2, 1.2), side=32) + 1) / 2
    ys, xs = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for crop in crops:
        seen = crop[0] > 0.5
        assert 0.6 < max(int(seen.any(0).sum()), int(seen.any(1).sum())) / 32 <= 1
        assert abs(float(xs[seen].min() + xs[seen].max()) / 2 - 15.5) < 3
        assert abs(float(ys[seen].min() + ys[seen].max()) / 2 - 15.5) < 3


def test_normalised_latents_decode_to_the_same_picture(examples: ExampleSet) -> None:
    torch.manual_seed(0)
    vae = build_vae(SMOKE).eval()
    x = to_tensor(examples.present)
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        spread = vae.encode(x).latent_dist.std
        old = vae.encode(x).latent_dist.mean.std((0, 2, 3))
        normalise_latents(vae, x)
        posterior = vae.encode(x).latent_dist
        after = vae.decode(posterior.mean).sample
    assert torch.allclose(before, after, atol=1e-3)
    assert torch.allclose(posterior.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(posterior.mean.std((0, 2, 3)), torch.ones(4), atol=1e-2)
    assert torch.allclose(posterior.std * old[None, :, None, None], spread, rtol=1e-3)


def test_cached_samples_show_the_object_only_inside_the_mask(examples: ExampleSet) -> None:
    torch.manual_seed(0)
    vae = build_vae(SMOKE).eval()
    cache = cache_latents(vae, examples, seed=1)
    assert len(cache) == 3 * len(examples)
    assert cache.empty.tolist() == [False, False, True] * len(examples)
    assert cache.target.shape[1:] == cache.masked.shape[1:] == (4, 8, 8)
    assert cache.mask.flatten(1).any(1).all()
    again = cache_latents(vae, examples, seed=1)
    assert torch.equal(cache.target, again.target) and torch.equal(cache.mask, again.mask)


def test_an_unknown_stage_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["training", "--stage", "unett"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "'unett'" in capsys.readouterr().err


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def loss(self, step: int, generator: Generator) -> Tensor:
        x = torch.randn(8, 3, generator=generator)
        return ((x @ self.weight) - x.sum(1)).square().mean()


def _config(**changes: object) -> LoopConfig:
    return replace(LoopConfig("line", 800, 8, 0.1, 3, warmup=8, ema_half_life=20), **changes)  # type: ignore[arg-type]


def test_a_run_in_pieces_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, pieces = Line(), Line()
    assert train(whole, whole.loss, _config(), tmp_path / "whole")
    calls = 0

    def interrupted(step: int, generator: Generator) -> Tensor:
        nonlocal calls
        calls += 1
        return pieces.loss(step, generator)

    assert not train(pieces, interrupted, _config(minutes=0.0), tmp_path / "pieces")
    assert calls == 0
    for allowance in (0.001, 0.001, None):
        pieces = Line()
        finished = train(pieces, pieces.loss, _config(minutes=allowance), tmp_path / "pieces")
    assert finished
    assert torch.equal(whole.weight, pieces.weight)
    assert torch.allclose(whole.weight, torch.ones(3), atol=0.05)


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path: Path) -> None:
    line = Line()
    with pytest.raises(DivergedError, match="lower the learning rate"):
        train(line, lambda s, g: line.loss(s, g) * float("nan"), _config(), tmp_path)


def test_a_runs_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    Run(SMOKE, tmp_path)
    Run(SMOKE, tmp_path)
    with pytest.raises(OtherRecipeError, match="another recipe"):
        Run(replace(SMOKE, seed=8), tmp_path)
