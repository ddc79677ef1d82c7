"""A LoRA as it is used: for each module of a model a low-rank change of its weight, whatever file it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from intarsia.adapters.errors import AdapterKeyError

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["unet", "text_encoder", "text_encoder_2"]
PARTS: tuple[Part, ...] = ("unet", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """ΔW = alpha / rank · B A of one module: A = `down` (rank, in[, kh, kw]), B = `up` (out, rank[, 1, 1])."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it changes: (out, in[, kh, kw])."""
        return (int(self.up.shape[0]), *(int(size) for size in self.down.shape[1:]))


@dataclass(frozen=True, eq=False)
class Lora:
    """`layers`: part → module (the part's own name for it, as diffusers writes it) → change.

    `metadata` is the file's; `spelling` says in which format(s) its names were.
    """

    layers: Mapping[Part, Mapping[str, LoraLayer]] = field(repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    spelling: str = "diffusers"

    @classmethod
    def of_unet(cls, weights: Mapping[str, Tensor], alpha: float) -> Self:
        """A U-Net's changes under our names, `<module>.down` and `<module>.up`, with one alpha for all.

        Raises:
            AdapterKeyError: keys of another kind, or one half without the other; lists them.
        """
        modules = {key.rpartition(".")[0] for key in weights}
        wanted = {f"{module}.{half}" for module in modules for half in ("down", "up")}
        if wrong := sorted(wanted ^ set(weights)):
            raise AdapterKeyError(f"{len(wrong)} keys are missing or of another kind: {', '.join(wrong)}")
        return cls({"unet": {m: LoraLayer(weights[f"{m}.down"], weights[f"{m}.up"], alpha) for m in sorted(modules)}})

    def __iter__(self) -> Iterator[tuple[Part, str, LoraLayer]]:
        """(part, module, change), in a fixed order."""
        for part in PARTS:
            for module, layer in sorted(self.layers.get(part, {}).items()):
                yield part, module, layer
