from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.perception.test_namers import answer, endpoint, no_pause

from intarsia.perception import ChatCaptioner, ChatClient, ChatTagger, HelperAwayError, HelperError, Photo, Tag

__all__ = ["no_pause"]

PHOTO = Photo("a.png", np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
BOX = (10, 10, 20, 15)
MASK = np.zeros((40, 50), bool)
MASK[12:20, 12:25] = True


def picture_of(body: dict[str, object]) -> np.ndarray:
    part = body["messages"][0]["content"][1]  # type: ignore[index]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",")[1]))))


def test_tags_of_the_picture_and_of_a_box() -> None:
    tags = answer(json.dumps({"tags": [{"text": " Toy  Duck", "score": 1.4}, {"text": "mug", "score": 0.5}]}))
    with endpoint((200, tags)) as (url, asked):
        tagger = ChatTagger(ChatClient(url, "seer"))
        assert tagger.tag(PHOTO) == [Tag("toy duck", 1.0), Tag("mug", 0.5)]
        tagger.tag(PHOTO, BOX)
    assert np.array_equal(picture_of(asked[0]["body"]), PHOTO.rgb)
    assert picture_of(asked[1]["body"]).shape == (23, 30, 3), "the box with a quarter of its sides around it"
    assert tagger.name == "openai:seer"


def test_captions_of_the_place_and_of_the_cut_out() -> None:
    said = answer(json.dumps({"caption": "A red Duck.", "score": 0.75}))
    with endpoint((200, said)) as (url, asked):
        captioner = ChatCaptioner(ChatClient(url, "seer"))
        first = captioner.caption(PHOTO, BOX, MASK)
        captioner.caption(PHOTO, BOX, MASK, "cutout")
    assert (first.text, first.score) == ("a red duck", 0.75)
    cut = picture_of(asked[1]["body"])
    assert (
        cut.shape == (15, 20, 3) and (cut[:2] == 255).all() and np.array_equal(cut[2:10, 2:15], PHOTO.rgb[12:20, 12:25])
    )


def test_malformed_answers_are_asked_again_and_named_at_the_end() -> None:
    good = answer(json.dumps({"caption": "a mug", "score": 1}))
    for bad in ({"tags": 3}, {"caption": ""}, {"caption": 4, "score": 1}, {"caption": "x", "score": "high"}):
        with endpoint((200, answer(json.dumps(bad))), (200, good)) as (url, asked):
            assert ChatCaptioner(ChatClient(url, "m", retries=1)).caption(PHOTO, BOX, MASK).text == "a mug"
            assert len(asked) == 2
    with endpoint((200, answer('{"tags": [3]}'))) as (url, _), pytest.raises(HelperError, match="2 attempts"):
        ChatTagger(ChatClient(url, "m", retries=1)).tag(PHOTO)


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_a_server_that_answers_nobody_is_told_from_a_bad_question(status: int) -> None:
    with endpoint((status, b"")) as (url, _), pytest.raises(HelperAwayError, match=f"HTTP status {status}"):
        ChatTagger(ChatClient(url, "m", retries=0)).tag(PHOTO)
    with pytest.raises(HelperAwayError, match="cannot be reached"):
        ChatTagger(ChatClient(url, "m", retries=0)).tag(PHOTO)
    for own in (400, 413, 500):
        with endpoint((own, b"")) as (url, _), pytest.raises(HelperError, match=f"HTTP status {own}") as caught:
            ChatTagger(ChatClient(url, "m", retries=0)).tag(PHOTO)
        assert not isinstance(caught.value, HelperAwayError)


def test_answers_are_kept(tmp_path: Path) -> None:
    with endpoint((200, answer('{"tags": [{"text": "mug", "score": 0.5}]}'))) as (url, asked):
        tagger = ChatTagger(ChatClient(url, "m", cache_dir=tmp_path))
        assert tagger.tag(PHOTO) == tagger.tag(PHOTO) == [Tag("mug", 0.5)]
        assert len(asked) == 1
