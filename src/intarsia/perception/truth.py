"""What is truly in a rendered picture: a JSON file beside it, NAME.truth.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from intarsia.perception.errors import HelperError, PerceptionError
from intarsia.perception.helpers import BoolArray, Box
from intarsia.perception.masks import from_rle, to_rle
from intarsia.perception.phrases import describe

VERSION = 1
SUFFIX = ".truth.json"


@dataclass(frozen=True, eq=False)
class TruthObject:
    """One thing: what it may be called, its attributes by kind as captions write them ("pattern": "white stripes"),
    the colours that are a true answer to "what colour is it?", and its visible mask with the mask's tight box."""

    nouns: tuple[str, ...]
    attributes: Mapping[str, str]
    colours: tuple[str, ...]
    box: Box
    mask: BoolArray

    @property
    def caption(self) -> str:
        """Everything that can be said of it."""
        return describe(self.nouns[0], self.attributes, opening="a")


@dataclass(frozen=True, eq=False)
class Truth:
    """A picture's visible things, from front to back or in any other order; ``background``: what a tagger would call
    the rest; ``words``: kind -> all words of this world (nouns, colour, material, pattern, accessories)."""

    size: tuple[int, int]
    objects: tuple[TruthObject, ...]
    background: tuple[str, ...]
    words: Mapping[str, Sequence[str]]

    @classmethod
    def load(cls, picture: str | Path) -> Truth:
        """The truth beside a picture file. Raises HelperError: there is none, or it is malformed."""
        path = truth_path(picture)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise HelperError(
                f"{picture} has no {path.name} beside it: truth helpers need pictures of `intarsia data tabletop`"
            ) from error
        except (OSError, ValueError) as error:
            raise HelperError(f"{path} cannot be read ({error}): render the pictures again") from error
        try:
            if content["version"] != VERSION:
                raise HelperError(f"{path} has version {content['version']}: render the pictures again")
            objects = tuple(_object(part) for part in content["objects"])
            height, width = content["size"]
            return cls((height, width), objects, tuple(content["background"]), content["words"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, PerceptionError):
                raise
            raise HelperError(f"{path} is malformed ({error}): render the pictures again") from error

    def to_json(self) -> str:
        """The file's text: equal truths give equal text."""
        objects = [
            {
                "nouns": list(thing.nouns),
                "attributes": dict(thing.attributes),
                "colours": list(thing.colours),
                "box": list(thing.box),
                "mask": to_rle(thing.mask),
                "caption": thing.caption,
            }
            for thing in self.objects
        ]
        content = {
            "version": VERSION,
            "size": list(self.size),
            "objects": objects,
            "background": list(self.background),
            "words": {kind: list(words) for kind, words in self.words.items()},
        }
        return json.dumps(content, sort_keys=True) + "\n"


def truth_path(picture: str | Path) -> Path:
    """Where the truth of a picture file is."""
    return Path(picture).with_suffix(SUFFIX)


@lru_cache(maxsize=8)
def remembered_truth(picture: Path) -> Truth:
    """`Truth.load`, for several helpers that look at one picture after the other."""
    return Truth.load(picture)


def _object(part: Mapping[str, Any]) -> TruthObject:
    x, y, w, h = part["box"]
    return TruthObject(
        tuple(part["nouns"]), dict(part["attributes"]), tuple(part["colours"]), (x, y, w, h), from_rle(part["mask"])
    )
