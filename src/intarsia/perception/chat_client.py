"""Questions with pictures to a model behind any endpoint that speaks OpenAI's chat protocol; answers are JSON."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intarsia.errors import OutputError
from intarsia.imaging import write_file_atomically
from intarsia.perception.errors import HelperAwayError, HelperError, PerceptionError, public, shortened

_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_MOST_BYTES = 1 << 20
_MOST_SENT_BACK = 4000
Answer = TypeVar("Answer")


_AWAY = (401, 403, 404, 429, 502, 503, 504)


class _RetryableError(Exception):
    """A failure that may not happen again; its text says what happened. ``away``: another question would fail, too.
    ``pause``: seconds that the server asks to be left alone."""

    def __init__(self, text: str, *, away: bool = False, pause: float = 0.0) -> None:
        super().__init__(text)
        self.away = away
        self.pause = pause


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another address would get the key and the photos, too."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatClient:
    """POSTs to `base_url`/chat/completions; redirects are not followed.

    Args:
        base_url: such as "http://localhost:8000/v1"; a query is sent but never shown or kept.
        api_key_env: name of the environment variable that holds the key; unset means no key is sent.
        timeout: seconds per attempt.
        retries: further attempts after a timeout, a busy server (whose Retry-After is heeded up to half a minute) or
            a malformed answer (which is told what was wrong with it).
        cache_dir: answers are kept here, by the hash of everything that was asked; None keeps nothing.
        error: what is raised; where it is HelperError and no question would be answered, HelperAwayError.
        advice: what the user can do where the endpoint stays silent.
        timeouts_are_away: whether no answer in time says something of the server (for callers that go on without an
            answer) rather than perhaps of the question, whose answer may never come to its end.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 2
    cache_dir: str | Path | None = None
    error: type[PerceptionError] = HelperError
    advice: str = "try again later"
    timeouts_are_away: bool = False

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            named = "@" in parts.netloc
        except ValueError:
            usable = named = False
        if named:
            raise self.error(
                "the address of an endpoint cannot hold a name and a password: put the key into the environment "
                f"variable {self.api_key_env} and use http(s)://HOST/v1"
            )
        if not usable or not _plain(self.base_url) or " " in self.base_url:
            raise self.error(f"{public(self.base_url)!r} is not the address of an endpoint: use http(s)://HOST/v1")
        if self.timeout <= 0 or self.retries < 0:
            raise self.error(
                f"timeout {self.timeout} and retries {self.retries}: use more than 0 seconds and 0 or more retries"
            )

    @property
    def url(self) -> str:
        """The address that is posted to, without its query."""
        return self._address("")

    def _address(self, query: str) -> str:
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/chat/completions", query, ""))

    def ask(
        self,
        text: str,
        pictures: Sequence[NDArray[np.uint8]],
        schema: dict[str, Any],
        name: str,
        read: Callable[[Any], Answer],
    ) -> Answer:
        """Ask about RGB pictures; ``read`` turns the answer's JSON into the result.

        ``read`` raises a PerceptionError for JSON of another form than asked for; the question is then put again.
        Raises `error`: no answer in time, a refusal, or no usable answer.
        """
        body = self._body(text, pictures, schema, name)
        kept = self._kept(body, read)
        if kept is not None:
            return kept
        cached = self._cached(body)
        problem, sent = _RetryableError(""), body
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(max(_PAUSE * 2 ** (attempt - 1), problem.pause))
            try:
                found = _content_of(self._post(sent))
                try:
                    result = read(found)
                except (PerceptionError, RecursionError) as error:
                    reason = shortened(str(error))
                    sent = _corrected(body, found, reason)
                    raise _RetryableError(f"answered with JSON of another form than asked for ({reason})") from error
                break
            except _RetryableError as error:
                problem = error
        else:
            raise self._error(problem.away)(
                f"{shortened(self.model, 80)} at {self.url} {problem} ({self.retries + 1} attempts): {self.advice}"
            )
        if cached is not None:
            # A cache that cannot be written costs another question next time, no more.
            with suppress(OSError, OutputError, RecursionError):
                cached.parent.mkdir(parents=True, exist_ok=True)
                write_file_atomically(cached, json.dumps(found).encode(), overwrite=True)
        return result

    def known(
        self,
        text: str,
        pictures: Sequence[NDArray[np.uint8]],
        schema: dict[str, Any],
        name: str,
        read: Callable[[Any], Answer],
    ) -> Answer | None:
        """What `ask` answers to the same question without asking anybody; None where no answer is kept."""
        return self._kept(self._body(text, pictures, schema, name), read)

    def _body(self, text: str, pictures: Sequence[NDArray[np.uint8]], schema: dict[str, Any], name: str) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        content += [{"type": "image_url", "image_url": {"url": _data_url(pixels)}} for pixels in pictures]
        question = {
            "model": self.model,
            "temperature": 0,
            "messages": [{"role": "user", "content": content}],
            "response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}},
        }
        return json.dumps(question, sort_keys=True).encode()

    def _cached(self, body: bytes) -> Path | None:
        return None if self.cache_dir is None else Path(self.cache_dir) / f"{self._key(body)}.json"

    def _kept(self, body: bytes, read: Callable[[Any], Answer]) -> Answer | None:
        cached = self._cached(body)
        if cached is not None and cached.is_file():
            with suppress(PerceptionError, OSError, ValueError, RecursionError):
                return read(json.loads(cached.read_text(encoding="utf-8")))
        return None

    def _error(self, away: bool) -> type[PerceptionError]:
        return HelperAwayError if away and self.error is HelperError else self.error

    def _key(self, body: bytes) -> str:
        return hashlib.sha256(self.url.encode() + b"\0" + body).hexdigest()

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.api_key_env, "").strip():
            if not _plain(key):
                raise self._error(True)(
                    f"the environment variable {self.api_key_env} holds what cannot be a key (line breaks, or letters "
                    "that are not ASCII): put a valid key into it"
                )
            headers["Authorization"] = f"Bearer {key}"
        address = self._address(urlsplit(self.base_url).query)
        request = urllib.request.Request(address, data=body, headers=headers, method="POST")
        try:
            opener = urllib.request.build_opener(_NoRedirects)
            with opener.open(request, timeout=self.timeout) as response:
                answer: bytes = response.read(_MOST_BYTES)
                return answer
        except urllib.error.HTTPError as error:
            if error.code in (408, 429) or error.code >= 500:
                text, pause = f"answered with HTTP status {error.code}", _asked_pause(error.headers.get("Retry-After"))
                raise _RetryableError(text, away=error.code in _AWAY, pause=pause) from error
            hint = "check the address and the model's name"
            if 300 <= error.code < 400:
                hint = "it sends questions on to another address, which is not followed: use the final address"
            if error.code in (401, 403):
                hint = f"put a valid key into the environment variable {self.api_key_env}"
            refused = self._error(error.code in _AWAY or error.code < 400)
            raise refused(f"{self.url} refused the question with HTTP status {error.code}: {hint}") from error
        except TimeoutError as error:
            raise self._silence() from error
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise self._silence() from error
            # What fails while connecting comes as URLError; a connection that breaks later may be this picture's fault.
            away = isinstance(error, urllib.error.URLError)
            raise _RetryableError(f"cannot be reached ({shortened(str(reason), 160)})", away=away) from error

    def _silence(self) -> _RetryableError:
        return _RetryableError(f"gave no answer within {self.timeout:g} s", away=self.timeouts_are_away)


def _content_of(answer: bytes) -> Any:
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
        # Some models wrap the object in a code fence.
        return json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _RetryableError("answered with something that is not the JSON asked for") from error


def _corrected(body: bytes, found: Any, reason: str) -> bytes:
    """The question once more, after the beginning of the wrong answer and what was wrong with it."""
    question = json.loads(body)
    try:
        said = json.dumps(found)[:_MOST_SENT_BACK]
    except RecursionError:
        return body
    question["messages"] += [
        {"role": "assistant", "content": said},
        {"role": "user", "content": f"That cannot be used: {reason}. Answer again with the whole JSON object only."},
    ]
    return json.dumps(question, sort_keys=True).encode()


def _asked_pause(header: str | None) -> float:
    """Seconds of a Retry-After header (a number, or a date), at most `_LONGEST_PAUSE`; 0 where it says nothing."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header or "").timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return 0.0
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_PAUSE)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _data_url(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
