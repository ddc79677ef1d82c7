"""Two places where there is one device: what waits in ordinary memory is scrambled until it is brought."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from intarsia.adapters import fused
from intarsia.backbones import offload


class Places:
    """Stands in for `offload.moved`: computing with weights that were not brought gives nonsense."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Tensor, Tensor]] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Places:
        """Everything that moves weights, and the fusing of LoRAs, which may well compute with what waits."""
        monkeypatch.setattr(offload, "moved", self)
        monkeypatch.setattr(offload, "place_of", lambda values: "cpu" if self.waits([values]) else values.device)
        real = fused._sum

        def summed(weight: Tensor, changes: Any) -> Tensor:
            values = real(self(weight.data, weight.device), changes)
            return self(values, "cpu") if self.waits([weight]) else values

        monkeypatch.setattr(fused, "_sum", summed)
        return self

    def waits(self, tensors: Iterable[Tensor]) -> bool:
        """Whether all of them are in ordinary memory."""
        return all(tensor.data_ptr() in self._waiting for tensor in tensors)

    def __call__(self, values: Tensor, device: Any) -> Tensor:
        parks, known = device == "cpu" and isinstance(device, str), values.data_ptr()
        if not values.numel() or parks == (known in self._waiting):
            return values
        if not parks:
            return self._waiting[known][0].clone()
        scrambled = values.neg()
        if values.dtype is torch.float32:
            scrambled.view(torch.int32).bitwise_xor_(0x155)
        self._waiting[scrambled.data_ptr()] = values.clone(), scrambled
        return scrambled
