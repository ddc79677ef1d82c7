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
    """What the U-Net sees of one tower (B, L, D), which rows are words (B, L), and its projected vector (B, P), if
    any."""

    tokens: Tensor
    words: Tensor
    pooled: Tensor | None


def encode_prompt(backbone: Backbone, prompt: str | Sequence[str]) -> Conditioning:
    """Encode one prompt (B = 1) or several with both towers.

    tokens: penultimate hidden states of both, concatenated; pooled: projected end-token state of the second.
    A model of one tower only has the last states after the final norm as tokens, and pooled is (B, 0).
    Warns with `PromptTruncatedWarning`, naming the words cut, where a prompt exceeds a tokenizer's window.
    """
    import torch

    prompts = as_list(prompt)
    warn_if_cut(backbone, prompts)
    towers = encode_towers(backbone, prompts)
    return Conditioning(torch.cat([tower.tokens for tower in towers], dim=-1), pooled_of(towers))


def empty_conditioning(backbone: Backbone) -> Conditioning:
    """What guidance leads away from when there is no negative prompt (B = 1).

    Zeros where the model asks for it (`force_zeros_for_empty_prompt`, as SDXL does), else the empty prompt.
    """
    import torch

    if not backbone.force_zeros_for_empty_prompt:
        return encode_prompt(backbone, "")
    towers: list[Any] = [tower for tower in (backbone.text_encoder, backbone.text_encoder_2) if tower is not None]
    width = sum(int(tower.config.hidden_size) for tower in towers)
    pooled = int(towers[1].config.projection_dim) if len(towers) > 1 else 0
    device, dtype = backbone.device, next(towers[0].parameters()).dtype
    length = int(backbone.tokenizer.model_max_length)
    return Conditioning(
        torch.zeros(1, length, width, device=device, dtype=dtype), torch.zeros(1, pooled, device=device, dtype=dtype)
    )


def encode_towers(backbone: Backbone, prompts: Sequence[str]) -> tuple[TowerOutput, ...]:
    """Each tower's output for some prompts, without warnings: of two towers (SDXL) the penultimate states, of one
    alone (Stable Diffusion 1.5) the last ones after the final norm."""
    alone = backbone.text_encoder_2 is None
    towers = [_encode_tower(backbone, backbone.tokenizer, backbone.text_encoder, prompts, last=alone)]
    if not alone:
        towers.append(_encode_tower(backbone, backbone.tokenizer_2, backbone.text_encoder_2, prompts, last=False))
    windows = [tower.tokens.shape[1] for tower in towers]
    if len(set(windows)) > 1:
        raise ConditioningError(
            f"the text towers' windows differ ({windows[0]} and {windows[1]} tokens): "
            "use a model whose tokenizers have the same model_max_length"
        )
    return tuple(towers)


def pooled_of(towers: Sequence[TowerOutput]) -> Tensor:
    """The second tower's projected vector (B, P); (B, 0) where there is only one."""
    pooled = towers[1].pooled if len(towers) > 1 else None
    return towers[0].tokens.new_zeros(len(towers[0].tokens), 0) if pooled is None else pooled


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


def _encode_tower(
    backbone: Backbone, tokenizer: Any, tower: Any, prompts: Sequence[str], *, last: bool
) -> TowerOutput:
    import torch

    encoded = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    with torch.no_grad():
        output = tower(encoded.input_ids.to(backbone.device), output_hidden_states=True)
    # The attention mask covers start token, words and end token; the words lie between.
    position = torch.arange(encoded.input_ids.shape[1])[None]
    words = (position >= 1) & (position < encoded.attention_mask.sum(dim=1, keepdim=True) - 1)
    tokens = output.last_hidden_state if last else output.hidden_states[-2]
    return TowerOutput(tokens, words.to(tokens.device), getattr(output, "text_embeds", None))
