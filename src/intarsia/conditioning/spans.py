"""Words of a text and the token rows they became, by the tokenizer's character offsets."""

from __future__ import annotations

import re
from typing import Any


def token_offsets(tokenizer: Any, text: str, *, whole: bool = False) -> list[tuple[int, int]]:
    """Character range [start, end) of every token row, as the text tower gets them; (0, 0) for special
    tokens.

    Row 0 is the start token. Rows beyond the tokenizer's window are not listed, unless `whole`.
    """
    encoded = tokenizer(
        text,
        truncation=not whole,
        max_length=None if whole else tokenizer.model_max_length,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    return [
        (0, 0) if special else (int(start), int(end))
        for (start, end), special in zip(
            encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
        )
    ]


def rows_of_range(tokenizer: Any, text: str, start: int, end: int) -> list[int]:
    """Token rows that hold any character of `text[start:end]`."""
    return [
        row
        for row, (first, last) in enumerate(token_offsets(tokenizer, text))
        if first < last and first < end and last > start
    ]


def spans(tokenizer: Any, prompt: str, word: str) -> list[list[int]]:
    """Token rows of each occurrence of `word` (or phrase) in `prompt`; [] where it is absent or was cut off.

    Upper and lower case are the same. Only whole words count ("red" is in "red-hot" and "Red,", not in
    "bored"); several blanks count as one.
    """
    parts = word.split()
    if not parts:
        return []
    pattern = r"(?<!\w)" + r"\s+".join(re.escape(part) for part in parts) + r"(?!\w)"
    found = (
        rows_of_range(tokenizer, prompt, match.start(), match.end())
        for match in re.finditer(pattern, prompt, flags=re.IGNORECASE)
    )
    return [rows for rows in found if rows]


def words_cut(tokenizer: Any, prompt: str) -> list[str]:
    """The words that do not fit, or not wholly, into the tokenizer's window."""
    offsets = token_offsets(tokenizer, prompt, whole=True)
    window = int(tokenizer.model_max_length)
    if len(offsets) <= window:
        return []
    # The last row of the window is the end token, so the row before it is the last one that holds text.
    first_lost = offsets[window - 1][0]
    return [match.group() for match in re.finditer(r"\S+", prompt) if match.end() > first_lost]
