"""Training the instruction model: what a view shows and says, what is dropped, what moves, and resuming exactly."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backbones.instruct_models import published_layout
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.training.pair_folders import row, write_shards

from intarsia.backbones import Backbone, load_instruct_base, load_instruct_model, start_instructions
from intarsia.errors import IntarsiaError
from intarsia.training.instruct import draw_dropout, freeze, train_instruct
from intarsia.training.instruct_recipe import PAPER_INSTRUCT, SMOKE_INSTRUCT, InstructRecipe, instruct_recipe
from intarsia.training.instruct_stage import run_instruct
from intarsia.training.pair_cache import CachedPairs, PairBatches, PairCache, StreamedPairs, cache_pairs
from intarsia.training.pair_rows import Bools, PairError, decode_pair
from intarsia.training.pair_stream import ShardStream
from intarsia.training.pair_views import at, crop_box, view_of
from intarsia.training.run import OtherRecipeError

RECIPE = replace(SMOKE_INSTRUCT, images=24, batch=6, side=32, crops=2)


def third(mask: Bools) -> str:
    """The place of a mask, left, center or right."""
    xs = np.flatnonzero(mask.any(0))
    return "the " + ("left", "center", "right")[int(xs.mean() * 3 / mask.shape[1])]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("pairs") / "engine", (3, 4))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("models") / "base"
    save_tiny(tiny_backbone(prediction_type="v_prediction"), folder)
    return load_instruct_base(folder)


@pytest.fixture(scope="module")
def cache(pairs: Path, base: Backbone) -> PairCache:
    return cache_pairs(base, ShardStream(pairs).once(), RECIPE, place_of=third)


# Views


@given(
    seed=st.integers(0, 10_000),
    zoom=st.floats(1.0, 3.0),
    box=st.tuples(st.integers(0, 39), st.integers(0, 55), st.integers(1, 40), st.integers(1, 56)),
)
@settings(max_examples=40, deadline=None)
def test_a_crop_is_a_square_inside_the_picture_that_holds_the_object(
    seed: int, zoom: float, box: tuple[int, int, int, int]
) -> None:
    top, left, height, width = box
    mask = np.zeros((40, 56), bool)
    mask[top : top + height, left : left + width] = True
    x0, y0, x1, y1 = crop_box(mask, zoom, random.Random(seed))
    assert x1 - x0 == pytest.approx(y1 - y0) and 40 / zoom - 1e-6 <= x1 - x0 <= 40
    assert x0 >= -1e-6 and x1 <= 56 + 1e-6 and y0 >= -1e-6 and y1 <= 40 + 1e-6
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert y0 <= rows[0] + 1e-6 and rows[-1] + 1 <= y1 + 1e-6
    if len(columns) <= x1 - x0:
        assert x0 <= columns[0] + 1e-6 and columns[-1] + 1 <= x1 + 1e-6
    else:
        assert mask[:, int(x0 + 0.5) : int(x1 - 0.5)].any(0).all()


def test_crops_are_truly_random_and_keep_the_aspect() -> None:
    pair = decode_pair("k", row(2), "d")
    assert len({crop_box(pair.mask, 1.0, random.Random(n)) for n in range(20)}) > 10
    recipe = replace(RECIPE, zoom=(1.0, 1.0), flip=0.0)
    for n in range(5):
        view = view_of(pair, recipe, 40, random.Random(n))
        ys, xs = np.flatnonzero(view.mask.any(1)), np.flatnonzero(view.mask.any(0))
        assert abs(len(ys) - len(xs)) <= 1  # the square is square
        # Both pictures are cut alike: they differ in the square (and its resampled edge) alone.
        near = np.zeros_like(view.mask)
        near[max(0, ys[0] - 3) : ys[-1] + 4, max(0, xs[0] - 3) : xs[-1] + 4] = True
        differs = (view.source != view.target).any(2)
        assert differs.any() and not (differs & ~near).any()


def test_a_mirrored_view_is_asked_for_at_the_other_side() -> None:
    pair = decode_pair("k", row(0, **{"Instruction_Class": "add a square left of the cup"}), "d")
    plain = view_of(pair, replace(RECIPE, flip=0.0), 32, random.Random(1))
    mirrored = view_of(pair, replace(RECIPE, flip=1.0), 32, random.Random(1))
    assert plain.plain == ("add a red square 0", "add a square left of the cup")
    assert plain.placed[0] == "add a red square 0 at the left"
    assert mirrored.plain[1] == "add a square right of the cup" and mirrored.placed[0].endswith("at the right")
    # A place that is known from the mask goes with what the view shows.
    for n in range(10):
        view = view_of(pair, RECIPE, 32, random.Random(n), third)
        assert view.placed[0] == at(view.plain[0], third(view.mask))
    nowhere = view_of(decode_pair("k", row(0, object_location=""), "d"), RECIPE, 32, random.Random(1))
    assert nowhere.placed == () and at("add a mug.", "the top left") == "add a mug at the top left"


# Latents


def test_sources_are_unscaled_modes_and_targets_scaled(base: Backbone, pairs: Path) -> None:
    still = replace(RECIPE, crops=1, flip=0.0, zoom=(1.0, 1.0))
    cache = cache_pairs(base, ShardStream(pairs).once(), still)
    assert len(cache) == 7 and cache.datasets == ["engine"] and cache.source.dtype is torch.float16
    draw = random.Random("view-7-engine-00002-0")
    view = view_of(list(ShardStream(pairs).once())[2], still, 32, draw)
    image = torch.from_numpy(view.source).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mode = base.vae.encode(image).latent_dist.mode()[0]
    torch.testing.assert_close(cache.source[2].float(), mode, atol=2e-2, rtol=1e-2)
    moments = base.encode_moments(torch.from_numpy(view.target).permute(2, 0, 1)[None].float() / 127.5 - 1)
    generator = torch.Generator().manual_seed(draw.getrandbits(62))
    target = base.latents_from_moments(moments, [generator], sample=True)[0]
    torch.testing.assert_close(cache.target[2].float(), target, atol=2e-2, rtol=1e-2)
    assert cache.mask[2].any() and not cache.mask[2].all()


def test_the_cache_can_be_kept(cache: PairCache, tmp_path: Path) -> None:
    cache.save(tmp_path / "pairs.pt")
    again = PairCache.load(tmp_path / "pairs.pt")
    assert len(again) == 14 and again.texts == cache.texts and torch.equal(again.placed, cache.placed)
    with pytest.raises(PairError, match="no training pairs"):
        cache_pairs(tiny_backbone(), [], RECIPE)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_instructions_are_chosen_evenly_and_say_the_place_in_a_share(
    share: float, base: Backbone, cache: PairCache
) -> None:
    batches = CachedPairs(base, cache, replace(RECIPE, location_share=share))
    batches._tokens = torch.arange(len(cache.texts))[:, None, None].half()
    batches._pooled = torch.zeros(len(cache.texts), 1)
    words = batches.batch(0, torch.Generator().manual_seed(0), 4000).words
    seen = [cache.texts[int(index)] for index in words.tokens[:, 0, 0]]
    assert np.mean([" at the " in text for text in seen]) == pytest.approx(share, abs=0.03)
    assert np.mean(["red" in text for text in seen]) == pytest.approx(0.5, abs=0.03)
    assert not any(text == "" for text in seen)


def test_datasets_are_drawn_by_weight(base: Backbone, cache: PairCache) -> None:
    two = replace(cache, dataset=torch.tensor([0] * 12 + [1] * 2), datasets=["a", "b"])
    marked = replace(two, mask=torch.ones_like(cache.mask) & (two.dataset == 1)[:, None, None, None])
    batches = CachedPairs(base, marked, RECIPE, {"a": 1.0, "b": 3.0})
    drawn = batches.batch(0, torch.Generator().manual_seed(0), 2000).mask[:, 0, 0, 0]
    assert float(drawn.mean()) == pytest.approx(0.75, abs=0.04)
    with pytest.raises(PairError, match="weights and datasets differ in c"):
        CachedPairs(base, marked, RECIPE, {"a": 1.0, "b": 1.0, "c": 1.0})


def test_a_streams_batches_follow_from_the_step(base: Backbone, pairs: Path) -> None:
    def batches() -> StreamedPairs:
        return StreamedPairs(base, ShardStream(pairs, seed=2), RECIPE, place_of=third, threads=2)

    walking, generator = batches(), torch.Generator()
    steps = [walking.batch(step, generator, 6) for step in range(3)]
    jumped = batches().batch(2, generator, 6)
    assert torch.equal(jumped.target, steps[2].target) and torch.equal(jumped.words.tokens, steps[2].words.tokens)
    # Two processes share a step.
    halves = [batches().batch(1, generator, 3, process) for process in (0, 1)]
    assert torch.equal(torch.cat([half.source for half in halves]), steps[1].source)
    assert steps[0].source.shape == (6, 4, 4, 4) and steps[0].mask.shape == (6, 1, 4, 4)


# Training


def test_dropout_is_one_uniform_draw() -> None:
    words, image = draw_dropout(0.05, 100_000, torch.Generator().manual_seed(0))
    for lost, share in ((~words & image, 0.05), (~words & ~image, 0.05), (words & ~image, 0.05), (words & image, 0.85)):
        assert float(lost.float().mean()) == pytest.approx(share, abs=0.003)


class Recorder(torch.nn.Module):
    """A U-Net that keeps what it is shown."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet, self.config, self.shown = unet, unet.config, []

    def forward(self, x: torch.Tensor, t: torch.Tensor, **more: Any) -> Any:
        self.shown.append((x, t, more))
        return self.unet(x, t, **more)


def test_dropped_sources_are_zeros_and_dropped_words_the_empty_condition(
    base: Backbone, cache: PairCache, tmp_path: Path
) -> None:
    recorder = Recorder(start_instructions(copy.deepcopy(base.unet)))
    recipe = replace(RECIPE, dropout=0.2, images=60)
    assert train_instruct(recipe, recorder, CachedPairs(base, cache, recipe), base, tmp_path)
    x = torch.cat([shown[0] for shown in recorder.shown])
    more = [shown[2] for shown in recorder.shown]
    tokens = torch.cat([m["encoder_hidden_states"] for m in more])
    no_image = ~x[:, 4:].flatten(1).any(1)
    no_words = ~tokens.flatten(1).any(1)  # this base wants zeros
    assert x.shape[1] == 8 and 0 < no_image.sum() < len(x) and 0 < no_words.sum() < len(x)
    assert (no_image & no_words).any() and (no_image & ~no_words).any() and (~no_image & no_words).any()
    assert all(m["added_cond_kwargs"]["time_ids"].shape == (6, 6) for m in more)
    pooled = torch.cat([m["added_cond_kwargs"]["text_embeds"] for m in more])
    assert torch.equal(~pooled.any(1), no_words)


def new_unet(base: Backbone) -> Any:
    return start_instructions(copy.deepcopy(base.unet), scaling_factor=float(base.vae.config.scaling_factor))


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_frozen_stays_and_a_run_in_pieces_ends_the_same(
    streamed: bool, base: Backbone, cache: PairCache, pairs: Path, tmp_path: Path
) -> None:
    def batches() -> PairBatches:
        if streamed:
            return StreamedPairs(base, ShardStream(pairs), RECIPE, place_of=third, threads=1)
        return CachedPairs(base, cache, RECIPE)

    def run(folder: Path, minutes: float | None = None) -> tuple[Any, bool]:
        unet = new_unet(base)
        return unet, train_instruct(RECIPE, unet, batches(), base, folder, minutes=minutes)

    whole, finished = run(tmp_path / "whole")
    assert finished
    before = new_unet(base).state_dict()
    moved = {name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(freeze(whole, RECIPE)) and "conv_in.weight" in moved and "conv_in.bias" in moved
    assert not any(name.startswith("mid_block.resnets") for name in moved)
    assert not run(tmp_path / "pieces", minutes=0.0)[1]
    finished = False
    while not finished:
        pieces, finished = run(tmp_path / "pieces", minutes=0.0005)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, pieces.state_dict()[name]), name


def test_micro_batches_sum_to_the_same_gradient(base: Backbone, cache: PairCache, tmp_path: Path) -> None:
    results = []
    for limit in (None, 4, 1):
        recipe, unet = replace(RECIPE, micro_batch=limit, images=6, object_weight=1.0), new_unet(base)
        train_instruct(recipe, unet, CachedPairs(base, cache, recipe), base, tmp_path / str(limit))
        state = torch.load(tmp_path / str(limit) / "instruct.pt", weights_only=True)
        moments = [value["exp_avg"].flatten() for value in state["optimizer"]["state"].values()]
        results.append(torch.cat(moments))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(results[0], results[2], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("streamed", [False, True])
def test_bfloat16_trains_as_well(streamed: bool, base: Backbone, cache: PairCache, pairs: Path, tmp_path: Path) -> None:
    recipe, unet = replace(RECIPE, micro_batch=2, images=12), new_unet(base)
    stream = StreamedPairs(base, ShardStream(pairs), recipe, threads=1)
    batches: PairBatches = stream if streamed else CachedPairs(base, cache, recipe)
    assert train_instruct(recipe, unet, batches, base, tmp_path, bf16=True)
    assert unet.conv_in.weight.dtype is torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        low = stream.batch(0, torch.Generator(), 6)
    high = stream.batch(0, torch.Generator(), 6)
    assert torch.equal(low.source, high.source) and torch.equal(low.words.tokens, high.words.tokens)


def test_the_object_can_weigh_more(base: Backbone, cache: PairCache, tmp_path: Path) -> None:
    for weight in (1.0, 20.0):
        recipe, unet = replace(RECIPE, object_weight=weight), new_unet(base)
        train_instruct(recipe, unet, CachedPairs(base, cache, recipe), base, tmp_path / str(weight))
    logs = [(tmp_path / str(weight) / "instruct.jsonl").read_text() for weight in (1.0, 20.0)]
    assert logs[0] != logs[1]


# The stage


def test_the_stage_writes_a_model_that_loads(base: Backbone, pairs: Path, tmp_path: Path) -> None:
    assert base.path is not None
    said: list[str] = []

    def run(out: str, minutes: float | None = None, recipe: InstructRecipe = RECIPE) -> bool:
        return run_instruct(
            recipe, [pairs], tmp_path / "run", tmp_path / out, base=base.path or "", minutes=minutes, say=said.append
        )

    assert not run("add", minutes=0.0) and not (tmp_path / "add").exists()
    assert run("add") and said
    loaded = load_instruct_model(tmp_path / "add")
    assert loaded.kind == "instruct" and any(loaded.unet.conv_in.weight[:, 4:].flatten())
    final = torch.load(tmp_path / "run" / "instruct.final.pt", weights_only=True)
    for name, value in loaded.unet.state_dict().items():
        torch.testing.assert_close(value, final[name], atol=1e-3, rtol=1e-3)
    assert run("again")  # finished already: only written once more
    assert load_instruct_model(tmp_path / "again").hash == loaded.hash
    with pytest.raises(OtherRecipeError, match="another recipe"):
        run("add", recipe=replace(RECIPE, batch=4))


def test_a_one_tower_base_trains_on_a_stream(pairs: Path, tmp_path: Path) -> None:
    published_layout(tmp_path / "sd", channels=4)
    recipe = replace(PAPER_INSTRUCT, images=4, batch=2, side=32, micro_batch=1)
    assert run_instruct(
        recipe, [pairs, pairs], tmp_path / "run", tmp_path / "add", base=tmp_path / "sd", weights=(1, 2), stream=True
    )
    loaded = load_instruct_model(tmp_path / "add")
    assert loaded.text_encoder_2 is None and loaded.kind == "instruct"


def test_presets() -> None:
    paper = instruct_recipe("paper")
    assert paper is PAPER_INSTRUCT and paper.images == 53_293_800
    assert (paper.side, paper.batch, paper.learning_rate, paper.warmup, paper.clip) == (256, 4096, 5e-5, 0, 1.0)
    assert (paper.dropout, paper.location_share, paper.floor) == (0.05, 0.25, 1.0)
    assert paper.hash != instruct_recipe("miniature").hash
    with pytest.raises(IntarsiaError, match="unknown instruct preset 'x'"):
        instruct_recipe("x")
