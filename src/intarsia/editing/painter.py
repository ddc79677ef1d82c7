"""The painter that learning gets: words and a mask, few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intarsia.editing.paint import PaintOptions, paint
from intarsia.editing.pictures import FloatArray
from intarsia.editing.words import Words, encode_words

if TYPE_CHECKING:
    from intarsia.backbones import Backbone

Painter = Callable[[FloatArray, NDArray[np.bool_], str, int], FloatArray]
PAINTER_STEPS = 12
"""Steps of a regular image while learning: they teach what the class may look like, not fine detail."""


def prompt_painter(backbone: Backbone, steps: int) -> Painter:
    """(scene (H, W, 3) in [0, 1], mask (H, W), prompt, seed) -> the scene, repainted inside the mask."""
    options = PaintOptions.preset("default", steps=steps)

    def paint_prompt(scene: FloatArray, mask: NDArray[np.bool_], prompt: str, seed: int) -> FloatArray:
        positive, negative = encode_words(backbone, Words(prompt, ()), "", 0.0)
        painted = paint(backbone, scene, mask, positive=positive, negative=negative, options=options, seed=seed)
        return np.where(mask[..., None], painted.rgb, scene).astype(np.float32)

    return paint_prompt
