"""The prompts of the real benchmark: `prompts.yaml`, and a user's own file of the same layout on top of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Task

_SECTIONS = ("subjects", "fallback")
_SLOT = "NOUN"


@dataclass(frozen=True)
class BenchPrompt:
    """``edit``: of what kind the change is, None for a prompt that keeps the subject as it is."""

    text: str
    edit: str | None = None


@dataclass(frozen=True)
class SubjectPrompts:
    """What is asked for with one subject; each prompt holds the class noun."""

    class_noun: str
    prompts: Mapping[Task, tuple[BenchPrompt, ...]]


@dataclass(frozen=True)
class PromptBook:
    """Prompts by the subject's name, and by group of nouns for all others; ``sha256``: of the files' bytes."""

    subjects: Mapping[str, _Entry]
    fallback: Mapping[str, _Entry]
    sha256: tuple[str, ...]

    def of(self, subject: str) -> SubjectPrompts:
        """The prompts of a subject. Without an entry its noun is its name without figures.

        Raises:
            BenchError: such a name holds no word.
        """
        entry = self.subjects.get(subject, _Entry())
        noun = entry.class_noun or " ".join(re.sub(r"[\W\d_]+", " ", subject).split()).lower()
        if not noun:
            raise BenchError(f"what the subject {subject!r} is cannot be told: give its class in a file of prompts")
        if not entry.prompts:
            group = next((one for one in self.fallback.values() if {noun, noun.split()[-1]} & one.nouns), None)
            entry = group or next(one for one in self.fallback.values() if not one.nouns)
        prompts = {
            task: tuple(BenchPrompt(prompt.text.replace(_SLOT, noun), prompt.edit) for prompt in asked)
            for task, asked in entry.prompts.items()
        }
        for asked in prompts.values():
            for prompt in asked:
                if not re.search(rf"(?<!\w){re.escape(noun)}(?!\w)", prompt.text, re.IGNORECASE):
                    raise BenchError(f"the prompt {prompt.text!r} of {subject} lacks its class noun {noun!r}: name it")
        return SubjectPrompts(noun, prompts)


@dataclass(frozen=True)
class _Entry:
    class_noun: str = ""
    nouns: frozenset[str] = frozenset()
    prompts: Mapping[Task, tuple[BenchPrompt, ...]] = field(default_factory=dict)


def load_prompts(path: str | Path | None = None) -> PromptBook:
    """The shipped prompts; entries of the file ``path`` go before those of the same name.

    Raises:
        BenchError: a file that is missing, no YAML, or of another layout; the entry is named.
    """
    shipped = files("intarsia.evaluation.bench").joinpath("prompts.yaml").read_bytes()
    subjects, fallback = _read("prompts.yaml", shipped)
    hashes = [hashlib.sha256(shipped).hexdigest()]
    if path is not None:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BenchError(f"the prompts {path} cannot be read ({error.strerror}): check the path") from error
        more, groups = _read(str(path), data)
        subjects, fallback = {**subjects, **more}, {**groups, **{k: v for k, v in fallback.items() if k not in groups}}
        hashes.append(hashlib.sha256(data).hexdigest())
    if all(group.nouns for group in fallback.values()):
        raise BenchError(f"{path}: each group of the fallback has nouns: leave one without, for all other subjects")
    return PromptBook(subjects, fallback, tuple(hashes))


def _read(name: str, data: bytes) -> tuple[dict[str, _Entry], dict[str, _Entry]]:
    import yaml

    try:
        content = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"the prompts {name} are no YAML ({error}): correct the file") from error
    if not isinstance(content, dict) or not content or set(content) - set(_SECTIONS):
        raise BenchError(f"the prompts {name} have another layout: give the sections {' and '.join(_SECTIONS)}")
    subjects, fallback = (content.get(section) or {} for section in _SECTIONS)
    if not isinstance(subjects, dict) or not isinstance(fallback, dict):
        raise BenchError(f"the prompts {name} have another layout: give a mapping of names below each section")
    return (
        {str(key): _entry(f"{name}: {key}", value, {"class"}) for key, value in subjects.items()},
        {str(key): _entry(f"{name}: {key}", value, {"nouns"}) for key, value in fallback.items()},
    )


def _entry(where: str, value: Any, own: set[str]) -> _Entry:
    """``own``: the keys beside the prompts, which are both there or, for a subject, both missing."""
    allowed = own | {"identity", "editing"}
    if not isinstance(value, dict) or set(value) - allowed:
        raise BenchError(f"{where} is wrong: give {', '.join(sorted(allowed))} there, and nothing else")
    noun = value.get("class", "")
    if not isinstance(noun, str) or ("class" in value and not noun.split()):
        raise BenchError(f"{where} has the class {noun!r}: give a noun")
    nouns = frozenset(_texts(where, "nouns", value["nouns"])) if "nouns" in value else frozenset[str]()
    if "class" in own and not {"identity", "editing"} & set(value):
        return _Entry(" ".join(noun.split()))
    editing = value.get("editing")
    if not isinstance(editing, dict) or not editing:
        raise BenchError(f"{where} has no editing prompts: give a mapping of the kind of change to its prompts")
    return _Entry(
        " ".join(noun.split()),
        nouns,
        {
            "identity": tuple(BenchPrompt(text) for text in _texts(where, "identity", value.get("identity"))),
            "editing": tuple(
                BenchPrompt(text, str(kind)) for kind, texts in editing.items() for text in _texts(where, kind, texts)
            ),
        },
    )


def _texts(where: str, key: object, value: Any) -> list[str]:
    texts = [" ".join(text.split()) for text in value if isinstance(text, str)] if isinstance(value, list) else []
    if not texts or len(texts) != len(value) or not all(texts):
        raise BenchError(f"{where} has {key}: {value!r}: give a list of texts")
    return texts
