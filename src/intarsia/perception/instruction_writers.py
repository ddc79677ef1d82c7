"""From a thing in a picture to an instruction that would add it: first described, then rewritten."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from intarsia.perception.chat_client import ChatClient
from intarsia.perception.errors import HelperAwayError, HelperError, public
from intarsia.perception.helpers import BoolArray, Box, Description, Photo, crop, cut_out
from intarsia.perception.noise import Noise
from intarsia.perception.schemas import object_of

_SIDE = 768
_MARGIN = 0.1
_DESCRIBE = (
    "The picture shows one {noun}, cut out on white. Say briefly and truthfully what tells it from other {noun}s: "
    "its colour, shape, texture, material. One short English phrase in lower case that holds the word {noun}, such as "
    "'a small red {noun} with white stripes'. Nothing of its place. Answer with the JSON object only."
)
_REWRITE = (
    "Turn descriptions of things into short commands that would add them to a picture. Use plain words, speak of the "
    "named thing alone and of nothing else in the scene, do not embellish, and do not say where it stands.\n"
    "{examples}\n"
    "thing: {noun}\ndescription: {text}\nAnswer with the JSON object only."
)
_EXAMPLES = (
    ("mug", "a glossy red mug that has a wide handle", "add a glossy red mug with a wide handle"),
    ("dog", "the dog appears to be brown and has short fur and a blue collar", "add a brown dog with a blue collar"),
    ("bench", "a long bench, made of weathered wooden slats", "put a long wooden bench with weathered slats"),
    ("kite", "kite, triangular, orange and yellow tail", "add an orange triangular kite with a yellow tail"),
    ("person", "a man in a dark suit, wearing glasses", "add a man in a dark suit and glasses"),
)
_AWAY_AT_MOST = 2
_PAUSE, _LONGEST_PAUSE, _PATIENCE = 60.0, 600.0, 9.0
_ARTICLES = ("a", "an", "the", "some")
_PHRASE = object_of({"phrase": {"type": "string"}})


class Describer(Protocol):
    """Says what tells a thing from others of its class."""

    @property
    def name(self) -> str:
        """Which helper this is: part of each row's provenance."""
        ...

    def describe(self, photo: Photo, box: Box, mask: BoolArray, class_name: str) -> Description:
        """A phrase about the mask's thing, such as "a glossy red mug with a wide handle". Raises HelperError."""
        ...


class InstructionWriter(Protocol):
    """Rewrites a description as an instruction."""

    @property
    def name(self) -> str:
        """See `Describer.name`."""
        ...

    def write(self, description: str, class_name: str) -> str:
        """ "add a glossy red mug with a wide handle". Raises HelperError."""
        ...


class _Patience:
    """After a server was away twice in a row, or gave no answer in time, it is asked again only after a pause, and then
    once: each question would wait for all its timeouts. Answers that are kept are given at any time.

    A pause lasts 60 s, or nine times as long as the last question waited (ten minutes at most), so that a server that
    hangs costs little of a run.
    """

    def __init__(self, client: ChatClient) -> None:
        self.client, self.away = replace(client, timeouts_are_away=True), 0
        self._again = 0.0

    def ask(self, text: str, pictures: list[Any], name: str) -> str:
        client = self.client
        question = (text, pictures, _PHRASE, name, _phrase_of)
        if self.away and (kept := client.known(*question)) is not None:
            return kept  # says nothing of the server
        if self.away >= _AWAY_AT_MOST:
            if time.monotonic() < self._again:
                raise HelperAwayError(f"{client.model} at {client.url} was away before: start the server")
            client = replace(client, retries=0)
        began = time.monotonic()
        try:
            found = client.ask(*question)
        except HelperAwayError:
            self.away += 1
            now = time.monotonic()
            self._again = now + min(_LONGEST_PAUSE, max(_PAUSE, _PATIENCE * (now - began)))
            raise
        except HelperError:
            self.away = 0
            raise
        self.away = 0
        return found


class ChatDescriber:
    """Asks a vision-language model about the thing alone, everything else blanked."""

    def __init__(self, client: ChatClient) -> None:
        self._patience = _Patience(client)

    @property
    def name(self) -> str:
        return f"openai:{self._patience.client.model}"

    def describe(self, photo: Photo, box: Box, mask: BoolArray, class_name: str) -> Description:
        """See `Describer.describe`."""
        height, width = photo.size
        alone = crop(cut_out(photo.rgb, mask, (0, 0, width, height)), box, _MARGIN)
        image = Image.fromarray(np.ascontiguousarray(alone))
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        question = _DESCRIBE.format(noun=class_name)
        return Description(self._patience.ask(question, [np.asarray(image)], "description"))


class ChatInstructionWriter:
    """Asks a language model, with five examples."""

    def __init__(self, client: ChatClient) -> None:
        self._patience = _Patience(client)

    @property
    def name(self) -> str:
        return f"openai:{self._patience.client.model}"

    def write(self, description: str, class_name: str) -> str:
        """See `InstructionWriter.write`."""
        examples = "\n".join(f"thing: {noun}\ndescription: {text}\nphrase: {said}" for noun, text, said in _EXAMPLES)
        question = _REWRITE.format(examples=examples, noun=class_name, text=description)
        return self._patience.ask(question, [], "instruction")


@dataclass(frozen=True)
class TruthDescriber:
    """Knows what rendered scenes show, and distorts it: `TruthCaptioner`'s words and errors."""

    folder: Path
    noise: Noise = field(default_factory=Noise)

    @property
    def name(self) -> str:
        return f"truth-describer/1 noise={self.noise.level:g} repeat={self.noise.repeat:g} seed={self.noise.seed}"

    def describe(self, photo: Photo, box: Box, mask: BoolArray, class_name: str) -> Description:
        """See `Describer.describe`."""
        from intarsia.perception.truth_helpers import TruthCaptioner

        return TruthCaptioner(self.folder, self.noise).caption(photo, box, mask, "cutout")


class TemplateWriter:
    """ "add" and the description, with nothing rewritten."""

    name = "template/1"

    def write(self, description: str, class_name: str) -> str:
        """See `InstructionWriter.write`."""
        words = description.strip(" .")
        if words.split(" ")[0].lower() in _ARTICLES:
            return f"add {words}"
        return f"add {'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class WriterOption:
    """Who describes and who writes, by short texts, loaded when first used.

    Args:
        describer: truth, openai:URL#MODEL, or none.
        writer: template, openai:URL#MODEL, or none.
        folder: the pictures' folder, for truth. noise: of truth.
    """

    describer: str = "none"
    writer: str = "template"
    folder: Path = Path(".")
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        for kind, plain in (("describer", ("truth", "none")), ("writer", ("template", "none"))):
            option = getattr(self, kind)
            name, _, rest = option.partition(":")
            if option not in plain and (name != "openai" or not all(rest.rpartition("#")[::2])):
                raise HelperError(f"{kind} {public(option)!r} is unknown: use {', '.join(plain)} or openai:URL#MODEL")

    def load_describer(self) -> Describer | None:
        """None where nothing is to be described."""
        return _load(self).describer

    def load_writer(self) -> InstructionWriter | None:
        """None where nothing is to be written."""
        return _load(self).writer


class _Loaded:
    def __init__(self, options: WriterOption) -> None:
        self.options = options

    @cached_property
    def describer(self) -> Describer | None:
        option = self.options.describer
        if option == "none":
            return None
        if option == "truth":
            return TruthDescriber(self.options.folder, self.options.noise)
        return ChatDescriber(_client(option))

    @cached_property
    def writer(self) -> InstructionWriter | None:
        option = self.options.writer
        if option == "none":
            return None
        return TemplateWriter() if option == "template" else ChatInstructionWriter(_client(option))


@lru_cache(maxsize=2)
def _load(options: WriterOption) -> _Loaded:
    return _Loaded(options)


def _client(option: str) -> ChatClient:
    url, _, model = option.partition(":")[2].rpartition("#")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intarsia" / "helpers"
    return ChatClient(url, model, cache_dir=cache, advice="start the server; class instructions need none")


def _phrase_of(content: Any) -> str:
    phrase = content.get("phrase") if isinstance(content, dict) else None
    if not isinstance(phrase, str) or not phrase.strip():
        raise HelperError("the answer is malformed: a phrase was asked for")
    return " ".join(phrase.split())
