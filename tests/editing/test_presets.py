"""Presets are data: what a request does not name comes from the preset and the verb."""

from __future__ import annotations

from intarsia.request import PRESETS, REFERENCE_AND_WORDS, SUBJECT, EditRequest

BASE = {"scene_sha256": "0", "box": "1,1,4,4"}


def test_removal_asks_for_less_guidance_and_more_surroundings() -> None:
    insert = EditRequest(verb="insert", prompt="a mug", **BASE)
    remove = EditRequest(verb="remove", **BASE)
    assert remove.guidance_scale < insert.guidance_scale
    assert remove.lam < insert.lam
    assert remove.growth > insert.growth
    assert EditRequest(verb="remove", lam=1.0, growth=0, **BASE).lam == 1.0


def test_a_learned_subject_is_guided_more_and_loses_half_of_an_attribute_by_default() -> None:
    words = {"verb": "insert", "prompt": "a red mug", **BASE}
    plain, learned = EditRequest(**words), EditRequest(**words, subject_sha256="0")
    assert (learned.guidance_scale, learned.attribute_strength) == (4.0, 0.5)
    assert plain.guidance_scale == PRESETS["default"]["guidance_scale"] < learned.guidance_scale
    assert EditRequest(**words, subject="mug.safetensors", attribute_strength=1).attribute_strength == 1
    assert EditRequest(**words, subject_sha256="0", preset="paper").attribute_strength == 1
    assert not SUBJECT["paper"]
    shown = EditRequest(**words, subject_sha256="0", reference_sha256=("0",))
    assert shown.guidance_scale == REFERENCE_AND_WORDS["default"]["guidance_scale"]


def test_adding_is_as_published_or_the_best_of_several() -> None:
    words = {"verb": "add", "scene_sha256": "0", "instruction": ("a mug",)}
    paper = EditRequest(**words, preset="paper")
    assert (paper.steps, paper.scheduler, paper.finish) == (50, "euler_a", "direct")
    assert (paper.guidance_scale, paper.image_guidance_scale, paper.chain) == (7.0, 1.5, "plain")
    default = EditRequest(**words)
    assert (default.finish, default.chain, default.add_model) == ("repaint", "restored", "miniature-add")
    assert EditRequest(**words, finish="direct", image_guidance_scale=2).image_guidance_scale == 2


def test_paper_keeps_the_published_settings_for_both_verbs() -> None:
    for verb in ("insert", "remove"):
        request = EditRequest(verb=verb, prompt="a mug", preset="paper", **BASE)
        assert (request.steps, request.guidance_scale, request.lam) == (30, 4.0, 0.7)
        assert request.feather == PRESETS["paper"]["feather"]
