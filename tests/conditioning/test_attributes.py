from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest_tiny import tiny_backbone

from intarsia.backbones import Backbone
from intarsia.conditioning import (
    ConditioningError,
    encode_prompt,
    orthonormal_basis,
    remove_directions,
    spans,
    substitute_attributes,
)

PROMPT = "a photo of a sks blue teapot"
FIRST_TOWER = 16


@lru_cache(maxsize=1)
def backbone() -> Backbone:
    return tiny_backbone()


def attribute_rows(attribute: str) -> torch.Tensor:
    """The attribute's rows found independently of the code under test: all tokens after the context's."""
    context = "a photo of a"
    count = len(backbone().tokenizer(context).input_ids) - 1
    total = len(backbone().tokenizer(f"{context} {attribute}").input_ids) - 1
    return encode_prompt(backbone(), f"{context} {attribute}").tokens[0, count:total]


def word_rows(prompt: str) -> list[int]:
    return list(range(1, len(backbone().tokenizer(prompt).input_ids) - 1))


def cosines(rows: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    return (
        torch.nn.functional.normalize(rows.double(), dim=-1)
        @ torch.nn.functional.normalize(directions.double(), dim=-1).T
    )


ATTRIBUTES = st.lists(
    st.sampled_from(["clay", "red", "polka-dot", "hand painted, old", "porcelain", "red"]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None)
@given(ATTRIBUTES, st.booleans())
def test_full_strength_is_perpendicular_to_everything_removed(remove: list[str], joint: bool) -> None:
    result = (
        substitute_attributes(backbone(), PROMPT, remove, joint=joint).tokens[0, word_rows(PROMPT)].double()
    )
    plain = encode_prompt(backbone(), PROMPT).tokens[0, word_rows(PROMPT)].double()
    directions = torch.cat([attribute_rows(attribute) for attribute in remove]).double()
    parts = [slice(None)] if joint else [slice(None, FIRST_TOWER), slice(FIRST_TOWER, None)]
    for part in parts:
        along = result[:, part] @ torch.nn.functional.normalize(directions[:, part], dim=-1).T
        assert (along.abs() <= 1e-5 * plain[:, part].norm(dim=-1, keepdim=True)).all()
    assert not torch.allclose(result, plain)


def test_one_direction_by_hand() -> None:
    plain = encode_prompt(backbone(), PROMPT).tokens[0]
    (e,) = attribute_rows("clay")
    e = e / e.norm()
    for strength in (0.4, 1.0):
        result = substitute_attributes(backbone(), PROMPT, ["clay"], strength=strength).tokens[0]
        for row in word_rows(PROMPT):
            torch.testing.assert_close(
                result[row], plain[row] - strength * (plain[row] @ e) * e, atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("joint", [True, False])
def test_zero_strength_and_nothing_to_remove_are_the_identity(joint: bool) -> None:
    plain = encode_prompt(backbone(), PROMPT)
    for result in (
        substitute_attributes(backbone(), PROMPT, ["clay"], strength=0.0, joint=joint),
        substitute_attributes(backbone(), PROMPT, [], joint=joint),
    ):
        assert torch.equal(result.tokens, plain.tokens) and torch.equal(result.pooled, plain.pooled)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("restore_norm", [True, False])
def test_start_end_padding_and_protected_rows_stay_bit_by_bit(joint: bool, restore_norm: bool) -> None:
    plain = encode_prompt(backbone(), PROMPT).tokens[0]
    protect = ["Blue", "absent"]
    result = substitute_attributes(
        backbone(), PROMPT, ["clay"], protect=protect, joint=joint, restore_norm=restore_norm
    ).tokens[0]
    (blue,) = spans(backbone().tokenizer, PROMPT, "blue")
    touched = set(word_rows(PROMPT)) - set(blue)
    for row in range(len(plain)):
        assert torch.equal(result[row], plain[row]) == (row not in touched), row


def test_restored_norms() -> None:
    plain = encode_prompt(backbone(), PROMPT).tokens[0].norm(dim=-1)
    result = (
        substitute_attributes(backbone(), PROMPT, ["clay", "red"], restore_norm=True).tokens[0].norm(dim=-1)
    )
    torch.testing.assert_close(result, plain, atol=1e-4, rtol=1e-4)


def test_batches_equal_single_prompts() -> None:
    prompts = [PROMPT, "a duck", "the glossy porcelain mug, on the table"]
    batch = substitute_attributes(backbone(), prompts, ["clay", "polka dot"], protect=["mug"])
    for index, prompt in enumerate(prompts):
        single = substitute_attributes(backbone(), prompt, ["clay", "polka dot"], protect=["mug"])
        torch.testing.assert_close(batch.tokens[index], single.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.pooled[index], single.pooled[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["difference", "own", "keep"])
def test_pooled_vector_loses_the_attribute_not_the_sentence(mode: Any) -> None:
    plain = encode_prompt(backbone(), PROMPT).pooled
    result = substitute_attributes(backbone(), PROMPT, ["clay"], pooled=mode).pooled
    if mode == "keep":
        assert torch.equal(result, plain)
        return
    if mode == "own":
        direction = encode_prompt(backbone(), "clay").pooled
    else:
        direction = (
            encode_prompt(backbone(), "a photo of a clay").pooled
            - encode_prompt(backbone(), "a photo of a").pooled
        )
    assert cosines(result, direction).abs().max() < 1e-5 < cosines(plain, direction).abs().max()
    sentence = encode_prompt(backbone(), "a photo of a clay").pooled
    assert cosines(result, sentence).abs().max() > 1e-3


def test_words_that_look_like_the_context_are_found_at_their_own_place() -> None:
    result = substitute_attributes(backbone(), PROMPT, ["photo"]).tokens[0, word_rows(PROMPT)]
    assert cosines(result, attribute_rows("photo")).abs().max() < 1e-5


vectors = st.integers(0, 2**31 - 1).map(lambda seed: torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(vectors, st.integers(1, 6), st.integers(0, 4))
def test_basis_is_orthonormal_spans_all_and_drops_dependent_vectors(
    generator: torch.Generator, count: int, copies: int
) -> None:
    free = torch.randn(count, 12, generator=generator)
    mixed = torch.randn(copies, count, generator=generator) @ free
    order = torch.randperm(count + copies, generator=generator)
    given_vectors = torch.cat([free, mixed])[order]
    basis = orthonormal_basis(given_vectors)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-9, rtol=0)
    assert len(basis) == count
    left = given_vectors.double() - given_vectors.double() @ basis.T @ basis
    assert left.abs().max() < 1e-2 * given_vectors.abs().max()


@settings(max_examples=25, deadline=None)
@given(vectors, st.floats(0.0, 1.0))
def test_removal_is_idempotent_and_never_mutates(generator: torch.Generator, strength: float) -> None:
    values = torch.randn(2, 5, 8, generator=generator)
    rows = torch.rand(2, 5, generator=generator) > 0.5
    basis = orthonormal_basis(torch.randn(3, 8, generator=generator))
    before = values.clone()
    once = remove_directions(values, basis, rows)
    torch.testing.assert_close(remove_directions(once, basis, rows), once, atol=1e-6, rtol=0)
    partly = remove_directions(values, basis, rows, strength=strength)
    torch.testing.assert_close(partly, values + strength * (once - values), atol=1e-5, rtol=0)
    assert torch.equal(values, before)
    assert torch.equal(partly[~rows], values[~rows])
    assert remove_directions(values, basis, strength=0.0).data_ptr() != values.data_ptr()


def test_zero_vectors_give_no_direction() -> None:
    assert orthonormal_basis(torch.zeros(3, 4)).shape == (0, 4)


def test_bad_settings_are_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"remove": "clay"}, "list of attributes"),
        ({"remove": ["clay", " "]}, "blank"),
        ({"remove": ["clay"], "strength": 1.5}, r"1\.5"),
        ({"remove": ["clay"], "strength": float("nan")}, "nan"),
        ({"remove": ["clay"], "context": "a photo"}, "a photo"),
        ({"remove": ["clay"], "pooled": "all"}, "all"),
        ({"remove": ["clay"], "context": "red " * 30 + "{attribute}"}, "does not fit"),
    ]
    for arguments, words in cases:
        with pytest.raises(ConditioningError, match=words):
            substitute_attributes(backbone(), PROMPT, **arguments)


def test_towers_that_tokenize_differently_need_the_per_tower_option() -> None:
    import dataclasses

    from tests.conftest_tiny import WINDOW, tiny_vocabulary
    from transformers import CLIPTokenizer

    vocabulary, _ = tiny_vocabulary()
    letters = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=WINDOW)
    mixed = dataclasses.replace(backbone(), tokenizer_2=letters)
    with pytest.raises(ConditioningError, match="joint=False"):
        substitute_attributes(mixed, "a red mug", ["clay"])
    assert substitute_attributes(mixed, "a red mug", ["clay"], joint=False).tokens.shape == (1, WINDOW, 40)
