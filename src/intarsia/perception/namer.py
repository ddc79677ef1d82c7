"""The protocol of attribute namers, the one that reads a file, and the choice among all by a short text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from intarsia.perception.errors import NamerError, public, quoted
from intarsia.perception.vocabulary import KINDS, Vocabulary

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


class AttributeNamer(Protocol):
    """Looks at photos of one subject and says its attributes.

    A namer with a method ``release()`` gives back its model's memory there; learning calls it when all is asked. One
    with a `Vocabulary` as ``vocabulary`` has its words recombined. See also `AttributeAdvisor`.
    """

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Images (H, W, 3) in [0, 1] and masks (H, W), True on the subject -> kind -> values (lower case)."""
        ...


class YamlNamer:
    """The attributes somebody wrote down: `colour: [red]`, one line per kind; photos are not looked at."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def name(self, images: Sequence[FloatArray], masks: Sequence[BoolArray], class_noun: str) -> dict[str, list[str]]:
        """Raises NamerError: no such file, no YAML, an unknown kind, or values that are not words."""
        import yaml

        try:
            content = yaml.safe_load(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NamerError(
                f"the attribute file {self.path} cannot be read: give one with lines such as 'colour: [red]'"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise NamerError(
                f"the attribute file {self.path} is not YAML: write lines such as 'colour: [red]'"
            ) from error
        return checked_attributes(content, f"the attribute file {self.path}")


def checked_attributes(content: Any, source: str) -> dict[str, list[str]]:
    """`content` as kind -> values, lower case, no blanks, no repetitions; kinds without values are left out.

    Raises:
        NamerError: not a mapping from known kinds to words or lists of words; names `source`.
    """
    if not isinstance(content, Mapping):
        raise NamerError(f"{source} gives no attributes: it must map kinds ({', '.join(KINDS)}) to lists of words")
    result: dict[str, list[str]] = {}
    for kind, values in content.items():
        if kind not in KINDS:
            raise NamerError(f"{source} has the unknown kind {quoted(kind)}: use {', '.join(KINDS)}")
        values = [values] if isinstance(values, str) else values
        if values is not None and not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
            raise NamerError(f"{source} has values of {quoted(kind)} that are not words: write {kind}: [word, word]")
        words = [" ".join(value.lower().split()) for value in values or ()]
        if unique := [word for word in dict.fromkeys(words) if word]:
            result[str(kind)] = unique
    return result


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intarsia" / "namer"


def check_namer_option(option: str) -> None:
    """That `namer_from_option` knows the text, and that what it names is there; no model is loaded, no server asked.

    Raises:
        NamerError, HelperError, VocabularyError, LicenceError, MissingWeightsError.
    """
    from intarsia.perception.loading import check_there

    kind, where, detail = _parsed(option)
    if kind == "yaml":
        YamlNamer(where).name((), (), "")
    elif kind == "openai":
        from intarsia.perception.chat_namer import ChatNamer

        ChatNamer(where, detail)
    elif kind in ("clip", "vlm"):
        if detail:
            Vocabulary.load(detail)
        check_there(kind, where)


def namer_from_option(option: str, backbone: Backbone) -> AttributeNamer:
    """ "vocabulary", "yaml:PATH", "openai:URL#MODEL", "vlm:MODEL" or "clip:MODEL[#WORDS.yaml]" -> a namer.

    Of these, "openai" and "vlm" are `AttributeAdvisor`s. MODEL is a folder or a name at the model hub, possibly with
    @REVISION; such models are loaded, on the backbone's device, when first asked. An endpoint's answers are kept in
    the user's cache folder: the same photos get the same names again.

    Raises:
        NamerError: any other text, or a back end that cannot work here. VocabularyError: unusable words.
    """
    kind, where, detail = _parsed(option)
    device = str(backbone.device)
    if kind == "vocabulary":
        from intarsia.perception.vocabulary_namer import VocabularyNamer

        return VocabularyNamer(backbone)
    if kind == "yaml":
        return YamlNamer(where)
    if kind == "openai":
        from intarsia.perception.chat_namer import ChatNamer

        return ChatNamer(where, detail, cache_dir=_cache_folder())
    if kind == "vlm":
        from intarsia.perception.vision_advisor import VisionAdvisor

        return VisionAdvisor.of(where, device)
    from intarsia.perception.clip_namer import ClipNamer

    return ClipNamer.of(where, detail or None, device)


_FORMS = (
    "vocabulary, yaml:PATH, openai:URL#MODEL (any OpenAI-compatible endpoint), vlm:MODEL (a local vision-language "
    "model), or clip:MODEL[#WORDS.yaml]"
)


def _parsed(option: str) -> tuple[str, str, str]:
    """(kind; path, address or model; model or words). Raises NamerError."""
    kind, _, rest = option.partition(":")
    if option == "vocabulary":
        return option, "", ""
    if kind in ("yaml", "vlm") and rest:
        return kind, rest, ""
    if kind == "openai":
        url, _, model = rest.rpartition("#")
        if url and model:
            return kind, url, model
    if kind == "clip":
        model, mark, words = rest.partition("#")
        if model and bool(mark) == bool(words):
            return kind, model, words
    raise NamerError(f"namer {public(option)!r} is unknown: use {_FORMS}")
