"""Naming attributes by a vision-language model behind any endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Mask, Window
from intarsia.perception.chat_client import ChatClient
from intarsia.perception.errors import NamerError
from intarsia.perception.namer import BoolArray, FloatArray, checked_attributes
from intarsia.perception.vocabulary import KINDS

_SIDE = 512
_SHARE = 0.7
_QUESTION = (
    "These photos show one and the same {class_noun}. Name its attributes, each in one to three lower-case "
    "English words, as one would write them in a caption: colour (of the body), material, pattern (with its "
    "colour, such as 'white stripes'; nothing if plain), shape, parts, accessories (things it wears, with "
    "their colour). Only what is clearly visible on the {class_noun} itself, nothing of the background. "
    "Leave a kind empty when there is nothing to say. Answer with the JSON object only."
)
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {kind: {"type": "array", "items": {"type": "string"}} for kind in KINDS},
    "required": list(KINDS),
    "additionalProperties": False,
}


class ChatNamer:
    """Asks about the photos in one question; see `ChatClient` for the arguments."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        retries: int = 2,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.client = ChatClient(
            base_url, model, api_key_env, timeout, retries, cache_dir, NamerError, "try again later, or use yaml:PATH"
        )

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Raises NamerError: no answer in time, a refusal, or answers that do not hold the attributes."""
        if not images or len(images) != len(masks):
            raise NamerError(
                f"{len(images)} photos with {len(masks)} masks cannot be named: give at least one, each with its mask"
            )
        views = [_view(image, mask) for image, mask in zip(images, masks, strict=True)]
        return self.client.ask(
            _QUESTION.format(class_noun=class_noun), views, _SCHEMA, "attributes", self._attributes_of
        )

    @property
    def url(self) -> str:
        """The address that is posted to."""
        return self.client.url

    @property
    def model(self) -> str:
        """The model's name at the endpoint."""
        return self.client.model

    def _attributes_of(self, content: Any) -> dict[str, list[str]]:
        if isinstance(content, Mapping):
            content = {kind: values for kind, values in content.items() if kind in KINDS}
        return checked_attributes(content, self.client.model)


def _view(image: FloatArray, mask: BoolArray) -> NDArray[np.uint8]:
    """The subject with some surroundings, at most `_SIDE` px."""
    if not mask.any():
        raise NamerError("a photo's mask is empty: mark the subject white")
    window = Window.around(Mask(mask).box, (image.shape[0], image.shape[1]), share=_SHARE)
    scale = min(1.0, _SIDE / max(window.size))
    size = (max(1, round(window.height * scale)), max(1, round(window.width * scale)))
    return np.rint(window.read(image, size) * 255).astype(np.uint8)
