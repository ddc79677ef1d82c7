"""One training pair: a picture without an object, the same with it, and instructions that ask for the object."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from intarsia.errors import IntarsiaError

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

SOURCE, TARGET, MASK, LOCATION = "source_img", "target_img", "mask", "object_location"
KINDS = ("Instruction_VLM-LLM", "Instruction_Class", "Instruction_Ref_Dataset")
COLUMNS = (SOURCE, TARGET, MASK, LOCATION, *KINDS)
"""PIPE's columns, and the mask that the pairs engine adds."""

_DIFFERS = 24
"""A pixel without a mask's word belongs to the object when a colour value differs by more, of 255."""

_SIDE = re.compile(r"\b(?:left|right)(?=\b|most\b|hand\b)", re.I)
# "right next to the cup" names no side, "at the top right behind the cup" does.
_NO_SIDE_AFTER = re.compile(
    r"\s+(?:next|behind|beside|above|below|under|by|in|at|near|against|between|angles?|now|side\s+up)\b", re.I
)
_SIDE_BEFORE = re.compile(r"\b(?:the|top|bottom|upper|lower|middle|cent(?:er|re)|far|on|to|from)\s+$", re.I)


class PairError(IntarsiaError):
    """Training pairs that cannot be used."""


@dataclass(frozen=True, eq=False)
class Pair:
    """``source`` and ``target`` (H, W, 3) uint8; ``mask`` (H, W) bool: the object; ``instructions`` by kind, "" where
    there is none; ``location``: where the object is, said after "at", or ""."""

    key: str
    source: Pixels
    target: Pixels
    mask: Bools
    instructions: tuple[str, ...]
    location: str
    dataset: str

    def mirrored(self) -> Pair:
        """Left and right exchanged, in the words too."""
        source, target = np.ascontiguousarray(self.source[:, ::-1]), np.ascontiguousarray(self.target[:, ::-1])
        mask = np.ascontiguousarray(self.mask[:, ::-1])
        words = tuple(swap_sides(text) for text in self.instructions)
        return Pair(self.key, source, target, mask, words, swap_sides(self.location), self.dataset)


def swap_sides(text: str) -> str:
    """The text with left for right and right for left, in the same case: what a mirrored picture is called."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        before, relation = text[: match.start()], _NO_SIDE_AFTER.match(text, match.end())
        if word.lower() == "right" and relation and not _SIDE_BEFORE.search(before):
            return word
        # "the only cake left" is what remains.
        if word.lower() == "left" and not text[match.end() :].strip(" .") and re.search(r"\bonly\b", before, re.I):
            return word
        swapped = "right" if word.lower() == "left" else "left"
        return swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE.sub(other, text)


def decode_pair(key: str, row: Mapping[str, Any], dataset: str) -> Pair:
    """A row of PIPE's columns as a pair. Pictures are encoded bytes, or Hugging Face's {"bytes": …}; a mask may be
    missing and is then where the pictures differ.

    Raises:
        PairError: a picture is missing, broken or of another size than the other, or there is no instruction.
    """
    source, target = (_picture(key, row, name) for name in (SOURCE, TARGET))
    if source.shape != target.shape:
        sizes = [f"{a.shape[0]}x{a.shape[1]}" for a in (source, target)]
        raise PairError(f"pair {key!r} has pictures of {sizes[0]} and {sizes[1]} px: make both of one size")
    instructions = tuple(" ".join(str(row.get(kind) or "").split()) for kind in KINDS)
    if not any(instructions):
        raise PairError(f"pair {key!r} has no instruction in any of {', '.join(KINDS)}: leave it out")
    if row.get(MASK) is None:
        mask = (np.abs(source.astype(np.int16) - target) > _DIFFERS).any(2)
    else:
        mask = _picture(key, row, MASK)[..., 0] > 127
        if mask.shape != source.shape[:2]:
            raise PairError(
                f"pair {key!r} has a mask of {mask.shape[0]}x{mask.shape[1]} px for pictures of "
                f"{source.shape[0]}x{source.shape[1]}: make them of one size"
            )
    return Pair(key, source, target, mask, instructions, " ".join(str(row.get(LOCATION) or "").split()), dataset)


def _picture(key: str, row: Mapping[str, Any], name: str) -> Pixels:
    value = row.get(name)
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, bytes):
        raise PairError(f"pair {key!r} has no picture {name!r}: give folders of PIPE's columns")
    try:
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PairError(f"{name!r} of pair {key!r} cannot be read: make the shard again or leave it out") from error
