"""Refine: a reference U-Net whose decoder tokens are keys and values of the main decoder's self-attention (LAR-Gen)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from intarsia.adapters.attention import BankReader, BankWriter, ReferenceBank, attention_names, free_processors
from intarsia.adapters.errors import AdapterError
from intarsia.adapters.fused import before_fusing
from intarsia.adapters.keys import require_shapes, require_sizes
from intarsia.backbones import is_offloaded, send_to

Trains = Literal["cross_attention", "attention", "all"]


@dataclass(frozen=True)
class RefineConfig:
    """``trains``: which of the reference U-Net's parameters are its own; the others are the main U-Net's, shared.

    ``cross_attention``; ``attention`` (the transformer blocks with their projections); ``all``. Its ``conv_in`` is
    always its own, because it has other input channels. ``clean_timestep``: the timestep at which a reference without
    noise is shown; the one at which the U-Net's deep layers still look at what a picture shows.
    """

    feature_width: int
    trains: Trains = "attention"
    max_references: int = 1
    clean_timestep: int = 0

    def __post_init__(self) -> None:
        """Raises AdapterError for sizes below 1, an unknown ``trains`` or a ``clean_timestep`` outside 0 to 999."""
        require_sizes(self, besides=["clean_timestep"])
        if type(self.clean_timestep) is not int or not 0 <= self.clean_timestep < 1000:
            raise AdapterError(f"clean_timestep {self.clean_timestep!r} is no timestep: use a whole number, 0 to 999")
        if self.trains not in get_args(Trains):
            raise AdapterError(f"trains {self.trains!r} is unknown: use one of {get_args(Trains)}")


class Refine(nn.Module):
    """The reference U-Net, the projection of the detail encoder's tokens, and the pooled vector of no words.

    The reference U-Net reads latents only, ends after its last attention block, and sees the image tower's last hidden
    states (all tokens) as its only cross-attention context. ``inject`` makes the decoder of the main U-Net read from
    the bank that :meth:`show` holds; no parameter of the main U-Net is touched.
    """

    def __init__(self, unet: Any, config: RefineConfig, null_pooled: Tensor) -> None:
        """``unet``: the main U-Net, whose frozen parameters are shared; ``null_pooled`` (1, P): the pooled embedding of
        an empty prompt."""
        super().__init__()
        self.config = config
        reference = _four_channel_copy(unet)
        weight: Tensor = unet.conv_in.weight
        self.detail = nn.Linear(config.feature_width, int(unet.config.cross_attention_dim)).to(weight)
        self.register_buffer("null_pooled", null_pooled.detach().clone().to(weight))
        self._written: list[Tensor] = []
        self.names = _truncate(reference)
        last = self.names[-1].removesuffix(".attn1")
        for name in self.names:
            attention = reference.get_submodule(name)
            attention.processor = BankWriter(self._written, attention.processor)
        self.own = tuple(_share(reference, unet, config.trains, last))
        self.reference = reference
        self._seen = ReferenceBank()
        # In a tuple, so that torch does not take the U-Net for a part of the adapter.
        self._host: tuple[Any, ...] = ()
        self._plain: dict[str, Any] = {}

    @classmethod
    def from_unet(cls, unet: Any, config: RefineConfig, null_pooled: Tensor) -> Self:
        """A reference U-Net that starts as a copy of the main one, without its mask and masked-image channels."""
        return cls(unet, config, null_pooled)

    @property
    def injected(self) -> bool:
        """Whether the main U-Net reads from this adapter now."""
        return bool(self._host)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """What is trained: the reference U-Net's own parameters and the detail projection."""
        for name in self.own:
            yield cast(nn.Parameter, self.reference.get_parameter(name))
        yield from self.detail.parameters()

    def own_state(self) -> dict[str, Tensor]:
        """Everything that a file must hold: own parameters, detail projection, null-text vector."""
        state = {f"reference.{name}": self.reference.get_parameter(name).detach() for name in self.own}
        state |= {f"detail.{name}": value.detach() for name, value in self.detail.named_parameters()}
        return state | {"null_pooled": cast(Tensor, self.null_pooled)}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Fill from ``own_state``; AdapterKeyError lists what is missing, left over or of another shape."""
        mine = self.own_state()
        wanted = {name: tuple(value.shape) for name, value in mine.items()}
        require_shapes(state, wanted, "the Refine weights", "use those made for this model")
        for name, value in mine.items():
            value.copy_(state[name])

    def bank(self, latents: Tensor, timestep: Tensor, detail: Tensor, time_ids: Tensor) -> tuple[Tensor, ...]:
        """LN1 tokens of every decoder self-attention, each (N, M, C), for N references.

        latents (N, C, h, w): the subject on white, noised to ``timestep`` (0-d or (N,)) in the U-Net's own units;
        detail (N, T, F): the image tower's last hidden states; time_ids (N, 6).
        """
        self._written.clear()
        if not is_offloaded(self.reference):  # while LoRAs are fused, the plain weights wait
            send_to(self.reference.conv_in.weight.device, *self.reference.parameters())
        pooled = cast(Tensor, self.null_pooled).expand(len(latents), -1)
        self.reference(
            latents.to(self.reference.conv_in.weight.dtype),
            timestep,
            encoder_hidden_states=self.detail(detail.to(self.detail.weight.dtype)),
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )
        tokens = tuple(self._written)
        self._written.clear()
        return tokens

    def inject(self, unet: Any) -> Self:
        """Let the decoder's self-attentions of the main U-Net read the bank until ``eject``.

        Raises:
            AdapterError: already injected, or a U-Net with another decoder or another reference adapter.
        """
        if self._host:
            raise AdapterError("this adapter is already injected: eject it first")
        if _decoder_widths(unet) != _decoder_widths(self.reference):
            raise AdapterError("this U-Net's decoder is not the adapter's: use the adapter made for this model")
        self._plain, self._host = free_processors(unet, self.names), (unet,)
        for index, name in enumerate(self.names):
            unet.get_submodule(name).processor = BankReader(self._seen, index, self._plain[name])
        return self

    def eject(self) -> None:
        """Put the main U-Net's own processors back."""
        if not self._host:
            raise AdapterError("this adapter is not injected: there is nothing to eject")
        self.show(None)
        for name, processor in self._plain.items():
            self._host[0].get_submodule(name).processor = processor
        self._plain, self._host = {}, ()

    def show(
        self, bank: tuple[Tensor, ...] | None, *, mask: Tensor | None = None, strength: Tensor | None = None
    ) -> None:
        """The bank of N references for the coming calls; row r reads reference r mod N. None: no reference.

        mask (N, 1, h, w): latent cells that hold the subject; the padding's tokens are then never read. strength (R,)
        in [0, 1] per row; R is a multiple of N.

        Raises:
            AdapterError: a bank, a mask or strengths that do not belong together.
        """
        self._seen.tokens, self._seen.bias = None, None
        if bank is not None:
            self._seen.bias = None if mask is None and strength is None else self._bias(bank, mask, strength)
            self._seen.tokens = bank

    def _bias(self, bank: tuple[Tensor, ...], mask: Tensor | None, strength: Tensor | None) -> dict[int, Tensor]:
        """Per token count M, log strength where the mask holds subject, else -inf (R or N, 1, 1, M)."""
        count = len(bank[0])
        if mask is not None and len(mask) != count:
            raise AdapterError(f"{len(mask)} subject masks do not fit {count} references: give one for each")
        if strength is not None and (strength.ndim != 1 or not len(strength) or len(strength) % count):
            raise AdapterError(
                f"strengths {tuple(strength.shape)} do not fit {count} references: give one for every row of the call"
            )
        found = {}
        for tokens in {tokens.shape[1]: tokens for tokens in bank}.values():
            bias = tokens.new_zeros(tokens.shape[:2], dtype=torch.float32)
            if mask is not None:
                cells = _at_level(mask.to(tokens.device), tokens.shape[1])
                bias = bias.masked_fill(cells.flatten(1) == 0, -math.inf)
            if strength is not None:
                bias = bias.repeat(len(strength) // count, 1) + strength.to(bias)[:, None].log()
            found[tokens.shape[1]] = bias[:, None, None]
        return found


def _four_channel_copy(unet: Any) -> Any:
    """An empty U-Net (meta device) like `unet`, with latent channels only."""
    config = dict(unet.config) | {"in_channels": int(unet.config.out_channels)}
    with torch.device("meta"):
        return type(unet).from_config(config)


def _decoder_names(unet: Any) -> tuple[str, ...]:
    return tuple(name for name in attention_names(unet, "attn1") if name.startswith("up_blocks"))


def _decoder_widths(unet: Any) -> dict[str, int]:
    """Each decoder self-attention's name and input width."""
    return {name: int(unet.get_submodule(name).to_q.in_features) for name in _decoder_names(unet)}


def _truncate(reference: Any) -> tuple[str, ...]:
    """Drop what comes after the last attention block of the decoder; returns the names of its self-attentions."""
    names = _decoder_names(reference)
    if not names:
        raise AdapterError("the U-Net has no self-attention in its decoder: Refine needs a model that has")
    kept = 1 + max(int(name.split(".")[1]) for name in names)
    reference.up_blocks = reference.up_blocks[:kept]
    reference.up_blocks[-1].upsamplers = None
    reference.conv_norm_out = None
    reference.conv_out = nn.Identity()
    return names


def _is_own(name: str, trains: Trains, last: str) -> bool:
    if name.startswith("conv_in."):
        return True
    if name.startswith(last) and not name.startswith(f"{last}.norm1"):
        return False  # after the last tokens are written nothing is read, so nothing there could learn
    if name.startswith(last.split(".transformer_blocks")[0] + ".proj_out"):
        return False
    if trains == "cross_attention":
        return ".attn2." in name
    return trains == "all" or ".attentions." in name


def _share(reference: Any, unet: Any, trains: Trains, last: str) -> Iterator[str]:
    """Fill every parameter of the reference U-Net: own ones with copies, the others with the main U-Net's objects."""
    # A subject's LoRA that is in the U-Net now wraps its layers; the reference U-Net takes what is wrapped.
    # The same where a LoRA is fused into them.
    theirs, where = {}, {}
    for name, value in unet.named_parameters():
        name = name.replace(".base_layer.", ".")
        theirs[name], where[name] = cast(nn.Parameter, before_fusing(value)), value.device
    for name, empty in list(reference.named_parameters()):
        path, _, leaf = name.rpartition(".")
        module = reference.get_submodule(path)
        source = theirs[name]
        if not _is_own(name, trains, last):
            module.register_parameter(leaf, source)
            continue
        value = source.detach()[tuple(slice(n) for n in empty.shape)].to(where[name], copy=True)
        module.register_parameter(leaf, nn.Parameter(value, requires_grad=True))
        yield name


def _at_level(mask: Tensor, count: int) -> Tensor:
    """A latent mask (N, 1, h, w) at the U-Net level that has ``count`` cells; any coverage marks a cell."""
    height, width = mask.shape[-2:]
    for level in range(12):
        h, w = -(-height // 2**level), -(-width // 2**level)
        if h * w == count:
            return functional.adaptive_max_pool2d(mask.float(), (h, w))
    raise AdapterError(f"a subject mask of {height}x{width} cells has no level of {count} tokens")
