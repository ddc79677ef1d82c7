from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest_tiny import WINDOW, tiny_backbone, tiny_tokenizer

from intarsia.conditioning import (
    Conditioning,
    ConditioningError,
    PromptTruncatedWarning,
    ScheduledConditioning,
    empty_conditioning,
    encode_prompt,
    spans,
)

TOKENIZER = tiny_tokenizer()


def text_of(prompt: str, rows: list[int]) -> str:
    encoded = TOKENIZER(prompt, return_offsets_mapping=True)
    offsets = [encoded.offset_mapping[row] for row in rows]
    return prompt[offsets[0][0] : offsets[-1][1]]


def test_encoding_equals_the_diffusers_pipeline() -> None:
    from diffusers import DDIMScheduler, StableDiffusionXLInpaintPipeline

    backbone = tiny_backbone()
    pipe = StableDiffusionXLInpaintPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        text_encoder_2=backbone.text_encoder_2,
        tokenizer=backbone.tokenizer,
        tokenizer_2=backbone.tokenizer_2,
        unet=backbone.unet,
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )
    prompts = ["a red mug on the table", "porcelain duck"]
    with torch.no_grad():
        tokens, negative, pooled, negative_pooled = pipe.encode_prompt(prompts)
    ours, empty = encode_prompt(backbone, prompts), empty_conditioning(backbone)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(empty.tokens.expand_as(negative), negative)
    torch.testing.assert_close(empty.pooled.expand_as(negative_pooled), negative_pooled)


def test_empty_prompt_where_the_model_wants_no_zeros() -> None:
    import dataclasses

    backbone = dataclasses.replace(tiny_backbone(), force_zeros_for_empty_prompt=False)
    assert torch.equal(empty_conditioning(backbone).tokens, encode_prompt(backbone, "").tokens)
    assert empty_conditioning(backbone).tokens.abs().sum() > 0


def test_too_long_prompts_warn_with_the_words_cut() -> None:
    backbone = tiny_backbone()
    fits = " ".join(["red"] * (WINDOW - 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = encode_prompt(backbone, fits)
    with pytest.warns(PromptTruncatedWarning, match="cut off: blue clay duck$") as caught:
        cut = encode_prompt(backbone, f"{fits} blue clay duck")
    assert len(caught) == 1
    torch.testing.assert_close(cut.tokens, kept.tokens)
    with pytest.warns(PromptTruncatedWarning, match="cut off: zyxwv$"):  # a word cut in its middle
        encode_prompt(backbone, " ".join(["red"] * (WINDOW - 4)) + " zyxwv")


@pytest.mark.parametrize(
    "prompt, word, expected",
    [
        ("a photo of a Red, blue mug", "red", ["Red"]),
        ("a red-hot mug, RED.", "red", ["red", "RED"]),
        ("a porcelain mug", "Porcelain", ["porcelain"]),
        ("bored of redness", "red", []),
        ("a polka  dot mug", "polka dot", ["polka  dot"]),
        ("a hand-made mug", "hand-made", ["hand-made"]),
        ("naïve 漢字 mug", "漢字", ["漢字"]),
        ("a mug", "duck", []),
        ("a mug", "  ", []),
    ],
)
def test_spans(prompt: str, word: str, expected: list[str]) -> None:
    assert [text_of(prompt, rows) for rows in spans(TOKENIZER, prompt, word)] == expected


def test_spans_of_cut_words_are_gone() -> None:
    assert spans(TOKENIZER, " ".join(["red"] * 40) + " mug", "mug") == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["red", "mug", "vermilion", "hand-made", "of"]), min_size=1, max_size=5),
    st.sampled_from([" ", ", ", " - ", "  "]),
)
def test_spans_partition_the_words(words: list[str], glue: str) -> None:
    prompt = glue.join(words)
    rows = [row for word in set(words) for span in spans(TOKENIZER, prompt, word) for row in span]
    assert len(rows) == len(set(rows)), "no token belongs to two words"
    window = len(TOKENIZER(prompt, truncation=True, max_length=WINDOW).input_ids)
    assert all(1 <= row <= window - 2 for row in rows)


def test_conditioning_shapes_and_schedule() -> None:
    plain = Conditioning(torch.zeros(1, 3, 4), torch.zeros(1, 2))
    other = Conditioning(torch.ones(1, 3, 4), torch.ones(1, 2))
    assert len(plain.repeat(3)) == 3
    with pytest.raises(ConditioningError):
        Conditioning(torch.zeros(2, 3, 4), torch.zeros(1, 2))
    expected = {"both": (other, other), "local": (other, plain), "none": (plain, plain)}
    for stages, (local, whole) in expected.items():
        scheduled = ScheduledConditioning(plain, other, stages)  # type: ignore[arg-type]
        assert scheduled.for_stage("local") is local and scheduled.for_stage("global") is whole
    with pytest.raises(ConditioningError, match="sometimes"):
        ScheduledConditioning(plain, other, "sometimes")  # type: ignore[arg-type]
    with pytest.raises(ConditioningError, match="middle"):
        ScheduledConditioning(plain, other).for_stage("middle")


def test_no_prompt_is_an_error() -> None:
    with pytest.raises(ConditioningError, match="no prompt"):
        encode_prompt(tiny_backbone(), [])
