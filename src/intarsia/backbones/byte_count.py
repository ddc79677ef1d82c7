"""How many bytes a model's activations take, counted by running it on torch's meta device: shapes without numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class CountedBytes:
    """peak: the most that is held at once while a model runs, besides its parameters and inputs. saved: what the
    backward pass will need of it, inputs included, each storage once.
    """

    peak: int
    saved: int


def count_unet_bytes(
    unet: Any,
    batch: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    *,
    prepare: Callable[[Any], object] | None = None,
    checkpointing: bool = False,
    text_tokens: int = 77,
) -> CountedBytes:
    """Of one call of a U-Net like this one, on latents of `height` x `width` cells; `unet` itself is only looked at.

    Attention counts as fused kernels do it: Q, K, V, the output and the log-sum of each row, not Q·Kᵀ. What kernels
    take for themselves is not counted. With `prepare`, which injects what is trained into the copy, gradients are on.
    """
    import torch

    copy = _meta_copy(unet, dtype)
    if prepare is not None:
        prepare(copy)
    if checkpointing:
        copy.enable_gradient_checkpointing()
    config = copy.config

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta", dtype=dtype)

    conditions: dict[str, Tensor] = {}
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        conditions = {"text_embeds": empty(batch, pooled), "time_ids": empty(batch, 6)}
    given = {
        "sample": empty(batch, config.in_channels, height, width),
        "timestep": torch.empty(batch, device="meta", dtype=torch.long),
        "encoder_hidden_states": empty(batch, text_tokens, config.cross_attention_dim),
    }
    inputs = [*given.values(), *conditions.values()]
    return _count(partial(copy, **given, added_cond_kwargs=conditions), copy, inputs, gradients=prepare is not None)


def count_vae_bytes(vae: Any, height: int, width: int) -> int:
    """The most that encoding or decoding one picture of `height` x `width` pixels holds at once, in a VAE's own number
    format, besides its weights."""
    import torch

    dtype, config = next(vae.parameters()).dtype, vae.config
    copy, factor = _meta_copy(vae, dtype), 2 ** (len(config.block_out_channels) - 1)
    picture = torch.empty(1, config.in_channels, height, width, device="meta", dtype=dtype)
    latents = torch.empty(1, config.latent_channels, height // factor, width // factor, device="meta", dtype=dtype)
    runs = ((copy.encode, picture), (copy.decode, latents))
    return max(_count(partial(run, given), copy, [given], gradients=False).peak for run, given in runs)


def _meta_copy(module: Any, dtype: torch.dtype) -> Any:
    """An empty copy from the config, frozen, without the adapters, hooks and settings of the original."""
    import torch

    with torch.device("meta"):
        copy = type(module).from_config(dict(module.config))
    torch.nn.Module.to(copy, dtype=dtype)  # diffusers' own `to` would talk about it
    return copy.eval().requires_grad_(False)


def _count(run: Callable[[], object], module: nn.Module, inputs: list[Tensor], *, gradients: bool) -> CountedBytes:
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    parameters = [*module.parameters(), *module.buffers()]
    besides = {parameter.untyped_storage()._cdata for parameter in parameters}
    saved: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in besides:
            saved[storage._cdata] = storage
        return tensor

    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(_fused_attention())
        live = stack.enter_context(_live_bytes()([*parameters, *inputs]))
        stack.enter_context(saved_tensors_hooks(keep, lambda tensor: tensor))
        run()
        return CountedBytes(live.peak, sum(storage.nbytes() for storage in saved.values()))


@cache
def _live_bytes() -> type[Any]:
    import weakref

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Counts the bytes of all storages that operations make, until they are let go of."""

        def __init__(self, known: list[Tensor]) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.now = self.peak = 0
            self._seen: dict[int, object] = {t.untyped_storage()._cdata: t for t in known}

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = operation(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self._see(tensor.untyped_storage())
            return result

        def _see(self, storage: Any) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self._seen:
                self._seen[key] = weakref.ref(storage, partial(self._forget, key, size))
                self.now += size
                self.peak = max(self.peak, self.now)

        def _forget(self, key: int, size: int, _: object) -> None:
            self.now -= size
            del self._seen[key]

    return LiveBytes


@contextmanager
def _fused_attention() -> Iterator[None]:
    """`scaled_dot_product_attention` makes and keeps what fused kernels do, whatever the device would choose."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            batch, heads, length = query.shape[:3]
            out = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
            rows = query.new_empty(batch, heads, length, dtype=torch.float32)
            ctx.save_for_backward(query, key, value, out, rows)
            return out

    class FusedMode(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if function is functional.scaled_dot_product_attention:
                given = [*args[:3], *(kwargs[name] for name in ("query", "key", "value")[len(args) :])]
                return Fused.apply(*given)  # type: ignore[no-untyped-call]
            return function(*args, **kwargs)

    with FusedMode():
        yield
