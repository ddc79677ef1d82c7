"""The paper's three requests to a vision-language model as one contract: attributes, recombined prompts, conflicts.

Questions, JSON schemas and the checking of answers are here, the same for every model (DreamMix, ADM and TAS).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from intarsia.imaging import Mask, Window
from intarsia.perception.errors import NamerError, quoted
from intarsia.perception.helpers import BoolArray, FloatArray, Pixels
from intarsia.perception.namer import AttributeNamer, checked_attributes
from intarsia.perception.schemas import list_of, object_of
from intarsia.perception.vocabulary import KINDS

Attributes = Mapping[str, Sequence[str]]
Answer = TypeVar("Answer")

_SIDE = 512
_SHARE = 0.7
_AT_ONCE = 20
_MOST_ATTRIBUTES = 3
_LONGEST = 200
# Words, with the marks that captions have: no brackets of identity tokens, no line breaks.
_TEXT = re.compile(r"[\w',.\- ]+")
_VALUE = re.compile(r"[^\W\d_][\w'\-]*(?: [\w'\-]+){0,3}")

_NAME = (
    "These photos show one and the same {class_noun}. Name its attributes, each in one to three lower-case "
    "English words, as one would write them in a caption: colour (of the body), material, pattern (with its "
    "colour, such as 'white stripes'; nothing if plain), shape, parts, accessories (things it wears, with "
    "their colour). Only what is clearly visible on the {class_noun} itself, nothing of the background. "
    "Leave a kind empty when there is nothing to say. Answer with the JSON object only."
)
_RECOMBINE = (
    "These are the attributes of a certain {class_noun}: {dictionary}. Write {count} captions of photos of other "
    "things of the kind {class_noun}, with random combinations of attributes: some of those above and some that a "
    "{class_noun} could have instead, each about equally often, no two captions alike. Each caption is one short "
    "English phrase of one photo, such as 'a photo of a red wooden {class_noun} with white dots': it holds the words "
    "'{class_noun}' once and 1 to 3 attributes of different kinds, in front of these words or behind them, and nothing "
    "else: no place, no name, no made-up word. List the attributes of each caption as they are written in it. This is "
    "set {part} of random draw {seed}.{earlier} Answer with the JSON object only."
)
_EARLIER = " These captions were in earlier sets, so none of them again: {texts}."
_CONFLICTS = (
    "These are the attributes of a certain {class_noun}: {dictionary}. It is to be painted as this prompt says: "
    "{prompt!r}. Which of these attributes does the prompt contradict, so that the {class_noun} cannot have them in "
    "that picture? A colour contradicts another colour of the same thing, a material another material; a new accessory "
    "takes the place of an old one. What the prompt does not speak of, or says itself, is not contradicted, and words "
    "about the place or other things do not count. Copy the contradicted attributes exactly; an empty list if there "
    "are none. Answer with the JSON object only."
)

_TEXTS = list_of({"type": "string"})
_ATTRIBUTE = object_of({"kind": {"type": "string", "enum": list(KINDS)}, "value": {"type": "string"}})
NAME_SCHEMA = object_of({kind: _TEXTS for kind in KINDS})
_PROMPT = object_of({"text": {"type": "string"}, "attributes": list_of(_ATTRIBUTE)})
RECOMBINE_SCHEMA = object_of({"prompts": list_of(_PROMPT)})
CONFLICTS_SCHEMA = object_of({"conflicts": _TEXTS})


@dataclass(frozen=True)
class RegularPrompt:
    """`text` and the `attributes` (kind -> value, as written) it is composed of."""

    text: str
    attributes: Mapping[str, str]


class AttributeAdvisor(AttributeNamer, Protocol):
    """A namer that also answers the paper's other two requests. All raise NamerError."""

    def recombine(self, dictionary: Attributes, class_noun: str, count: int, seed: int) -> list[RegularPrompt]:
        """`count` captions of other things of that class, each with 1 to 3 attributes and no identity token."""
        ...

    def conflicts(self, dictionary: Attributes, class_noun: str, prompt: str) -> list[str]:
        """The dictionary's values that the prompt contradicts, none of them twice."""
        ...


class Asker(Protocol):
    """Puts a question with pictures to a model: `ChatClient`, `VisionAsker`."""

    def ask(
        self,
        text: str,
        pictures: Sequence[NDArray[np.uint8]],
        schema: dict[str, Any],
        name: str,
        read: Callable[[Any], Answer],
    ) -> Answer:
        """``read`` turns JSON into the result and raises a PerceptionError for another form; then it is asked again."""
        ...


class AskingAdvisor:
    """An `AttributeAdvisor` by any model that can be asked; ``source`` names it in errors."""

    def __init__(self, asker: Asker, source: str) -> None:
        self.asker = asker
        self.source = source

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """See `AttributeNamer.name`; one question about all photos.

        Raises NamerError: no answer in time, a refusal, or answers that do not hold the attributes.
        """
        views = subject_views(images, masks)
        return self.asker.ask(_NAME.format(class_noun=class_noun), views, NAME_SCHEMA, "attributes", self._attributes)

    def recombine(self, dictionary: Attributes, class_noun: str, count: int, seed: int) -> list[RegularPrompt]:
        """See `AttributeAdvisor.recombine`; asks for 20 at a time. Raises NamerError, also for a negative count."""
        if count < 0:
            raise NamerError(f"{count} prompts cannot be recombined: ask for 0 or more")
        noun = _noun(class_noun)
        prompts: list[RegularPrompt] = []
        for part, start in enumerate(range(0, count, _AT_ONCE), start=1):
            wanted = min(_AT_ONCE, count - start)
            question = _RECOMBINE.format(
                class_noun=noun,
                dictionary=_told(dictionary),
                count=wanted,
                part=part,
                seed=seed,
                earlier=_EARLIER.format(texts="; ".join(one.text for one in prompts)) if prompts else "",
            )

            earlier = tuple(prompts)

            def read(
                content: Any, wanted: int = wanted, earlier: Sequence[RegularPrompt] = earlier
            ) -> list[RegularPrompt]:
                return checked_prompts(content, noun, wanted, self.source, earlier)

            prompts += self.asker.ask(question, (), RECOMBINE_SCHEMA, "prompts", read)
        return prompts

    def conflicts(self, dictionary: Attributes, class_noun: str, prompt: str) -> list[str]:
        """See `AttributeAdvisor.conflicts`; nothing is asked about an empty dictionary or prompt."""
        values = {value for kind in dictionary.values() for value in kind}
        prompt = " ".join(prompt.split())
        if not values or not prompt:
            return []
        question = _CONFLICTS.format(class_noun=_noun(class_noun), dictionary=_told(dictionary), prompt=prompt)
        return self.asker.ask(
            question,
            (),
            CONFLICTS_SCHEMA,
            "conflicts",
            lambda content: checked_conflicts(content, dictionary, prompt, self.source),
        )

    def _attributes(self, content: Any) -> dict[str, list[str]]:
        if isinstance(content, Mapping):
            content = {kind: values for kind, values in content.items() if kind in KINDS}
        return checked_attributes(content, self.source)


def checked_prompts(
    content: Any, class_noun: str, count: int, source: str, earlier: Sequence[RegularPrompt] = ()
) -> list[RegularPrompt]:
    """The answer to the second request, the first `count` of its prompts; `earlier`: those of answers before it.

    Raises:
        NamerError: of another form, too few, or a prompt without the class noun, with none or more than three
            attributes, with two of a kind, or with one that its text does not hold, or one that was there before;
            names `source`.
    """
    given = content.get("prompts") if isinstance(content, Mapping) else None
    if not isinstance(given, list):
        raise NamerError(f"{source} gives no prompts: a list of text and attributes was asked for")
    if len(given) < count:
        raise NamerError(f"{source} gives {len(given)} prompts: {count} were asked for")
    prompts = [_prompt(one, class_noun, source) for one in given[:count]]
    seen = {prompt.text.lower() for prompt in earlier}
    again = []
    for prompt in prompts:
        again += [quoted(prompt.text)] if prompt.text.lower() in seen else []
        seen.add(prompt.text.lower())
    if again:
        raise NamerError(f"{source} gives the same prompt twice ({', '.join(again)}): no two alike were asked for")
    return prompts


def _prompt(given: Any, class_noun: str, source: str) -> RegularPrompt:
    text = given.get("text") if isinstance(given, Mapping) else None
    listed = given.get("attributes") if isinstance(given, Mapping) else None
    if not isinstance(text, str) or not isinstance(listed, list):
        raise NamerError(f"{source} gives a prompt of another form: text and attributes were asked for")
    text = " ".join(text.split()).rstrip(".")
    if not _TEXT.fullmatch(text) or len(text) > _LONGEST:
        raise NamerError(f"{source} gives the prompt {quoted(text)}: a caption of plain words was asked for")
    if not holds(text, class_noun):
        raise NamerError(f"{source} gives the prompt {quoted(text)} without {class_noun!r}: each must hold it")
    attributes: dict[str, str] = {}
    for one in listed:
        kind, value = (one.get("kind"), one.get("value")) if isinstance(one, Mapping) else (None, None)
        if kind not in KINDS or not isinstance(value, str) or kind in attributes:
            raise NamerError(
                f"{source} gives {quoted(text)} with {quoted(one)}: one value of each of {', '.join(KINDS)} at most"
            )
        value = " ".join(value.lower().split())
        if not _VALUE.fullmatch(value) or value == class_noun.lower() or not holds(text, value):
            raise NamerError(
                f"{source} gives {quoted(text)} with the attribute {quoted(value)}: use words of the prompt"
            )
        attributes[kind] = value
    if not 1 <= len(attributes) <= _MOST_ATTRIBUTES:
        raise NamerError(f"{source} gives {quoted(text)} with {len(attributes)} attributes: 1 to 3 were asked for")
    return RegularPrompt(text, MappingProxyType(attributes))


def checked_conflicts(content: Any, dictionary: Attributes, prompt: str, source: str) -> list[str]:
    """The answer to the third request, as written in the dictionary, without what the prompt itself says.

    Raises:
        NamerError: of another form, or not the dictionary's; names `source`.
    """
    given = content.get("conflicts") if isinstance(content, Mapping) else None
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        raise NamerError(f"{source} gives no list of conflicts: values of the dictionary were asked for")
    known = {" ".join(value.lower().split()): value for kind in dictionary.values() for value in kind}
    found = []
    for value in given:
        word = " ".join(value.lower().split())
        if word not in known:
            raise NamerError(f"{source} gives the conflict {quoted(value)}: use the dictionary's ({', '.join(known)})")
        # What the prompt says, perhaps of another thing, is not in its own way.
        found += [] if holds(prompt, word) else [known[word]]
    return list(dict.fromkeys(found))


def subject_views(images: Sequence[FloatArray], masks: Sequence[BoolArray]) -> list[Pixels]:
    """The subject of each photo with some surroundings, at most 512 px. Raises NamerError: no photos, an empty mask."""
    if not images or len(images) != len(masks):
        raise NamerError(
            f"{len(images)} photos with {len(masks)} masks cannot be named: give at least one, each with its mask"
        )
    return [_view(image, mask) for image, mask in zip(images, masks, strict=True)]


def _view(image: FloatArray, mask: BoolArray) -> Pixels:
    if not mask.any():
        raise NamerError("a photo's mask is empty: mark the subject white")
    window = Window.around(Mask(mask).box, (image.shape[0], image.shape[1]), share=_SHARE)
    scale = min(1.0, _SIDE / max(window.size))
    size = (max(1, round(window.height * scale)), max(1, round(window.width * scale)))
    return np.rint(window.read(image, size) * 255).astype(np.uint8)


def holds(text: str, words: str) -> bool:
    """Whether the text holds these whole words, in any case."""
    pattern = r"\s+".join(re.escape(word) for word in words.split())
    return bool(pattern) and re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def _noun(class_noun: str) -> str:
    noun = " ".join(class_noun.split())
    if not noun:
        raise NamerError("no class noun was given: say what kind of thing the subject is, such as duck")
    return noun


def _told(dictionary: Attributes) -> str:
    told = "; ".join(f"{kind}: {', '.join(values)}" for kind, values in dictionary.items() if values)
    return told or "none that can be said in words"
