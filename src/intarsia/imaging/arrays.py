"""The array types and the size arithmetic that the whole room shares."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]
Size: TypeAlias = tuple[int, int]  # (height, width)


def describe(size: Size) -> str:
    """A size as users read it: `WxH px`, width first."""
    return f"{size[1]}x{size[0]} px"


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view in C order; the given array itself keeps its flags."""
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view
