"""SDXL's way of encoding a prompt with two text towers, and Stable Diffusion 1.5's with one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intarsia.conditioning.embeddings import Conditioning
from intarsia.conditioning.errors import ConditioningError, PromptTruncatedWarning
from intarsia.conditioning.spans import words_cut

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone


@dataclass(frozen=True, eq=False)
class TowerOutput:
    """One tower's penultimate states (B, L, D), which rows are words (B, L), its projected vector, if any, and its
    last states (B, L, D), normalised."""

    tokens: Tensor
    words: Tensor
    pooled: Tensor | None
    last: Tensor


def encode_prompt(backbone: Backbone, prompt: str | Sequence[str]) -> Conditioning:
    """Encode one prompt (B = 1) or several with both towers.

    tokens: penultimate hidden states of both, concatenated; pooled: projected end-token state of the second.
    A model of one tower only has the last states after the final norm as tokens, and pooled is (B, 0).
    Warns with `PromptTruncatedWarning`, naming the words cut, where a prompt exceeds a tokenizer's window.
    """
    import torch

    prompts = as_list(prompt)
    warn_if_cut(backbone, prompts)
    if backbone.text_encoder_2 is None:
        tokens = _encode_tower(backbone.tokenizer, backbone.text_encoder, prompts).last
        return Conditioning(tokens, tokens.new_zeros(len(tokens), 0))
    first, second = encode_towers(backbone, prompts)
    assert second.pooled is not None
    return Conditioning(torch.cat([first.tokens, second.tokens], dim=-1), second.pooled)


def empty_conditioning(backbone: Backbone) -> Conditioning:
    """What guidance leads away from when there is no negative prompt (B = 1).

    Zeros where the model asks for it (`force_zeros_for_empty_prompt`, as SDXL does), else the empty prompt.
    """
    import torch

    encoded = encode_prompt(backbone, "")
    if not backbone.force_zeros_for_empty_prompt:
        return encoded
    return Conditioning(torch.zeros_like(encoded.tokens), torch.zeros_like(encoded.pooled))


def encode_towers(backbone: Backbone, prompts: Sequence[str]) -> tuple[TowerOutput, TowerOutput]:
    """Both towers' outputs for some prompts, without warnings. Raises ConditioningError where there is only one."""
    if backbone.text_encoder_2 is None:
        raise ConditioningError(
            f"model {backbone.name!r} has one text tower only: attributes cannot be substituted in its prompts"
        )
    first = _encode_tower(backbone.tokenizer, backbone.text_encoder, prompts)
    second = _encode_tower(backbone.tokenizer_2, backbone.text_encoder_2, prompts)
    if first.tokens.shape[1] != second.tokens.shape[1]:
        raise ConditioningError(
            f"the text towers' windows differ ({first.tokens.shape[1]} and {second.tokens.shape[1]} tokens): "
            "use a model whose tokenizers have the same model_max_length"
        )
    return first, second


def as_list(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise ConditioningError("no prompt was given: pass a text, or a list of at least one")
    return prompts


def warn_if_cut(backbone: Backbone, prompts: Sequence[str]) -> None:
    for text in prompts:
        tokenizers = [t for t in (backbone.tokenizer, backbone.tokenizer_2) if t is not None]
        cut = max((words_cut(tokenizer, text) for tokenizer in tokenizers), key=len)
        if cut:
            warnings.warn(
                f"the prompt is too long for {backbone.name!r}; cut off: {' '.join(cut)}",
                PromptTruncatedWarning,
                stacklevel=3,
            )


def _encode_tower(tokenizer: Any, tower: Any, prompts: Sequence[str]) -> TowerOutput:
    import torch

    encoded = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    parameter = next(tower.parameters())
    with torch.no_grad():
        output = tower(encoded.input_ids.to(parameter.device), output_hidden_states=True)
    # The attention mask covers start token, words and end token; the words lie between.
    position = torch.arange(encoded.input_ids.shape[1])[None]
    words = (position >= 1) & (position < encoded.attention_mask.sum(dim=1, keepdim=True) - 1)
    pooled = getattr(output, "text_embeds", None)
    return TowerOutput(output.hidden_states[-2], words.to(parameter.device), pooled, output.last_hidden_state)
