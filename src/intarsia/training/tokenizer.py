"""A tokenizer in CLIP's own format (byte-level BPE with end-of-word marks) made from the world's words.

Every byte is in the vocabulary, so any text can be encoded; each word of the world is one token.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
_SUFFIX = "</w>"


def _byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes of byte-level BPE (GPT-2's table, in its order)."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in visible]
    return [chr(b) for b in visible] + [chr(256 + n) for n in range(len(hidden))]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al. 2016), learned until every given word is a single token."""
    splits = {word: [*word[:-1], word[-1] + _SUFFIX] for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts in splits.values():
            pairs.update(itertools.pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in splits.values():
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = ["".join(best)]
                at += 1


def build_tokenizer(words: Sequence[str], context: int) -> Any:
    """A ``CLIPTokenizer`` for windows of ``context`` tokens, padded with the end token."""
    from transformers import CLIPTokenizer

    alphabet = _byte_alphabet()
    merges = learn_merges(words)
    tokens = [
        *alphabet,
        *(a + _SUFFIX for a in alphabet),
        *dict.fromkeys("".join(m) for m in merges),
        START,
        END,
    ]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # pairs are taken, whatever the annotation says
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=context,
    )
