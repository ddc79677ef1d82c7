"""A tagger and a captioner by a vision-language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from intarsia.perception.chat_client import ChatClient
from intarsia.perception.errors import HelperError
from intarsia.perception.helpers import BoolArray, Box, Description, Photo, Pixels, Tag, View, crop, cut_out
from intarsia.perception.schemas import list_of, object_of

_SIDE = 768
_SURROUNDINGS = 0.25
_TAG_QUESTION = (
    "List every separate thing that can be seen in this picture, each as a lower-case English noun of one or two "
    "words in the singular, without colours. No actions, no places, no materials, nothing that is not an object. Give "
    "each a score from 0 to 1: how sure you are that it is there. Answer with the JSON object only."
)
_CAPTION_QUESTION = (
    "Describe the one thing in {where} in five to ten English words, lower case, as one would write a caption: "
    "its colour, material or other looks first, then what it is, then a pattern or what it wears or carries, if "
    "anything. Only what is clearly visible on the thing itself; nothing of its place or background. Give a score from "
    "0 to 1: how sure you are of every word. Answer with the JSON object only."
)

_TAG = object_of({"text": {"type": "string"}, "score": {"type": "number"}})
_TAGS = object_of({"tags": list_of(_TAG)})
_CAPTION = object_of({"caption": {"type": "string"}, "score": {"type": "number"}})


@dataclass(frozen=True)
class ChatTagger:
    """Asks for the things in a picture, or in a part of it."""

    client: ChatClient

    @property
    def name(self) -> str:
        return f"openai:{self.client.model}"

    def tag(self, photo: Photo, box: Box | None = None) -> list[Tag]:
        """Raises HelperError: no usable answer."""
        pixels = photo.rgb if box is None else crop(photo.rgb, box, _SURROUNDINGS)
        return self.client.ask(_TAG_QUESTION, [_smaller(pixels)], _TAGS, "tags", _tags_of)


@dataclass(frozen=True)
class ChatCaptioner:
    """Asks for a short caption of what is in a box, or of the cut-out."""

    client: ChatClient

    @property
    def name(self) -> str:
        return f"openai:{self.client.model}"

    def caption(self, photo: Photo, box: Box, mask: BoolArray, view: View = "context") -> Description:
        """Raises HelperError: no usable answer."""
        if view == "cutout":
            pixels, where = cut_out(photo.rgb, mask, box), "this picture (cut out, on white)"
        else:
            pixels, where = crop(photo.rgb, box, _SURROUNDINGS), "the middle of this picture"
        question = _CAPTION_QUESTION.format(where=where)
        return self.client.ask(question, [_smaller(pixels)], _CAPTION, "caption", _caption_of)


def _smaller(pixels: Pixels) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _tags_of(content: Any) -> list[Tag]:
    try:
        found = {_words(tag["text"]): _score(tag) for tag in content["tags"]}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HelperError("the tags are malformed: a list of text and score was asked for") from error
    return [Tag(text, score) for text, score in found.items() if text]


def _caption_of(content: Any) -> Description:
    try:
        text = _words(content["caption"]).rstrip(".")
        score = _score(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HelperError("the caption is malformed: caption and score were asked for") from error
    if not text:
        raise HelperError("the caption is empty: describe the thing")
    return Description(text, score)


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _score(content: Mapping[str, Any]) -> float | None:
    score = content.get("score")
    return None if score is None else min(1.0, max(0.0, float(score)))
