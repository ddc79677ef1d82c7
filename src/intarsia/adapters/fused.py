"""LoRAs added into a model's own weights, and taken out without a trace."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from intarsia.adapters.errors import AdapterError, AdapterKeyError
from intarsia.adapters.lora import Lora, LoraLayer, Part
from intarsia.adapters.lora_modules import changeable
from intarsia.backbones import send_to, take_place_of

if TYPE_CHECKING:
    from torch import Tensor, nn

_BASE = "_before_fusing"
_Change = tuple[LoraLayer, float]


class FusedLoras:
    """W' = W + Σ strength · alpha / rank · B A in the modules that LoRAs name, until :meth:`unfuse`.

    A module gets another `Parameter` and later its own back: the same object, which waits in ordinary memory meanwhile.
    Who shares it (the reference U-Net of `Refine`) goes on seeing it, as it would beside injected layers, and brings it
    when it computes. A forward pass costs what it costs without LoRAs; on a device the memory is the same, too.
    """

    def __init__(self) -> None:
        self._changed: list[tuple[nn.Module, nn.Parameter, nn.Parameter]] = []

    @classmethod
    def fuse(cls, parts: Mapping[str, nn.Module], loras: Sequence[tuple[Lora, float]]) -> Self:
        """Add (LoRA, strength) pairs into a model's parts ("unet", "text_encoder", "text_encoder_2"). Summed in
        float32, then cast to the weight's own format; tensor by tensor. Strength 0 leaves everything as it is.

        Raises:
            AdapterError: a strength that is not finite, weights that are not in memory, or a forward pass that keeps
                changed ones.
            AdapterKeyError: a LoRA for other modules or shapes; lists them. Nothing is changed then.
        """
        plan = _plan(parts, loras)
        fused = cls()
        try:
            for module, changes in plan:
                fused._change(module, changes)
        except BaseException:
            fused.unfuse()
            raise
        return fused

    def unfuse(self) -> None:
        """Put the original parameters back: same objects, same bits, same `requires_grad`; where the model has moved
        in the meantime, they move along. A second time it does nothing.

        Raises:
            AdapterError: something else has changed these weights since and is still in.
        """
        for module, _, new in self._changed:
            if module.weight is not new:
                raise AdapterError("other changes were made to fused weights since: take those out first")
        while self._changed:
            module, original, new = self._changed.pop()
            take_place_of(new, original)
            module.weight = original

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unfuse()

    def _change(self, module: Any, changes: Sequence[_Change]) -> None:
        from torch import nn

        original: nn.Parameter = module.weight
        new = nn.Parameter(_sum(original, changes), requires_grad=original.requires_grad)
        setattr(new, _BASE, before_fusing(original))
        module.weight = new
        self._changed.append((module, original, new))
        send_to("cpu", original)


def _sum(weight: Tensor, changes: Sequence[_Change]) -> Tensor:
    """W + Σ strength · alpha / rank · B A where W is, in its format and its order in memory."""
    import torch

    with torch.no_grad():
        summed = weight.detach().to(torch.float32, copy=True)
        flat = summed.reshape(len(summed), -1)
        for layer, strength in changes:
            up = layer.up.to(flat).flatten(1)
            flat.addmm_(up, layer.down.to(flat).flatten(1), alpha=strength * layer.scale)
        return torch.empty_like(weight).copy_(flat.view(weight.shape))


def before_fusing(parameter: Tensor) -> Tensor:
    """The parameter that a module has when no LoRA is fused into it."""
    base: Tensor = getattr(parameter, _BASE, parameter)
    return base


def _plan(parts: Mapping[str, Any], loras: Sequence[tuple[Lora, float]]) -> list[tuple[Any, list[_Change]]]:
    """Which module gets which changes; raises before anything is touched."""
    changes: dict[tuple[Part, str], list[_Change]] = {}
    for lora, strength in loras:
        if not math.isfinite(strength):
            raise AdapterError(f"LoRA strength {strength} is not a number to multiply by: use one such as 0.8")
        for part, module, layer in lora if strength else ():
            changes.setdefault((part, module), []).append((layer, float(strength)))
    found = {part: changeable(part, parts[part]) for part in {part for part, _ in changes} if part in parts}
    wrong = []
    for (part, module), given in sorted(changes.items()):
        target = found.get(part, {}).get(module)
        if target is None:
            wrong.append(f"{part}.{module} is not there")
            continue
        wrong += [
            f"{part}.{module} is {tuple(target.weight.shape)} instead of {layer.shape}"
            for layer, _ in given
            if layer.shape != tuple(target.weight.shape)
        ]
        if target.weight.is_meta:
            raise AdapterError(f"the weights of {part}.{module} are not in memory: load the model without that offload")
    if wrong:
        raise AdapterKeyError(f"the LoRA was made for another model; {len(wrong)} modules: {'; '.join(wrong)}")
    return [(found[part][module], given) for (part, module), given in changes.items()]
