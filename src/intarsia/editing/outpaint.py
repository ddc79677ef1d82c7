"""A frame around a picture, painted window by window from the inside out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intarsia.editing.inputs import frame_of, margins_of
from intarsia.editing.paint import PaintOptions, PaintProgress, paint, seam_ring
from intarsia.editing.pictures import FloatArray, seen_by_model
from intarsia.imaging import (
    Composite,
    Mask,
    Picture,
    Window,
    composite,
    extend_canvas,
    fill_hole,
    match_seam,
    plan_tiles,
)
from intarsia.request import EditRequest
from intarsia.result import StageRecord

if TYPE_CHECKING:
    from intarsia.backbones import Backbone
    from intarsia.conditioning import Conditioning, ScheduledConditioning


@dataclass(frozen=True, eq=False)
class _Frame:
    """The canvas while it is painted: its colours (H, W, 3), which pixels are known, which must stay."""

    colours: FloatArray
    known: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def paint_frame(
    backbone: Backbone,
    request: EditRequest,
    scene: Picture,
    words: tuple[Conditioning | ScheduledConditioning, Conditioning | None],
    progress: PaintProgress | None = None,
) -> tuple[Composite, tuple[StageRecord, ...]]:
    """The scene on its canvas with the frame painted, and the windows that were painted in.

    Windows of the model's native side, one scene pixel to a painted one, hold at least 40 % of what is known
    already (`plan_tiles`); what one of them painted is known to the next, and colours are matched where they
    meet. The scene's bytes are kept at their place but for the request's rim, over which old and new are blended.
    Everything random comes from the seed and the window's number.
    """
    margins = margins_of(request, scene.size)
    canvas = extend_canvas(scene, margins)
    kept = margins.kept(scene.size, request.rim)
    frame = _Frame(seen_by_model(canvas), np.zeros(canvas.size, bool), np.zeros(canvas.size, bool))
    kept.crop(frame.known)[...] = True
    kept.crop(frame.kept)[...] = True
    # The whole tile is the window of its one stage.
    options = replace(PaintOptions.of(request), lam=1.0, local_share=1.0, local_minimum_fraction=1.0, keep_detail=False)
    tiles = plan_tiles(canvas.size, kept, backbone.native_size)
    stages: list[StageRecord] = []
    for index, tile in enumerate(tiles):

        def advance(done: int, total: int, before: int = index) -> None:
            if progress is not None:
                progress(before * total + done, len(tiles) * total)

        stages += _paint_tile(backbone, frame, tile, options, request, words, tile_seed(request.seed, index), advance)
    blend = min(request.feather, request.rim)
    repainted = frame_of(request, scene).grow(request.rim - blend)
    return composite(canvas, frame.colours, repainted, growth=0, feather=blend), tuple(stages)


def tile_seed(seed: int, index: int) -> int:
    """The seed of a window: a function of the request's and the window's number, so that no two are alike."""
    return int.from_bytes(hashlib.sha256(f"window {index} of seed {seed}".encode()).digest()[:8], "big") >> 1


def _paint_tile(
    backbone: Backbone,
    frame: _Frame,
    tile: Window,
    options: PaintOptions,
    request: EditRequest,
    words: tuple[Conditioning | ScheduledConditioning, Conditioning | None],
    seed: int,
    progress: PaintProgress,
) -> list[StageRecord]:
    """Paint what is not known yet of one window, in place."""
    colours, known = tile.crop(frame.colours), tile.crop(frame.known)
    hole = Mask(~known)
    before = fill_hole(colours, hole.array)
    painted = paint(
        backbone,
        before,
        hole.array,
        positive=words[0],
        negative=words[1],
        options=options,
        seed=seed,
        progress=progress,
    )
    ring = seam_ring(painted.stages, request.feather, backbone.latent_factor)
    matched = match_seam(painted.rgb, before, hole, ring=ring, strength=request.seam_strength)
    weights = hole.feather(request.feather) * ~tile.crop(frame.kept)
    colours[...] = weights[..., None] * matched + (1 - weights[..., None]) * before
    np.clip(colours, 0.0, 1.0, out=colours)
    known[...] = True
    return [
        stage.model_copy(
            update={"window": (tile.top + stage.window[0], tile.left + stage.window[1], *stage.window[2:])}
        )
        for stage in painted.stages
    ]
