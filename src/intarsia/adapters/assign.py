"""Assign: a reference photo as image tokens, seen by every cross-attention beside the words (LAR-Gen, IP-Adapter)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from intarsia.adapters.attention import (
    GROUPS,
    DecoupledCrossAttention,
    ImageTokens,
    attention_names,
    free_processors,
    group_of,
)
from intarsia.adapters.errors import AdapterError
from intarsia.adapters.keys import require_sizes

Unconditional = Literal["absent", "zero_picture"]


@dataclass(frozen=True)
class AssignConfig:
    """Sizes of the resampler, and what the reference-free half of guidance sees.

    ``unconditional``: ``absent`` (no image branch, as the miniature was trained) or ``zero_picture`` (the tokens of an
    all-zero picture, as stock IP-Adapter files want). ``max_references``: photos whose tokens may stand side by side.
    """

    feature_width: int
    cross_attention_width: int
    tokens: int = 16
    width: int = 192
    depth: int = 2
    heads: int = 6
    head_width: int = 32
    unconditional: Unconditional = "absent"
    max_references: int = 1

    def __post_init__(self) -> None:
        """Raises AdapterError for sizes below 1 or an unknown ``unconditional``."""
        require_sizes(self)
        if self.unconditional not in get_args(Unconditional):
            raise AdapterError(f"unconditional {self.unconditional!r} is unknown: use one of {get_args(Unconditional)}")


class ImageProjections(nn.Module):
    """W_k and W_v of the image tokens for one cross-attention, without bias."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)


class Assign(nn.Module):
    """Resampler (image features → tokens) and decoupled cross-attention in every cross-attention of a U-Net.

    ``inject`` puts attention processors into the U-Net and ``eject`` puts the old ones back; no parameter of the U-Net
    is touched. Between the two, :meth:`show` says what the coming calls of the U-Net see.
    """

    def __init__(self, config: AssignConfig, layers: Mapping[str, int]) -> None:
        """``layers``: name of each cross-attention → its inner width, in the order of ``unet.attn_processors``."""
        from diffusers.models.embeddings import IPAdapterPlusImageProjection

        super().__init__()
        if not layers:
            raise AdapterError("the U-Net has no cross-attention that could see a reference: use another model")
        self.config = config
        self.names = tuple(layers)
        self.resampler: Any = IPAdapterPlusImageProjection(
            embed_dims=config.feature_width,
            output_dims=config.cross_attention_width,
            hidden_dims=config.width,
            depth=config.depth,
            dim_head=config.head_width,
            heads=config.heads,
            num_queries=config.tokens,
        )
        self.layers = nn.ModuleList(ImageProjections(config.cross_attention_width, w) for w in layers.values())
        self._seen = ImageTokens()
        # In a tuple, so that torch does not take the U-Net for a part of the adapter.
        self._host: tuple[Any, ...] = ()
        self._plain: dict[str, Any] = {}

    @classmethod
    def from_unet(cls, unet: Any, config: AssignConfig) -> Self:
        """For a U-Net's cross-attentions; image projections start as copies of the words'."""
        layers = layer_widths(unet)
        assign = cls(config, layers)
        with torch.no_grad():
            for name, layer in zip(assign.names, assign.layers, strict=True):
                attention: Any = unet.get_submodule(name)
                for part in ("to_k", "to_v"):
                    getattr(layer, part).weight.copy_(getattr(attention, part).weight)
        return assign.to(unet.device)

    @property
    def injected(self) -> bool:
        """Whether the adapter is in a U-Net now."""
        return bool(self._host)

    def embed(self, features: Tensor) -> Tensor:
        """Penultimate hidden states of the image tower (B, N, F) → image tokens (B, T, D)."""
        if features.ndim != 3 or features.shape[-1] != self.config.feature_width:
            raise AdapterError(
                f"image features {tuple(features.shape)} do not fit: this adapter reads (B, N, "
                f"{self.config.feature_width}); use the image encoder that it was trained with"
            )
        tokens: Tensor = self.resampler(features.to(self.resampler.latents.dtype))
        return tokens

    def inject(self, unet: Any) -> Self:
        """Let the U-Net's cross-attentions see image tokens until ``eject``; nothing is shown yet.

        Raises:
            AdapterError: already injected, or a U-Net with other cross-attentions or another reference adapter.
        """
        if self._host:
            raise AdapterError("this adapter is already injected: eject it first")
        widths = layer_widths(unet)
        layers: Any = self.layers
        wanted = {n: layer.to_k.out_features for n, layer in zip(self.names, layers, strict=True)}
        if widths != wanted:
            raise AdapterError(
                f"the adapter has {len(wanted)} cross-attentions of other names or widths than this U-Net's "
                f"{len(widths)}: use the adapter that was made for this model"
            )
        self._plain, self._host = free_processors(unet, self.names), (unet,)
        for name, layer in zip(self.names, self.layers, strict=True):
            processor = DecoupledCrossAttention(layer, self._seen, group_of(name), self._plain[name])
            unet.get_submodule(name).processor = processor
        return self

    def eject(self) -> None:
        """Put the U-Net's own processors back."""
        if not self._host:
            raise AdapterError("this adapter is not injected: there is nothing to eject")
        self.show(None)
        for name, processor in self._plain.items():
            self._host[0].get_submodule(name).processor = processor
        self._plain, self._host = {}, ()

    def show(self, tokens: Tensor | None, strength: Mapping[str, Tensor] | None = None) -> None:
        """Tokens (R, T, D) for the R rows of the coming calls, and β per row (R,) for each of ``down``, ``mid``, ``up``
        (1 where it is not given). None: the image branch does not exist.

        Raises:
            AdapterError: not one strength per row.
        """
        if tokens is None:
            self._seen.set(None)
            self._seen.strength = {}
            return
        one = torch.ones(len(tokens), device=tokens.device)
        each: dict[str, Tensor] = {group: (strength or {}).get(group, one) for group in GROUPS}
        wrong = {group: tuple(value.shape) for group, value in each.items() if value.shape != one.shape}
        if wrong:
            raise AdapterError(
                f"{len(tokens)} rows of image tokens need as many strengths, not {wrong}: give one per row"
            )
        self._seen.set(tokens)
        self._seen.strength = each


def layer_widths(unet: Any) -> dict[str, int]:
    """Each cross-attention's name and inner width, in the order of ``unet.attn_processors``."""
    return {name: int(unet.get_submodule(name).to_k.out_features) for name in attention_names(unet, "attn2")}
