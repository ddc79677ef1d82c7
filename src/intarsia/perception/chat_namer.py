"""Naming attributes by a vision-language model behind any endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from intarsia.errors import OutputError
from intarsia.imaging import Mask, Window, write_file_atomically
from intarsia.perception.errors import NamerError
from intarsia.perception.namer import BoolArray, FloatArray, checked_attributes
from intarsia.perception.vocabulary import KINDS

_SIDE = 512
_SHARE = 0.7
_PAUSE = 0.5
_MOST_BYTES = 1 << 20
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


class _RetryableError(Exception):
    """A failure that may not happen again; its text says what happened."""


class ChatNamer:
    """POSTs the photos to `base_url`/chat/completions and reads the JSON it answers with.

    Args:
        base_url: such as "http://localhost:8000/v1".
        api_key_env: name of the environment variable that holds the key; unset means no key is sent.
        timeout: seconds per attempt.
        retries: further attempts after a timeout, a busy server or a malformed answer.
        cache_dir: answers are kept here, by the hash of everything that was asked; None keeps nothing.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        retries: int = 2,
        cache_dir: str | Path | None = None,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
            raise NamerError(f"{base_url!r} is not the address of an endpoint: use http(s)://HOST/v1")
        if timeout <= 0 or retries < 0:
            raise NamerError(f"timeout {timeout} and retries {retries}: use more than 0 seconds and 0 or more retries")
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.model = model
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.retries = retries
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Raises NamerError: no answer in time, a refusal, or answers that do not hold the attributes."""
        body = json.dumps(self._question(images, masks, class_noun), sort_keys=True).encode()
        cached = None if self.cache_dir is None else self.cache_dir / f"{self._key(body)}.json"
        if cached is not None and cached.is_file():
            with suppress(NamerError, OSError, ValueError):
                return checked_attributes(json.loads(cached.read_text(encoding="utf-8")), str(cached))
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            try:
                attributes = _attributes_of(self._ask(body), self.model)
                break
            except _RetryableError as error:
                problem = str(error)
        else:
            raise NamerError(
                f"{self.model} at {self.url} {problem} ({self.retries + 1} attempts): try again later, or use yaml:PATH"
            )
        if cached is not None:
            # A cache that cannot be written costs another question next time, no more.
            with suppress(OSError, OutputError):
                cached.parent.mkdir(parents=True, exist_ok=True)
                write_file_atomically(cached, json.dumps(attributes).encode(), overwrite=True)
        return attributes

    def _key(self, body: bytes) -> str:
        return hashlib.sha256(self.url.encode() + b"\0" + body).hexdigest()

    def _question(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, Any]:
        if not images or len(images) != len(masks):
            raise NamerError(
                f"{len(images)} photos with {len(masks)} masks cannot be named: give at least one, each with its mask"
            )
        content: list[dict[str, Any]] = [{"type": "text", "text": _QUESTION.format(class_noun=class_noun)}]
        for image, mask in zip(images, masks, strict=True):
            content.append({"type": "image_url", "image_url": {"url": _data_url(image, mask)}})
        return {
            "model": self.model,
            "temperature": 0,
            "messages": [{"role": "user", "content": content}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "attributes", "strict": True, "schema": _SCHEMA},
            },
        }

    def _ask(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.api_key_env):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                answer: bytes = response.read(_MOST_BYTES)
                return answer
        except urllib.error.HTTPError as error:
            if error.code in (408, 429) or error.code >= 500:
                raise _RetryableError(f"answered with HTTP status {error.code}") from error
            hint = "check the address and the model's name"
            if error.code in (401, 403):
                hint = f"put a valid key into the environment variable {self.api_key_env}"
            raise NamerError(f"{self.url} refused the question with HTTP status {error.code}: {hint}") from error
        except TimeoutError as error:
            raise _RetryableError(f"gave no answer within {self.timeout:g} s") from error
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise _RetryableError(f"gave no answer within {self.timeout:g} s") from error
            raise _RetryableError(f"cannot be reached ({reason})") from error


def _attributes_of(answer: bytes, model: str) -> dict[str, list[str]]:
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
        # Some models wrap the object in a code fence.
        content = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _RetryableError("answered with something that is not the JSON asked for") from error
    if isinstance(content, Mapping):
        content = {kind: values for kind, values in content.items() if kind in KINDS}
    try:
        return checked_attributes(content, model)
    except NamerError as error:
        raise _RetryableError("answered with JSON of another form than asked for") from error


def _data_url(image: FloatArray, mask: BoolArray) -> str:
    """The subject with some surroundings, at most `_SIDE` px, as a PNG data URL."""
    if not mask.any():
        raise NamerError("a photo's mask is empty: mark the subject white")
    window = Window.around(Mask(mask).box, (image.shape[0], image.shape[1]), share=_SHARE)
    scale = min(1.0, _SIDE / max(window.size))
    size = (max(1, round(window.height * scale)), max(1, round(window.width * scale)))
    pixels = np.rint(window.read(image, size) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
