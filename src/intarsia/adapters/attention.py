"""Attention processors that let a diffusers U-Net see a reference; the projections stay the U-Net's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from intarsia.adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

BlockGroup = Literal["down", "mid", "up"]
GROUPS: tuple[BlockGroup, ...] = ("down", "mid", "up")


def attention_names(unet: nn.Module, kind: Literal["attn1", "attn2"]) -> tuple[str, ...]:
    """Names of all self- (`attn1`) or cross-attentions (`attn2`), in the order of `unet.attn_processors`."""
    names = getattr(unet, "attn_processors", {})
    return tuple(n.removesuffix(".processor") for n in names if n.endswith(f".{kind}.processor"))


def group_of(name: str) -> BlockGroup:
    """Which part of the U-Net an attention is in."""
    return "down" if name.startswith("down_blocks") else "up" if name.startswith("up_blocks") else "mid"


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, H·d) -> (B, H, N, d)"""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def finish(attention: Any, x: Tensor) -> Tensor:
    """(B, H, N, d) -> the attention's output (B, N, C): heads joined, `to_out`, its dropout and rescaling."""
    joined = x.transpose(1, 2).flatten(2)
    out: Tensor = attention.to_out[1](attention.to_out[0](joined))
    factor: float = attention.rescale_output_factor
    return out / factor


def free_processors(unet: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The processor of each attention, which must be plain: a processor with weights belongs to another adapter.

    Raises:
        AdapterError: another adapter is in one of them.
    """
    from torch.nn import Module

    found = {name: unet.get_submodule(name).processor for name in names}
    taken = [n for n, p in found.items() if isinstance(p, (DecoupledCrossAttention, BankReader, BankWriter, Module))]
    if taken:
        raise AdapterError(
            f"this U-Net already carries another reference adapter (in {taken[0]}): eject that one first"
        )
    return found


def _rows(what: str, shown: int, called: int) -> str:
    return f"{shown} rows of {what} are shown to a U-Net call of {called} rows: show them again for this call"


@dataclass
class ImageTokens:
    """What the decoupled cross-attentions of one U-Net see now: `tokens` (R, T, D) and per block group a strength
    (R,); None: the image branch does not exist. `kept`: each layer's keys and values of these very tokens."""

    tokens: Tensor | None = None
    strength: Mapping[str, Tensor] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def set(self, tokens: Tensor | None) -> None:
        """Show other tokens; what was kept of the ones before is forgotten."""
        if tokens is not self.tokens:
            self.tokens, self.kept = tokens, {}


class DecoupledCrossAttention:
    """out = W_o · (Attn(Q, K_text, V_text) + β · Attn(Q, K_image, V_image))  (IP-Adapter, Ye et al. 2023, eq. 5;
    LAR-Gen's Assign). Q is shared; β is one number per row."""

    def __init__(self, layer: Any, seen: ImageTokens, group: BlockGroup, plain: Any) -> None:
        self.layer, self.seen, self.group, self.plain = layer, seen, group, plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        tokens = self.seen.tokens
        if tokens is None:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **options)
            return plain
        assert encoder_hidden_states is not None
        if len(tokens) != len(hidden_states):
            raise AdapterError(_rows("image tokens", len(tokens), len(hidden_states)))
        heads = attn.heads
        query = split_heads(attn.to_q(hidden_states), heads)
        if attention_mask is not None:
            size = encoder_hidden_states.shape[1]
            attention_mask = attn.prepare_attention_mask(attention_mask, size, len(hidden_states))
            assert attention_mask is not None
            attention_mask = attention_mask.view(len(hidden_states), heads, -1, attention_mask.shape[-1])
        words = scaled_dot_product_attention(
            query,
            split_heads(attn.to_k(encoder_hidden_states), heads),
            split_heads(attn.to_v(encoder_hidden_states), heads),
            attn_mask=attention_mask,
        )
        key, value = self._keys_and_values(tokens)
        picture = scaled_dot_product_attention(
            query, split_heads(key.to(query.dtype), heads), split_heads(value.to(query.dtype), heads)
        )
        strength = self.seen.strength[self.group].to(query)[:, None, None, None]
        return finish(attn, words + strength * picture)

    def _keys_and_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(R, T, H·d) each; without gradients computed once for as long as the same tokens are shown."""
        from torch import is_grad_enabled

        found = self.seen.kept.get(id(self.layer))
        if found is None or is_grad_enabled():
            tokens = tokens.to(self.layer.to_k.weight.dtype)
            found = self.layer.to_k(tokens), self.layer.to_v(tokens)
            if not is_grad_enabled():
                self.seen.kept[id(self.layer)] = found
        return found


@dataclass
class ReferenceBank:
    """What the decoder's self-attentions of one U-Net see now: per layer the reference's normalised tokens
    (N, M, C), and an additive bias (N or R, 1, 1, M) per token count M (0 all, -inf nothing; None: all of it)."""

    tokens: tuple[Tensor, ...] | None = None
    bias: Mapping[int, Tensor] | None = None


class BankWriter:
    """The reference U-Net's self-attention; keeps its input, LN1(x), before it goes on as usual."""

    def __init__(self, written: list[Tensor], plain: Any) -> None:
        self.written, self.plain = written, plain

    def __call__(self, attn: Any, hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
        self.written.append(hidden_states)
        out: Tensor = self.plain(attn, hidden_states, *arguments, **options)
        return out


class BankReader:
    """Self-attention with keys and values from [n ; n_ref], n_ref the reference U-Net's tokens of the same layer:
    W_o · Attn(n W_q, [n ; n_ref] W_k, [n ; n_ref] W_v), all weights the main U-Net's own  (LAR-Gen's Refine).

    A bias of log s on the reference's logits makes its strength s continuous: 1 is the paper's, 0 is without.
    """

    def __init__(self, seen: ReferenceBank, index: int, plain: Any) -> None:
        self.seen, self.index, self.plain = seen, index, plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        import torch
        from torch.nn.functional import pad, scaled_dot_product_attention

        if self.seen.tokens is None:
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **options)
            return plain
        given, rows = self.seen.tokens[self.index].to(hidden_states), len(hidden_states)
        bias = None if self.seen.bias is None else self.seen.bias[given.shape[1]]
        if rows % len(given) or (bias is not None and rows % len(bias)):
            raise AdapterError(_rows("a reference", len(given) if bias is None else len(bias), rows))
        context = torch.cat([hidden_states, given.repeat(rows // len(given), 1, 1)], dim=1)
        heads = attn.heads
        query = split_heads(attn.to_q(hidden_states), heads)
        if bias is not None:
            bias = pad(bias.to(query).repeat(rows // len(bias), 1, 1, 1), (hidden_states.shape[1], 0))
        attended = scaled_dot_product_attention(
            query,
            split_heads(attn.to_k(context), heads),
            split_heads(attn.to_v(context), heads),
            attn_mask=bias,
        )
        return finish(attn, attended)
