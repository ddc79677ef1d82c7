"""The steps ``tag`` and ``blacklist``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from intarsia.engines.errors import EngineError
from intarsia.engines.quadruplets.samples import Row, photo_of, rounded
from intarsia.perception import Helpers, Tagger


@dataclass(frozen=True)
class Blacklist:
    """Tags that are no object, and last words of such tags."""

    tags: frozenset[str]
    last_words: frozenset[str]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Blacklist:
        """The package's list, with a file of the same layout added to it. Raises EngineError."""
        shipped = _sections(Path(str(files("intarsia.engines.quadruplets") / "blacklist.yaml")))
        own = _sections(Path(path)) if path is not None else {}
        allowed = own.get("allow", frozenset()) | shipped.get("allow", frozenset())
        return cls(
            (shipped["tags"] | own.get("tags", frozenset())) - allowed,
            (shipped["last_words"] | own.get("last_words", frozenset())) - allowed,
        )

    def forbids(self, tag: str) -> bool:
        """A tag that is listed (also in the plural or as -ing form of a listed verb), or ends in a listed word."""
        words = tag.split()
        if not words or any(not any(letter.isalpha() for letter in word) for word in words):
            return True
        forms = {tag, tag.removesuffix("s"), tag.removesuffix("es")}
        if len(words) == 1 and tag.endswith("ing"):
            stem = tag.removesuffix("ing")
            forms |= {stem, stem + "e", stem[:-1] if stem[-2:-1] == stem[-1:] else stem}
        return bool(forms & self.tags) or words[-1] in self.last_words


def make_tag(helpers: Helpers) -> Callable[[Row], list[Row]]:
    """The step ``tag``."""
    return partial(tag, tagger=helpers.load_tagger())


def tag(row: Row, *, tagger: Tagger) -> list[Row]:
    """Adds ``tags``: JSON, a list of [word, score]."""
    found = tagger.tag(photo_of(row))
    row = {**row, "tags": json.dumps([[tag.text, rounded(tag.score)] for tag in found])}
    return [row if found else {**row, "rejected": "no tags"}]


def make_blacklist(blacklist: Blacklist) -> Callable[[Row], list[Row]]:
    """The step ``blacklist``."""
    return partial(drop_tags, blacklist=blacklist)


def drop_tags(row: Row, *, blacklist: Blacklist) -> list[Row]:
    """Leaves in ``tags`` what may be an object; the others go to ``dropped_tags``."""
    tags = json.loads(row["tags"])
    kept = [tag for tag in tags if not blacklist.forbids(tag[0])]
    dropped = [tag for tag in tags if blacklist.forbids(tag[0])]
    row = {**row, "tags": json.dumps(kept), "dropped_tags": json.dumps(dropped)}
    return [row if kept else {**row, "rejected": "no tag names an object"}]


def _sections(path: Path) -> dict[str, frozenset[str]]:
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EngineError(f"the blacklist {path} cannot be read ({type(error).__name__}): give a YAML file") from error
    if not isinstance(content, dict) or not set(content) <= {"tags", "last_words", "allow"}:
        raise EngineError(f"the blacklist {path} must have the sections tags, last_words and allow only")
    if not all(isinstance(words, list) for words in content.values()):
        raise EngineError(f"the blacklist {path} is malformed: each section is a list of words")
    return {name: frozenset(" ".join(str(word).lower().split()) for word in words) for name, words in content.items()}
