"""The world: determinism, exact masks, splits, captions, zoom, and that bounding boxes really bound."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.errors import IntarsiaError
from intarsia.tabletop import (
    LEVELS,
    Scene,
    Subject,
    background_caption,
    caption,
    level,
    object_frame,
    paraphrase,
    photo_scenes,
    render,
    sample_scene,
    split_of,
    split_seed,
    tracing,
    vocabulary_words,
    zoom_window,
)
from intarsia.tabletop.content import UnknownLevelError
from intarsia.tabletop.shapes import SHAPES, bounds, distance
from intarsia.tabletop.vocabulary import ACCESSORIES, CLASSES, COLOURS, MATERIALS, PATTERNS

FULL = level("full")


def test_the_full_world_is_as_rich_as_promised() -> None:
    assert len(FULL.classes) >= 10
    assert len(FULL.colours) >= 11
    assert len([p for p in FULL.patterns if p != "plain"]) >= 4
    assert len(FULL.materials) >= 4
    assert len([a for a in FULL.accessories if a != "none"]) >= 3
    assert set(FULL.classes) == set(SHAPES)
    for name, world in LEVELS.items():
        assert world.name == name
        for kind in ("class", "colour", "pattern", "material", "accessory"):
            assert set(world.values(kind)) <= set(FULL.values(kind))


def test_unknown_level_names_those_there_are() -> None:
    with pytest.raises(UnknownLevelError, match=r"tiny.*small.*full"):
        level("tiny")


def test_same_scene_same_bytes_alone_or_in_a_batch() -> None:
    scenes = [sample_scene(i, FULL) for i in range(3)]
    together = render(scenes, (24, 24))
    again = render(scenes, (24, 24))
    assert torch.equal(together.images, again.images)
    alone = render(scenes[1:2], (24, 24))
    assert torch.allclose(alone.images[0], together.images[1], atol=1e-5)
    assert torch.equal(alone.numbers[0], together.numbers[1])


def test_without_takes_exactly_one_object_away() -> None:
    scene = sample_scene(5, level("small"), objects=2)
    assert len(scene.placements) == 2
    both, one = (render([s], (48, 48)) for s in (scene, scene.without(0)))
    mask = both.visible(0)[0]
    assert mask.any()
    assert not (one.numbers == 2).any()
    changed = (both.images - one.images).abs().amax(1)[0] > 5 / 255
    # Anti-aliased borders aside, every pixel that shows the object changes; far from it nothing does.
    assert changed[mask].float().mean() > 0.9
    assert changed.float().mean() < 0.6
    with pytest.raises(IntarsiaError, match="no object 7"):
        scene.without(7)


@pytest.mark.parametrize("size", [(1, 1), (7, 31), (40, 20)])
def test_any_size(size: tuple[int, int]) -> None:
    rendering = render([sample_scene(1, FULL)], size)
    assert rendering.images.shape == (1, 3, *size)
    assert torch.isfinite(rendering.images).all()
    assert float(rendering.images.min()) >= 0 and float(rendering.images.max()) <= 1


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(IntarsiaError, match="0x8"):
        render([Scene()], (0, 8))
    with pytest.raises(IntarsiaError, match="0 scenes"):
        render([], (8, 8))
    with pytest.raises(IntarsiaError, match="1 scenes through 2 rectangles"):
        render([Scene()], (8, 8), [(0.0, 0.0, 1.0, 1.0)] * 2)


def test_an_empty_table_is_a_scene_like_any_other() -> None:
    scene = sample_scene(5, level("small"), objects=1)
    alone = render([scene.without(0)], (24, 24))
    beside = render([scene.without(0), scene], (24, 24))
    assert not alone.numbers.any() and beside.numbers[1].any()
    assert torch.allclose(alone.images[0], beside.images[0], atol=1e-6)


def test_work_follows_the_pixels_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes rendering fast, counted instead of timed: few points a pixel, and few calls for many pictures."""
    calls, points = 0, 0
    true_distance = tracing.distance

    def counted(name: str, accessory: str, x: torch.Tensor, *rest: object) -> torch.Tensor:
        nonlocal calls, points
        calls, points = calls + 1, points + x.numel()
        return true_distance(name, accessory, x, *rest)  # type: ignore[arg-type]

    def cost(scenes: list[Scene]) -> tuple[int, int]:
        nonlocal calls, points
        calls = points = 0
        render(scenes, (32, 32))
        return calls, points

    monkeypatch.setattr(tracing, "distance", counted)
    subject = Subject.sample(9, FULL)
    scenes = [sample_scene(i, FULL, (subject,), 1) for i in range(6)]
    one, all_together = cost(scenes[:1]), cost(scenes)
    # Marching every pixel would ask for some sixty points each.
    assert 0 < all_together[1] / (6 * 32 * 32) < 12
    assert all_together[0] < 2 * one[0]
    assert cost([s.without(0) for s in scenes]) == (0, 0)


@given(st.integers(0, 10_000))
def test_splits_are_disjoint_and_invertible(index: int) -> None:
    seeds = {split: split_seed(split, index) for split in ("train", "validation", "test")}
    assert {split_of(seed) for seed in seeds.values()} == set(seeds)
    assert all(split_of(seed) == split for split, seed in seeds.items())


def test_train_seeds_do_not_repeat() -> None:
    seeds = [split_seed("train", i) for i in range(1000)]
    assert len(set(seeds)) == 1000


@given(
    name=st.sampled_from(sorted(SHAPES)),
    accessory=st.sampled_from(sorted(ACCESSORIES)),
    k=st.tuples(*[st.floats(-1, 1)] * 4),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_nothing_of_a_toy_is_outside_its_box(
    name: str, accessory: str, k: tuple[float, float, float, float], seed: int
) -> None:
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(seed)) * 3.2 - 1.4
    low, high = (torch.tensor(c) for c in bounds(name, accessory))
    outside = points[((points < low) | (points > high)).any(1)]
    x, y, z = outside.unbind(1)
    proportions = tuple(torch.full_like(x, v) for v in k)
    assert float(distance(name, accessory, x, y, z, proportions).min()) > 0  # type: ignore[arg-type]


def test_subjects_differ_in_what_no_caption_says() -> None:
    subjects = [Subject.sample(i, level("small")) for i in range(200)]
    assert len({(s.proportions, s.marks, s.phase) for s in subjects}) == 200
    assert Subject.sample(3, FULL) == Subject.sample(3, FULL)


def test_captions_name_every_attribute_and_paraphrases_vary() -> None:
    subject = replace(
        Subject.sample(1, FULL), name="duck", colour="red", material="metal", pattern="striped",
        second_colour="white", accessory="hat", accessory_colour="blue",
    )  # fmt: skip
    assert caption(subject.attributes) == "a photo of a red metal duck with white stripes wearing a blue hat"
    draw = random.Random(0)
    said = {paraphrase(subject.attributes, draw) for _ in range(50)}
    assert len(said) > 25
    assert any("toy duck" in s for s in said)
    assert any("sks" in s for s in said)
    known = set(vocabulary_words())
    for sentence in said:
        assert {w.strip(",") for w in sentence.split()} <= known
    assert background_caption("wood") == "an empty table"


def test_words_of_every_table_are_in_the_vocabulary() -> None:
    known = set(vocabulary_words())
    for table in (CLASSES, PATTERNS, MATERIALS, ACCESSORIES):
        for synonyms in table.values():
            for phrase in synonyms:
                assert set(phrase.split()) <= known
    assert set(COLOURS) <= known


def test_photos_show_one_subject_from_several_sides() -> None:
    subject = Subject.sample(11, level("small"))
    scenes = photo_scenes(subject, level("small"), 5)
    assert all(s.placements[0].subject == subject and len(s.placements) == 1 for s in scenes)
    assert len({round(s.placements[0].yaw, 2) for s in scenes}) == 5


def test_zoom_fills_the_share_it_promises() -> None:
    scene = sample_scene(2, level("small"), objects=1)
    window = zoom_window(scene, 0, 0.7, random.Random(0))
    left, top, right, bottom = object_frame(scene, 0)
    assert max(right - left, bottom - top) / (window[2] - window[0]) == pytest.approx(0.7, abs=1e-6)
    seen = render([scene], (48, 48), [window]).visible(0)[0]
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    extent = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
    assert 0.45 < extent / 48 < 0.75
