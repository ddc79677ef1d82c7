"""Keys and values of a prompt, computed once for a picture: in cross-attention they depend on the words alone, which
are the same in every step. The numbers are those of computing them anew, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from intarsia.backbones import is_compiled

if TYPE_CHECKING:
    from torch import Tensor, nn

_PARTS = ("to_k", "to_v")


class PromptMemory:
    """While entered, the cross-attentions of a U-Net remember the keys and values of the tokens that `tokens` gave.

    Tokens are told apart as objects, not by what they hold: other ones are computed. Gradients must be off. When it
    ends, the U-Net's modules are the same objects as before, and nothing is kept.

    `enabled=False` remembers nothing, for comparison; nor is anything remembered in compiled blocks, which would have
    to be compiled anew for each picture.
    """

    def __init__(self, unet: Any, *, enabled: bool = True) -> None:
        self._unet, self._enabled = unet, enabled and not is_compiled(unet)
        self._plain: list[tuple[Any, str, nn.Module]] = []
        self._batches: dict[Hashable, tuple[Tensor, tuple[Tensor, ...]]] = {}

    def __enter__(self) -> Self:
        if self._enabled and not self._plain:
            for name in getattr(self._unet, "attn_processors", {}):
                if name.endswith(".attn2.processor"):
                    attention = self._unet.get_submodule(name.removesuffix(".processor"))
                    for part in _PARTS:
                        module = getattr(attention, part)
                        self._plain.append((attention, part, module))
                        setattr(attention, part, _remembering()(module, self._is_known))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for attention, part, module in self._plain:
            setattr(attention, part, module)
        self._plain, self._batches = [], {}

    def tokens(self, sources: tuple[Tensor, ...], form: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives for some prompts' tokens in some form (the blocks of a batch …): the same tensor each time
        for the same sources and form."""
        if not self._enabled:
            return make()
        key = (tuple(id(source) for source in sources), form)
        if key not in self._batches:
            self._batches[key] = make(), sources
        return self._batches[key][0]

    def _is_known(self, tokens: Tensor) -> bool:
        return any(tokens is kept for kept, _ in self._batches.values())


@cache
def _remembering() -> type[nn.Module]:
    """The wrapper's class, made when torch is there."""
    from torch import is_grad_enabled, nn

    class Remembering(nn.Module):
        """A projection that keeps its outputs for tokens that are known to come again."""

        def __init__(self, projection: nn.Module, is_known: Callable[[Tensor], bool]) -> None:
            super().__init__()
            self.projection, self._is_known = projection, is_known
            self._kept: dict[int, Tensor] = {}

        def forward(self, tokens: Tensor, *arguments: Any) -> Tensor:
            kept = self._kept.get(id(tokens))
            if kept is None:
                kept = self.projection(tokens, *arguments)
                if not is_grad_enabled() and self._is_known(tokens):
                    self._kept[id(tokens)] = kept
            return kept

        def __getattr__(self, name: str) -> Any:
            """The projection's own attributes, which adapters and processors look at."""
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("projection"), name)

    return Remembering
