"""Instructions in words: their parts, their places, and what they may not ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.perception import (
    PLACES,
    InstructionError,
    PerceptionError,
    PlaceError,
    parse_instruction,
    place_box,
    place_of,
    place_region,
)


@pytest.mark.parametrize(
    ("text", "prompt", "place"),
    [
        ("add a red mug at the left", "a red mug", "the left"),
        ("red mug", "a red mug", None),
        ("a mug", "a mug", None),
        ("put two ducks on the table", "two ducks", None),
        ("Please, could you add a lamp in the lower left corner?", "a lamp", "the bottom left"),
        ("include an orange ball in the middle of the table", "an orange ball", "the center"),
        ("insert a clay robot, at the bottom right", "a clay robot", "the bottom right"),
        ("add a vase with white stripes to the top-right corner of the picture.", "a vase with white stripes",
         "the top right"),
        ("add a woman in a red dress on the right hand side", "a woman in a red dress", "the right"),
        ("draw a car in red", "a car in red", None),
        ("place on the table a cup of coffee", "a cup of coffee", None),
        ("put at the top a cup of coffee", "a cup of coffee", "the top"),
        ("add a hat on the dog", "a hat", None),
        ("add a flower in the vase", "a flower", None),
        ("add a mug next to the teapot", "a mug", None),
        ("add a mug to the left of the teapot", "a mug", None),
        ("add a lace on the left shoe", "a lace", None),
        ("add a a yellow  duck wearing a hat", "a yellow duck wearing a hat", None),
        ("add the duck", "a duck", None),
        ("add a sign that says delete me", "a sign that says delete me", None),
        ("at the left, add a red mug", "a red mug", "the left"),
        ("on the left add a mug", "a mug", "the left"),
        ("on the table, put a mug", "a mug", None),
        ("add a mug in the left upper corner", "a mug", "the top left"),
        ("add a mug, please", "a mug", None),
        ("add a red mug right next to the teapot", "a red mug", None),
        ("I want a red mug", "a red mug", None),
        ("I'd like you to add an owl, thanks!", "an owl", None),
        ("create a red mug", "a red mug", None),
        ("give me a mug at the right", "a mug", "the right"),
        ("set a mug on the table", "a mug", None),
        ("add 2 mugs", "2 mugs", None),
        ("add flowers", "flowers", None),
        ("owl", "an owl", None),
        ("clear glass vase", "a clear glass vase", None),
        ("add a vase, clear glass", "a vase, clear glass", None),
        ("change purse", "a change purse", None),
        ("make-up bag", "a make-up bag", None),
        ("add an inside-out shirt", "an inside-out shirt", None),
        ("add a delete key", "a delete key", None),
        ("make a red mug", "a red mug", None),
    ],
)  # fmt: skip
def test_what_is_added_and_where(text: str, prompt: str, place: str | None) -> None:
    instruction = parse_instruction(text)
    assert (instruction.prompt, instruction.place) == (prompt, place)


def test_the_words_keep_relations_and_get_a_verb() -> None:
    assert parse_instruction(" a mug  next to the teapot. ").words == "add a mug next to the teapot"
    assert parse_instruction("Put a a mug at the left").words == "Put a mug at the left"
    moved = parse_instruction("put a mug at the left")
    assert moved.at("the top right") == "add a mug at the top right"
    assert moved.at("upper left corner") == "add a mug at the top left"
    assert parse_instruction(moved.at("the bottom")).place == "the bottom"
    with pytest.raises(PlaceError, match="'nowhere' is no place"):
        moved.at("nowhere")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a mug", 1), ("two mugs", 2), ("add a mug and a duck", 2), ("a duck with hat and scarf", 1), ("2 mugs", 2),
        ("several mugs", 2), ("six mugs", 6), ("a couple of mugs", 2), ("a mug plus a duck", 2), ("flowers", 2),
        ("a robot wearing a hat and a scarf", 1), ("a glass", 1), ("a bus", 1), ("some water", 1), ("a dress", 1),
        ("a vase of flowers", 1), ("a bottle and two glasses", 3),
    ],
)  # fmt: skip
def test_how_many_things(text: str, count: int) -> None:
    assert parse_instruction(text).count == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("add", "names nothing"),
        ("add it", "names nothing"),
        ("put something there", "names nothing"),
        ("add another one", "names nothing"),
        ("at the left", "names nothing"),
        ("add a thing at the left", "names nothing"),
        ("add 12 !!", "names nothing"),
        ("remove the mug", "asks to remove"),
        ("please erase the mug", "asks to erase"),
        ("take the mug away", "asks to take"),
        ("Get rid of the duck", "asks to get"),
        ("add a mug and remove the duck", "asks to remove"),
        ("add a mug, then delete the duck", "asks to delete"),
        ("replace the mug with a duck", "asks to replace"),
        ("turn the mug blue", "asks to turn"),
        ("let's remove the mug", "asks to remove"),
        ("just remove the mug", "asks to remove"),
        ("we should delete the duck", "asks to delete"),
        ("add a mug but remove the duck", "asks to remove"),
        ("Add: remove the mug", "asks to remove"),
        ("put the mug away", "asks to put"),
        ("hide the mug", "asks to hide"),
        ("cover the mug", "asks to cover"),
        ("color the mug blue", "asks to color"),
        ("paint the mug red", "asks to paint"),
        ("blur the background", "asks to blur"),
        ("replace mugs by ducks", "asks to replace"),
        ("add nothing", "says what not to add"),
        ("don't add a mug", "says what not to add"),
        ("add no mug", "says what not to add"),
    ],
)
def test_what_is_no_addition_is_one_line(text: str, words: str) -> None:
    with pytest.raises(InstructionError, match=words) as caught:
        parse_instruction(text)
    assert "\n" not in str(caught.value) and "add a red mug" in str(caught.value)


def test_what_a_model_is_told_has_one_verb_and_places_by_their_names() -> None:
    told = {
        "put a red mug on the left hand side": "add a red mug at the left",
        "at the upper left, insert a duck": "add a duck at the top left",
        "place a mug next to the teapot": "add a mug next to the teapot",
        "two ducks": "add two ducks",
        "a mug on the table, please": "add a mug on the table",
    }
    assert {text: parse_instruction(text).told for text in told} == told


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        instruction = parse_instruction(text)
    except InstructionError:
        return
    assert instruction.thing and instruction.thing == " ".join(instruction.thing.split())
    assert instruction.place in (None, *PLACES)


@given(size=st.tuples(st.integers(3, 90), st.integers(3, 90)), place=st.sampled_from(PLACES))
@settings(max_examples=40, deadline=None)
def test_places_in_words_and_boxes_are_the_same(size: tuple[int, int], place: str) -> None:
    x, y, width, height = place_box(place, size)
    mask = np.zeros(size, bool)
    mask[y : y + height, x : x + width] = True
    assert mask.sum() == width * height > 0
    assert place_of(mask) == place
    assert parse_instruction(f"add a mug at {place}").place == place


def test_nine_places_cover_the_picture_and_have_other_names() -> None:
    seen = np.zeros((20, 31), int)
    for place in PLACES:
        x, y, width, height = place_box(place, (20, 31))
        seen[y : y + height, x : x + width] += 1
    assert (seen == 1).all()
    assert place_box("top-left", (9, 9)) == place_box("at the upper left corner", (9, 9)) == (0, 0, 3, 3)
    assert place_box("center right", (9, 9)) == place_box("the right", (9, 9))
    with pytest.raises(PlaceError, match="no place"):
        place_box("the moon", (9, 9))
    with pytest.raises(PerceptionError, match="nowhere"):
        place_of(np.zeros((4, 4), bool))


def test_a_place_reaches_as_far_as_its_words_say() -> None:
    for place in PLACES:
        x, y, width, height = place_box(place, (48, 96))
        region = place_region(place, (48, 96))
        assert region[y : y + height, x : x + width].all() and region.mean() < 0.5
    left = place_region("the left", (48, 96))
    assert left[:, :32].all() and not left[:, 45:].any()
    assert np.array_equal(place_region("top left", (48, 96)), place_region("the top", (48, 96)) & left)
    assert not place_region("the center", (48, 96))[:9].any() and place_region("the center", (48, 96))[24, 48]
