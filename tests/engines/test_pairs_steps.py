"""Each step of the pairs engine by itself."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.engines.pairs_scenes import ColourScorer, draw_pairs, truth_tools

from intarsia.engines import EngineError
from intarsia.engines.pairs import PairOptions, TruthRemover, list_instances
from intarsia.engines.pairs.blending import alpha_of, blend, blend_row
from intarsia.engines.pairs.growth import decoy_of, grown_mask, shadow_of
from intarsia.engines.pairs.instructing import AWAY, UNUSABLE, instruct
from intarsia.engines.pairs.judging import best_of, judge
from intarsia.engines.pairs.pairing import pair
from intarsia.engines.pairs.prescoring import gate, prescore
from intarsia.engines.pairs.reading import read
from intarsia.engines.pairs.removing import remove
from intarsia.engines.pairs.samples import mask_of, rgb_of, seed_of
from intarsia.engines.pairs.texts import class_instruction, expression_instruction, fault_of, tidy, with_article
from intarsia.engines.pairs.views import region_view, spread
from intarsia.perception import (
    Description,
    HelperAwayError,
    Noise,
    TemplateWriter,
    TruthDescriber,
    WriterOption,
    box_of,
)

BEST, PAPER = PairOptions.preset("best"), PairOptions.preset("paper")


def disc(size: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    ys, xs = np.indices(size)
    return np.asarray((ys - y) ** 2 + (xs - x) ** 2 <= radius**2)


@pytest.fixture
def row(tmp_path: Path) -> tuple[dict[str, Any], Path, Path]:
    scenes, without = draw_pairs(tmp_path, 1)
    (made,) = read(list_instances(scenes, None)[0], photos=scenes, masks=None, least_side=32)
    (made,) = prescore(made, scorer=ColourScorer())
    return made, scenes, without


def removed(
    row: dict[str, Any], scenes: Path, without: Path, options: PairOptions, noise: float = 0.0
) -> dict[str, Any]:
    ((made,),) = remove([row], remover=TruthRemover(scenes, without, Noise(noise)), options=options)
    return made


# Removal


@given(st.integers(0, 10**6), st.sampled_from(["gaussian", "distance"]), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_far_from_the_mask_all_bytes_are_the_photos(seed: int, profile: str, width: int) -> None:
    draw = np.random.default_rng(seed)
    photo, other = draw.integers(0, 256, (2, 32, 40, 3), np.uint8)
    mask = disc((32, 40), draw.uniform(4, 28), draw.uniform(4, 36), draw.uniform(1, 8))
    alpha = alpha_of(mask, width, profile)
    result = blend(photo, other, alpha)
    far = ~alpha_of(mask, width + 1, "distance").astype(bool)
    assert np.array_equal(result[far], photo[far]) and np.array_equal(result[mask], other[mask])
    assert (alpha[mask] == 1).all() and alpha.min() == 0 and alpha.max() == 1


def test_seeds_and_growth_follow_from_the_key_alone() -> None:
    assert seed_of("a/b/1", 0) == seed_of("a/b/1", 0) != seed_of("a/b/1", 1) != seed_of("a/b/2", 0)
    assert 0 <= seed_of("x", 0) < 2**63
    rgb, mask = np.full((64, 64, 3), 128, np.uint8), disc((64, 64), 32, 32, 8)
    areas = {grown_mask(rgb, mask, f"k{n}", BEST).sum() for n in range(12)}
    assert len(areas) > 2, "masks do not all outline their thing alike"
    assert np.array_equal(grown_mask(rgb, mask, "k0", BEST), grown_mask(rgb, mask, "k0", BEST))
    paper = grown_mask(rgb, mask, "k0", PAPER)
    assert np.array_equal(paper, grown_mask(rgb, mask, "k1", PAPER)) and (mask & ~paper).sum() == 0
    assert box_of(paper) == (21, 21, 23, 23), "3 px of 64 are 4 %"


def test_a_grey_thing_beside_it_is_no_shadow() -> None:
    rgb, mask = np.full((96, 96, 3), 150, np.uint8), disc((96, 96), 50, 62, 10)
    rgb[44:62, 34:52] = 60
    rgb[mask] = (200, 30, 60)
    rgb[56:60, 40:64][~mask[56:60, 40:64]] = 90
    assert grown_mask(rgb, mask, "k0", BEST)[46:56, 36:46].any(), "by its looks alone it is one"
    assert not grown_mask(rgb, mask, "k0", BEST, [(34, 44, 18, 18)])[46:56, 36:46].any()


@given(st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_growth_finds_the_shadow(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rgb = 150 + 20 * np.sin(np.arange(96)[:, None] / 2) + draw.normal(0, 2, (96, 96))
    thing = disc((96, 96), 50, 40, 12)
    shadow = disc((96, 96), 60, 54, 9) & ~thing
    values = np.clip(np.stack([rgb * 1.1, rgb, rgb * 0.8], axis=-1), 0, 255)
    values[shadow] *= 0.65
    values[thing] = (30, 60, 200)
    found = shadow_of(values.astype(np.uint8), thing)
    assert (found & shadow).sum() >= 0.75 * shadow.sum() and (found & ~shadow).sum() <= 0.6 * shadow.sum()
    values[shadow] /= 0.65
    assert shadow_of(values.astype(np.uint8), thing).sum() <= 0.1 * thing.sum()
    values[shadow] = (20, 120, 20)
    other = shadow_of(values.astype(np.uint8), thing)
    assert (other & shadow).sum() <= 0.3 * shadow.sum(), "another thing is no shadow"


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_decoys_touch_no_thing_and_have_the_painted_shape(seed: int) -> None:
    painted, others = disc((60, 90), 30, 20, 8), [(40, 20, 12, 20)]
    decoy = decoy_of(str(seed), painted, others, 1.0)
    assert decoy is not None, "there is room"
    w, h = (box_of(decoy) or (0, 0, 0, 0))[2:]
    assert decoy.sum() == painted.sum() and not (decoy & painted).any()
    assert (w, h) == (17, 17) and decoy[20:40, 40:52].sum() <= 0.1 * decoy.sum()
    assert decoy_of(str(seed), painted, others, 0.0) is None
    assert np.array_equal(decoy, decoy_of(str(seed), painted, others, 1.0))


def test_decoys_are_drawn_for_their_share_and_need_room() -> None:
    painted = disc((60, 90), 30, 20, 8)
    made = [decoy_of(str(n), painted, [], 0.5) is not None for n in range(200)]
    assert 70 < sum(made) < 130
    assert decoy_of("a", np.ones((60, 90), bool), [], 1.0) is None


def test_what_a_removal_is_made_of(row: tuple[dict[str, Any], Path, Path]) -> None:
    source, scenes, without = row
    made = removed(source, scenes, without, BEST)
    assert len(json.loads(made["seeds"])) == 3 and made["grown"] > 1
    painted, mask = mask_of(made["painted.png"]), mask_of(made["mask.png"])
    assert not (mask & ~painted).any()
    two = [dict(source), {**source, "key": "tabletop/000/other"}]
    together = remove(two, remover=TruthRemover(scenes, without, Noise(0.5)), options=BEST)
    for given_row, (batched,) in zip(two, together, strict=True):
        assert batched == removed(given_row, scenes, without, BEST, 0.5), "a row's removal depends on the row alone"
    (judged,) = judge(made, scorer=ColourScorer(), options=BEST)
    (blended,) = blend_row(judged, options=BEST)
    source_rgb, target_rgb = rgb_of(blended["source.png"]), rgb_of(blended["target.png"])
    alpha = alpha_of(painted, round(BEST.blend_width * 96), BEST.blend)
    assert np.array_equal(source_rgb[alpha == 0], target_rgb[alpha == 0]), "source and target differ at the thing alone"
    photo = np.array(Image.open(scenes / "000.png"))
    decoyed = (target_rgb != photo).any(axis=-1)
    if "decoy.png" in made:
        assert decoyed.any() and not (decoyed & (alpha > 0)).any()
    assert not any(name.startswith("candidate_") for name in blended)


# Scores


def test_spreads_are_the_named_ones() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(3, 16)).astype(np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    pairs_ = [float(unit[a] @ unit[b]) for a in range(3) for b in range(a)]
    assert spread(values, "l2norm_trace") == pytest.approx(math.sqrt((1 - 1 / 3) * (1 - np.mean(pairs_))), rel=1e-5)
    assert spread(values, "raw_perdim_mean") == pytest.approx(float(np.std(values, axis=0).mean()), rel=1e-5)
    assert spread(values * 7, "l2norm_trace") == pytest.approx(spread(values, "l2norm_trace"), rel=1e-5)
    assert spread(values * 7, "raw_perdim_mean") == pytest.approx(7 * spread(values, "raw_perdim_mean"), rel=1e-5)
    assert spread(np.repeat(values[:1], 3, axis=0), "l2norm_trace") == pytest.approx(0, abs=1e-6)


def test_the_view_of_a_region_hides_the_rest() -> None:
    rgb = np.full((60, 60, 3), 40, np.uint8)
    rgb[20:40, 20:40] = 200
    rgb[:, 50:] = (255, 0, 0)
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    view = region_view(rgb, mask, (20, 20, 20, 20))
    mean = rgb.reshape(-1, 3).mean(axis=0)
    assert view.shape == (30, 30, 3) and np.abs(view[15, 15].astype(int) - 200).max() <= 2
    assert np.abs(view[0, 0] - mean).max() <= 8


def test_the_best_candidate() -> None:
    assert best_of([[0.3, 0.1, 0.2]]) == 1
    assert best_of([[0.1, 0.2, 0.3], [9.0, 1.0, 2.0], [9.0, 1.0, 2.0]]) == 1
    assert best_of([[0.2, 0.1], [1.0, 2.0]]) == 1, "of equals the first score decides"


def test_scores_tell_good_removals_from_bad_ones(row: tuple[dict[str, Any], Path, Path]) -> None:
    source, scenes, without = row
    options = PairOptions.preset("best", decoys=0.0)
    (good,) = judge(removed(source, scenes, without, options), scorer=ColourScorer(), options=options)
    stays = removed(source, scenes, without, options)
    photo = source["image.png"]
    stays |= {f"candidate_{n}.png": photo for n in range(3)}
    (bad,) = judge(stays, scorer=ColourScorer(), options=options)
    assert good["multimodal"] < bad["multimodal"] == pytest.approx(source["class_similarity"], abs=1e-5)
    assert good["fall"] > 0.05 and good["multimodal_excepted"] == -1 and bad["multimodal_excepted"] == bad["multimodal"]
    assert good["margin"] < bad["margin"] and good["likeness"] < bad["likeness"] == pytest.approx(1, abs=1e-5)
    assert good["change"] > 0.1 > bad["change"] == 0 and good["strangeness"] < bad["strangeness"]
    assert good["outline"] < bad["outline"] and len(json.loads(good["multimodals"])) == 3
    split = {**stays, "candidate_0.png": removed(source, scenes, without, options)["candidate_0.png"]}
    (mixed,) = judge(split, scorer=ColourScorer(), options=PairOptions.preset("paper"))
    assert mixed["candidate"] == 0 and mixed["consensus"] > bad["consensus"] and mixed["distance"] > good["distance"]


def test_the_gate_spares_hopeless_things(row: tuple[dict[str, Any], Path, Path]) -> None:
    source = row[0]
    assert gate(source, bounds={"area": (0.001, None)}) == [source]
    assert gate(source, bounds={"area": (0.9, None)})[0]["rejected"] == "area below 0.9"


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": 1},
        {"dilation": 0.9},
        {"decoys": 2},
        {"consensus": "x"},
        {"codec": "webp"},
        {"quality": 10},
        {"x": 1},
    ],
)
def test_options_have_their_ranges(changes: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        PairOptions.preset("best", **changes)


# Instructions


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("mug", "add a mug"),
        ("umbrella", "add an umbrella"),
        ("unicorn", "add a unicorn"),
        ("hourglass", "add an hourglass"),
        ("uninflated balloon", "add an uninflated balloon"),
        ("scissors", "add scissors"),
        ("a red mug", "add a red mug"),
    ],
)
def test_class_instructions_have_their_articles(noun: str, text: str) -> None:
    assert class_instruction(noun) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("right horse", "add a horse on the right"),
        ("the left most elephant", "add an elephant on the left"),
        ("middle guy in red", "add a guy in red in the middle"),
        ("car", "add a car"),
        ("a yellow umbrella.", "add a yellow umbrella"),
    ],
)
def test_expressions_become_sentences(expression: str, text: str) -> None:
    assert expression_instruction(expression) == text and fault_of(tidy(text), None) is None


def test_texts_are_checked() -> None:
    assert tidy('"Add a a  yellow duck."') == "add a yellow duck" and with_article("the cup") == "the cup"
    good = "add a small red mug with a wide handle"
    assert fault_of(good, "mug") is None and fault_of("put two mugs here", "mug") is None
    assert fault_of("add a dining table", "dining table") is None
    placed = "add a red mug at the top left"
    assert fault_of(placed, "mug") is None and fault_of(placed, "mug", placed=False) == "says where"
    for text, complaint in {
        "a red mug": "verb",
        "": "verb",
        "add": "names nothing",
        "add a red duck": "class",
        "add a the mug": "doubled",
        f"add a mug {'very ' * 30}": "25 words",
        "remove the mug": "verb",
        "add something": "class",
    }.items():
        assert complaint in str(fault_of(text, "mug")), text


class Away:
    name = "away"

    def describe(self, *_: Any) -> Description:
        raise HelperAwayError("nobody is there")


class Says:
    name = "says"

    def __init__(self, text: str) -> None:
        self.text = text

    def write(self, description: str, class_name: str) -> str:
        return self.text


def test_instructions_of_all_kinds_and_without_a_language_model(row: tuple[dict[str, Any], Path, Path]) -> None:
    source, scenes, _ = row
    source = {**source, "expressions": json.dumps(["", "left one", "left duck"])}
    truth = TruthDescriber(scenes, Noise(0.0))
    (full,) = instruct(source, describer=truth, writer=TemplateWriter())
    noun = source["class"]
    assert full["Instruction_Class"] == class_instruction(noun)
    assert full["Instruction_VLM-LLM"].startswith("add a ") and noun in full["Instruction_VLM-LLM"]
    assert full["Instruction_Ref_Dataset"] == "add a duck on the left" and full["instruction_note"] is None
    assert full["object_location"].startswith("the ")
    (away,) = instruct(source, describer=Away(), writer=TemplateWriter())
    assert away["Instruction_VLM-LLM"] == "" and away["instruction_note"] == AWAY
    assert away["Instruction_Class"] == full["Instruction_Class"]
    (odd,) = instruct(source, describer=truth, writer=Says("I cannot see that"))
    assert odd["Instruction_VLM-LLM"] == "" and odd["instruction_note"].startswith(UNUSABLE)
    (none,) = instruct(source, describer=None, writer=None)
    assert none["Instruction_VLM-LLM"] == "" and none["instruction_note"] is None


def test_writers_by_their_options(tmp_path: Path) -> None:
    assert WriterOption().load_describer() is None and isinstance(WriterOption().load_writer(), TemplateWriter)
    for wrong in ({"describer": "gpt"}, {"writer": "openai:http://x"}, {"writer": "truth"}):
        with pytest.raises(Exception, match="is unknown"):
            WriterOption(**wrong)
    assert TemplateWriter().write("orange mug", "mug") == "add an orange mug"


def test_an_unreachable_server_is_asked_twice_and_no_more(
    row: tuple[dict[str, Any], Path, Path], monkeypatch: Any
) -> None:
    from intarsia.perception import ChatClient, ChatDescriber

    tries: list[bytes] = []
    monkeypatch.setattr("intarsia.perception.chat_client._PAUSE", 0.0)
    client = ChatClient("http://127.0.0.1:9/v1", "nobody", retries=0)
    real = ChatClient._post

    def counted(self: ChatClient, body: bytes) -> bytes:
        tries.append(body)
        return real(self, body)

    monkeypatch.setattr(ChatClient, "_post", counted)
    describer = ChatDescriber(client)
    for _ in range(5):
        (made,) = instruct(row[0], describer=describer, writer=TemplateWriter())
        assert made["instruction_note"] == AWAY
    assert len(tries) == 2


def test_a_server_that_hangs_is_left_alone_for_a_while_and_kept_answers_are_used(
    row: tuple[dict[str, Any], Path, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    from intarsia.perception import ChatClient, ChatInstructionWriter
    from intarsia.perception import instruction_writers as writers

    monkeypatch.setattr("intarsia.perception.chat_client._PAUSE", 0.0)
    clock = [1000.0]
    monkeypatch.setattr(writers.time, "monotonic", lambda: clock[0])
    posts: list[int] = []
    silent = [False]

    def post(self: ChatClient, body: bytes) -> bytes:
        posts.append(1)
        if silent[0]:
            clock[0] += 60
            raise self._silence()
        phrase = json.dumps({"phrase": "add a red mug"})
        return json.dumps({"choices": [{"message": {"content": phrase}}]}).encode()

    monkeypatch.setattr(ChatClient, "_post", post)
    writer = ChatInstructionWriter(ChatClient("http://127.0.0.1:9/v1", "m", retries=2, cache_dir=tmp_path))

    def ask(text: str) -> str | None:
        try:
            return writer.write(text, "mug")
        except HelperAwayError:
            return None

    assert ask("known") == "add a red mug" and len(posts) == 1
    silent[0] = True
    assert ask("a") is None and ask("known") == "add a red mug" and ask("b") is None and len(posts) == 7
    waited = clock[0]
    assert [ask("c"), ask("d"), ask("known")] == [None, None, "add a red mug"] and len(posts) == 7
    clock[0] += 601
    assert ask("e") is None and len(posts) == 8, "after a pause it is asked once, without further attempts"
    assert ask("f") is None and clock[0] - waited < 700 and len(posts) == 8
    silent[0] = False
    clock[0] += 541
    assert ask("f") == "add a red mug" and ask("g") == "add a red mug" and len(posts) == 10


def test_both_sides_have_one_codec(row: tuple[dict[str, Any], Path, Path]) -> None:
    source, scenes, without = row
    for options, kind in ((BEST, "JPEG"), (PAPER, "PNG")):
        (made,) = judge(removed(source, scenes, without, options), scorer=ColourScorer(), options=options)
        (made,) = blend_row(made, options=options)
        (made,) = instruct(made, describer=None, writer=None)
        (made,) = pair(made, options=options, names={"scorer": "x"})
        suffix = {"JPEG": "jpg", "PNG": "png"}[kind]
        images = [Image.open(io.BytesIO(made[f"{side}_img.{suffix}"])) for side in ("source", "target")]
        assert [image.format for image in images] == [kind] * 2 and images[0].size == images[1].size
        assert "image.png" not in made and "runs" not in made and made["target_img_dataset"] == "tabletop"
        if kind == "PNG":
            assert np.array_equal(np.array(images[1]), np.array(Image.open(scenes / "000.png")))


def test_tools_are_checked_early(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is unknown"):
        truth_tools(tmp_path, tmp_path).remover.__class__("erase:all")
