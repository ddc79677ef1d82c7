"""Two places where there is one device: what waits in ordinary memory is scrambled until it is brought."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Places:
    """Stands in for `offload.moved`: computing with weights that were not brought gives nonsense."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Tensor, Tensor]] = {}

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
