"""Exact counts of what a piece of work does: calls, dispatched operations, FLOPs, bytes moved, bytes kept for a
backward pass. They are the same on every machine; on the meta device they need no weights and no arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from intarsia.backbones import Backbone

_OVERHEAD = ("aten::_unsafe_view", "aten::_local_scalar_dense", "aten::lift_fresh")
"""Not views by their schema, but nothing is computed."""


@contextmanager
def counted_calls(backbone: Backbone) -> Iterator[Counter[str]]:
    """Calls of "unet", "text" towers and cross-attention "projection"s; of the VAE's "encoder" and "decoder" the number
    of pictures, since a call may hold several."""
    calls: Counter[str] = Counter()

    def once(name: str) -> Callable[..., None]:
        return lambda *_: calls.update({name: 1})

    def rows(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: calls.update({name: len(output)})

    handles = [backbone.unet.register_forward_hook(once("unet"))]
    handles += [module.register_forward_hook(once("projection")) for module in prompt_projections(backbone.unet)]
    handles += [getattr(backbone.vae, part).register_forward_hook(rows(part)) for part in ("encoder", "decoder")]
    towers = [tower for tower in (backbone.text_encoder, backbone.text_encoder_2) if tower is not None]
    handles += [tower.register_forward_hook(once("text")) for tower in towers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def prompt_projections(unet: Any) -> list[nn.Module]:
    """The key and value projections of all cross-attentions: two per layer."""
    names = [name.removesuffix("processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    return [unet.get_submodule(name + part) for name in names for part in ("to_k", "to_v")]


@dataclass
class Dispatched:
    """What reached torch's dispatcher. `operations`: not views. `syncs`: numbers that were asked of an accelerator (or
    the meta device) in the middle of the work. Bytes between devices: those of `watched` weights, and all other."""

    operations: int = 0
    syncs: int = 0
    weight_bytes: int = 0
    bytes_there: int = 0
    bytes_back: int = 0


@contextmanager
def dispatched(*modules: nn.Module) -> Iterator[Dispatched]:
    """Count while entered; the weights of `modules` are told apart from other tensors that move, wherever they have
    moved before.

    On the meta device there are no numbers to give back: a number that is asked for is 1 (true), a tensor that is
    fetched is all zeros. So a whole edit can be counted there.
    """
    seen = Dispatched()
    with _mode()(seen, [tensor.detach() for module in modules for tensor in _tensors(module)]):
        yield seen


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of `work` by torch's own formulas (2 per multiply-add; an attention's backward pass
    2.5 times its forward pass, since fused kernels compute the weights again). In 16 bits on the meta device attention
    is one fused operation, as on a GPU."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    # The CPU's fused attention has no formula of its own in torch.
    formulas = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with fused_attention_on_meta(), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        work()
    return int(counter.get_total_flops())


def saved_bytes(work: Callable[[], object], *modules: nn.Module) -> int:
    """Bytes that a forward pass with gradients keeps for its backward pass, each storage once, without the weights of
    `modules`. With gradient checkpointing one block's activations come on top when it is computed again."""
    import torch

    weights = {_address(tensor) for module in modules for tensor in _tensors(module)}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[_address(tensor)] = tensor
        return tensor

    with fused_attention_on_meta(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)


@contextmanager
def fused_attention_on_meta() -> Iterator[None]:
    """Unmasked attention of 16-bit meta tensors goes to the fused kernel, which torch does not choose by itself there;
    everything else as ever."""
    import torch
    from torch.nn import functional

    plain = functional.scaled_dot_product_attention
    fused = torch.ops.aten._scaled_dot_product_flash_attention

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
    ) -> Tensor:
        if query.is_meta and query.element_size() == 2 and attn_mask is None and not rest:
            options = {"dropout_p": named.get("dropout_p", 0.0), "is_causal": named.get("is_causal", False)}
            answer: Tensor = fused(query, key, value, **options, scale=named.get("scale"))[0]
            return answer
        return plain(query, key, value, attn_mask, *rest, **named)

    functional.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


@cache
def _mode() -> Any:
    """The dispatch mode's class, made when torch is there."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self, seen: Dispatched, weights: list[Tensor]) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.seen = seen
            # The tensors are kept, so that no other one gets a storage's address while it is looked for.
            self.weights = {_address(tensor): tensor for tensor in weights}

        def __torch_dispatch__(self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            name = operation._schema.name
            if not operation.is_view and name not in _OVERHEAD:
                self.seen.operations += 1
            if operation is aten._local_scalar_dense.default and args[0].device.type != "cpu":
                self.seen.syncs += 1
                if args[0].is_meta:
                    return True if args[0].dtype is torch.bool else 1
            if operation is aten._to_copy.default:
                source, device = args[0], kwargs.get("device")
                target = source.device if device is None else torch.device(device)
                if target.type != source.device.type:
                    return self._moved(source, target, operation, args, kwargs)
            if operation is aten.copy_.default and args[0].device.type != args[1].device.type:
                return self._moved(args[1], args[0].device, operation, args, kwargs)
            return operation(*args, **kwargs)

        def _moved(
            self, source: Tensor, target: torch.device, operation: Any, args: tuple[Any, ...], kwargs: Any
        ) -> Tensor:
            size, weight = source.numel() * source.element_size(), _address(source) in self.weights
            if weight:
                self.seen.weight_bytes += size
            elif target.type == "cpu":
                self.seen.bytes_back += size
            else:
                self.seen.bytes_there += size
            result: Tensor
            if not source.is_meta:
                result = operation(*args, **kwargs)
            elif operation is aten.copy_.default:
                result = args[0].zero_()
            else:
                result = torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype, device=target)
            if weight:
                self.weights[_address(result)] = result.detach()
            return result

    return Counting
