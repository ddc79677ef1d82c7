"""A subject as low-rank changes of the key and value projections of every attention of the U-Net.

W' = W + scale · (alpha / rank) · B A, with A (rank, in) and B (out, rank); B starts at zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from intarsia.adapters.errors import AdapterError, AdapterKeyError
from intarsia.adapters.keys import from_diffusers, require_keys, to_diffusers

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_ADAPTER = "subject"
_ALLOWED_TARGETS = ("to_k", "to_v", "to_q", "to_out.0")


class SubjectLora:
    """Rank-`rank` LoRA on `targets` of all self- and cross-attentions.

    The adapter owns its weights: they outlive `eject`, and can be injected into the same or an equal U-Net
    again. The default targets are the paper's (keys and values); add "to_out.0" for the released code's
    choice.
    """

    def __init__(
        self,
        rank: int = 4,
        alpha: float | None = None,
        targets: Sequence[str] = ("to_k", "to_v"),
        *,
        seed: int = 0,
    ) -> None:
        if rank < 1:
            raise AdapterError(f"rank {rank} is not a LoRA rank: use 1 or more")
        wrong = [target for target in targets if target not in _ALLOWED_TARGETS]
        if wrong or not targets:
            raise AdapterError(
                f"targets {list(targets)} are not projections of an attention: use {_ALLOWED_TARGETS}"
            )
        self.rank = int(rank)
        self.alpha = float(rank if alpha is None else alpha)
        self.targets = tuple(targets)
        self.seed = seed
        self._scale = 1.0
        self._weights: dict[str, Tensor] | None = None
        self._unet: nn.Module | None = None
        self._originals: dict[str, nn.Module] = {}
        self._required_grad: dict[str, bool] = {}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Self:
        """Rebuild from a file's state (diffusers keys) and metadata; rank and targets are read off the state.

        alpha comes from `lora_adapter_metadata` (as diffusers writes it), else from `alpha`, else it is the
        rank.
        """
        weights = from_diffusers(state)
        down = [key for key in weights if key.endswith(".down")]
        require_keys(weights, [key.removesuffix(".down") + end for key in down for end in (".down", ".up")])
        ranks = {int(weights[key].shape[0]) for key in down}
        if len(ranks) != 1:
            raise AdapterKeyError(f"the weights have ranks {sorted(ranks)}: exactly one rank is supported")
        rank = ranks.pop()
        found = {target for key in down for target in _ALLOWED_TARGETS if key.endswith(f".{target}.down")}
        targets = [target for target in _ALLOWED_TARGETS if target in found]
        lora = cls(rank, _alpha_of(metadata or {}, rank), targets)
        lora._weights = {key: value.detach().clone().float() for key, value in weights.items()}
        return lora

    @property
    def injected(self) -> bool:
        """Whether the adapter is in a U-Net now."""
        return self._unet is not None

    @property
    def scale(self) -> float:
        """Strength at inference: 0 is the plain backbone, 1 is as learned."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        self._scale = float(value)
        if self._unet is not None:
            for layer in self._layers().values():
                layer.scaling[_ADAPTER] = self._scale * self.alpha / self.rank

    def inject(self, unet: nn.Module) -> Self:
        """Wrap the targets of `unet`; its own parameters are frozen until `eject`, which undoes everything.

        Raises:
            AdapterError: already injected, or the U-Net carries an adapter, or has no such targets.
            AdapterKeyError: loaded weights do not fit this U-Net; lists every missing and unused key.
        """
        from peft import LoraConfig, inject_adapter_in_model

        if self._unet is not None:
            raise AdapterError("this adapter is already injected: eject it first")
        if getattr(unet, "peft_config", None):
            raise AdapterError("this U-Net already carries an adapter: eject that one first")
        names = self._target_names(unet)
        originals = {name: unet.get_submodule(name) for name in names}
        self._check_fit(originals)
        required_grad = {name: parameter.requires_grad for name, parameter in unet.named_parameters()}
        training = {name: module.training for name, module in unet.named_modules()}
        self._unet, self._originals, self._required_grad = unet, originals, required_grad
        try:
            config = LoraConfig(
                r=self.rank, lora_alpha=cast(int, self.alpha), target_modules=names, bias="none"
            )
            inject_adapter_in_model(config, unet, adapter_name=_ADAPTER)
            self._fill()
            for name, layer in self._layers().items():
                layer.train(training[name])
            self.scale = self._scale
        except BaseException:
            self._restore()
            raise
        return self

    def eject(self, unet: nn.Module | None = None) -> None:
        """Put the original modules back: same objects, same tree, parameters bit-identical, same
        `requires_grad`."""
        if self._unet is None:
            raise AdapterError("this adapter is not injected: there is nothing to eject")
        if unet is not None and unet is not self._unet:
            raise AdapterError("this adapter is injected into another U-Net: eject it from that one")
        self._weights = {key: value.detach().clone().cpu() for key, value in self._parameters().items()}
        self._restore()

    def __enter__(self) -> Self:
        """`with SubjectLora().inject(unet):` ejects at the end of the block."""
        if self._unet is None:
            raise AdapterError("inject the adapter first: `with lora.inject(unet):`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unet is not None:
            self.eject()

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The LoRA matrices (float32) inside the U-Net, in a fixed order; the adapter must be injected."""
        if self._unet is None:
            raise AdapterError("the adapter has no parameters to train until it is injected")
        return [cast("nn.Parameter", value) for _, value in sorted(self._parameters().items())]

    def state_dict(self) -> dict[str, Tensor]:
        """A copy of the weights on the CPU, under diffusers' keys."""
        weights = self._weights if self._unet is None else self._parameters()
        if weights is None:
            raise AdapterError("the adapter has no weights yet: inject it into a U-Net, or load some")
        return to_diffusers({key: value.detach().cpu().clone() for key, value in weights.items()})

    def metadata(self) -> dict[str, str]:
        """What a file must say beside the weights, so that diffusers and `from_state` restore the true
        alpha."""
        config = {
            "unet.r": self.rank,
            "unet.lora_alpha": self.alpha,
            "unet.target_modules": list(self.targets),
            "unet.peft_type": "LORA",
        }
        return {
            "format": "pt",
            "rank": str(self.rank),
            "alpha": repr(self.alpha),
            "targets": json.dumps(list(self.targets)),
            "lora_adapter_metadata": json.dumps(config, sort_keys=True),
        }

    def _target_names(self, unet: nn.Module) -> list[str]:
        from torch import nn

        endings = tuple(f".{target}" for target in self.targets)
        names = [
            name
            for name, module in unet.named_modules()
            if name.endswith(endings) and isinstance(module, nn.Linear)
        ]
        if not names:
            raise AdapterError(
                f"this U-Net has no attention projections {self.targets}: use an SDXL-shaped U-Net"
            )
        return names

    def _check_fit(self, originals: Mapping[str, nn.Module]) -> None:
        if self._weights is None:
            return
        wanted: dict[str, tuple[int, int]] = {}
        for name, module in originals.items():
            linear = cast("nn.Linear", module)
            wanted[f"{name}.down"] = (self.rank, linear.in_features)
            wanted[f"{name}.up"] = (linear.out_features, self.rank)
        require_keys(self._weights, wanted)
        wrong = [
            f"{key} is {tuple(self._weights[key].shape)} instead of {shape}"
            for key, shape in sorted(wanted.items())
            if tuple(self._weights[key].shape) != shape
        ]
        if wrong:
            raise AdapterKeyError(f"the weights were made for another U-Net: {'; '.join(wrong)}")

    def _fill(self) -> None:
        """Loaded weights, or A ~ N(0, 1/rank²) from the adapter's own seed and B = 0; in float32 always."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        for layer in self._layers().values():
            layer.lora_A[_ADAPTER].float()
            layer.lora_B[_ADAPTER].float()
        with torch.no_grad():
            for key, value in sorted(self._parameters().items()):
                if self._weights is not None:
                    value.copy_(self._weights[key])
                elif key.endswith(".down"):
                    value.copy_(torch.randn(value.shape, generator=generator) / self.rank)
                else:
                    value.zero_()

    def _layers(self) -> dict[str, Any]:
        assert self._unet is not None
        return {name: self._unet.get_submodule(name) for name in self._originals}

    def _parameters(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, layer in self._layers().items():
            found[f"{name}.down"] = layer.lora_A[_ADAPTER].weight
            found[f"{name}.up"] = layer.lora_B[_ADAPTER].weight
        return found

    def _restore(self) -> None:
        assert self._unet is not None
        for name, module in self._originals.items():
            parent, _, child = name.rpartition(".")
            setattr(self._unet.get_submodule(parent), child, module)
        for name, parameter in self._unet.named_parameters():
            parameter.requires_grad_(self._required_grad[name])
        if hasattr(self._unet, "peft_config"):
            del self._unet.peft_config
        self._unet, self._originals, self._required_grad = None, {}, {}


def _alpha_of(metadata: Mapping[str, str], rank: int) -> float:
    try:
        if "lora_adapter_metadata" in metadata:
            config = json.loads(metadata["lora_adapter_metadata"])
            return float(config.get("unet.lora_alpha", config.get("lora_alpha", rank)))
        return float(metadata.get("alpha", rank))
    except (ValueError, TypeError, AttributeError) as error:
        raise AdapterKeyError("the file's metadata does not give a readable alpha: save it again") from error
