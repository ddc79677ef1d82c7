"""Encoders by name: what the similarities, the distances of sets and the perceptual distance are measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from intarsia.evaluation.bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.evaluation.judges import Judges

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
USUAL: Mapping[str, str | None] = {
    "clip": "openai/clip-vit-base-patch32",
    "dino": "facebook/dino-vits16",
    "dinov2": None,
    "inception": "cached",
    "lpips": "alex",
}
"""What measures real pictures, by kind; ``cached``: the file that torch-fidelity keeps in torch's hub cache."""


class PictureEncoder(Protocol):
    """``name`` tells which network it is, ``hash`` its weights."""

    name: str
    hash: str

    def images(self, crops: Sequence[Pixels]) -> Floats:
        """Pictures (H, W, 3) of any sizes → (N, D)."""


class PictureTextEncoder(PictureEncoder, Protocol):
    """Texts are embedded into the pictures' space."""

    def texts(self, texts: Sequence[str]) -> Floats:
        """→ (N, D)."""


class FeatureMaps(Protocol):
    """A network for `metrics.lpips`; ``weights``: (C,) for each of its layers."""

    name: str
    hash: str
    weights: list[Tensor]

    def maps(self, pixels: Pixels) -> list[Tensor]:
        """A picture (H, W, 3) → (1, C, h, w) of each layer."""


@dataclass(frozen=True)
class EncoderSet:
    """``clip``, ``dino``, ``dinov2`` measure similarity; ``features`` is for FID and KID, ``perceptual`` for LPIPS; the
    ``judges`` know Tabletop. ``name``: of the scores' folder. What is None is not measured.

    ``cut_out``: subjects' photos are shown with nothing but the subject; else cropped to it with what is around it.
    """

    name: str
    clip: PictureTextEncoder
    dino: PictureEncoder
    dinov2: PictureEncoder | None = None
    features: PictureEncoder | None = None
    perceptual: FeatureMaps | None = None
    judges: Judges | None = None
    cut_out: bool = True

    @property
    def similar(self) -> dict[str, PictureEncoder]:
        """Metric's stem -> encoder, of those that compare with the subject's photos."""
        found: dict[str, PictureEncoder | None] = {"clip_i": self.clip, "dino": self.dino, "dinov2": self.dinov2}
        return {stem: encoder for stem, encoder in found.items() if encoder is not None}

    def of_metrics(self) -> dict[str, dict[str, str]]:
        """Metric -> name and hash of its encoder."""
        used: dict[str, Any] = {"clip_t": self.clip, **self.similar, "fid": self.features, "kid": self.features}
        found = {f"{stem}_{end}": used[stem] for stem in used if used[stem] is not None for end in ("crop", "whole")}
        if self.perceptual is not None:
            found["lpips_outside"] = self.perceptual
        told = {metric: {"encoder": encoder.name, "hash": encoder.hash} for metric, encoder in found.items()}
        if self.judges is not None:
            told |= {
                metric: {"encoder": "tabletop judges", "hash": self.judges.hash} for metric in ("attribute", "top1")
            }
        return told


def check_encoders(name: str, models: Mapping[str, str | None] | None = None) -> None:
    """That there are such encoders; nothing is loaded. Raises BenchError."""
    if name not in ("tabletop", "real"):
        raise BenchError(f"there are no encoders {name!r}: use tabletop or real")
    if name == "tabletop" and models:
        raise BenchError(f"the encoders 'tabletop' are fixed, but {sorted(models)[0]!r} is given: ask for 'real'")
    for kind, model in (models or {}).items():
        if kind not in USUAL:
            raise BenchError(f"there is no kind of encoder {kind!r}: name one of {', '.join(USUAL)}")
        if model is None and kind in ("clip", "dino"):
            raise BenchError(f"the encoders 'real' need a {kind}: give a folder or a name that was fetched")


def encoder_set(name: str, models: Mapping[str, str | None] | None = None, device: str = "auto") -> EncoderSet:
    """``tabletop``: the held-out judges of the package. ``real``: CLIP, DINO, Inception and LPIPS from files on this
    machine; ``models`` names others by kind (``clip``, ``dino``, ``dinov2``, ``inception``, ``lpips``), or leaves one
    out by None.

    Raises:
        BenchError: no such set or kind, or an extra or a file is missing. HelperError: a model cannot be loaded.
    """
    check_encoders(name, models)
    if name == "tabletop":
        from intarsia.evaluation.bench.tabletop_encoders import tabletop_encoders

        return tabletop_encoders()
    from intarsia.evaluation.bench.real_encoders import real_encoders

    return real_encoders(models or {}, device)
