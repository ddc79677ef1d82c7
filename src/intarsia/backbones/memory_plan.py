"""Where a model's parts wait and where they compute, from counted bytes alone: no torch, no machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from intarsia.backbones.errors import BackboneError

MemoryMode = Literal["full", "model", "group"]
MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)
"""All parts on the device; one part at a time; the U-Net block by block."""
FIXED_MARGIN = 1 << 29
SHARE_MARGIN = 0.1
"""What is kept free beside what is counted, for work spaces and fragments: 0.5 GiB and a tenth of the activations."""
LEAST_TILE, TILE_STEP = 256, 64
"""In pixels: smaller tiles would show, and a tile's side is a multiple of the step."""


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes of one model, counted. `weights`: of each part, by its folder name ("unet" and "vae" among them).

    largest_group: of the U-Net's weights that group offload has on the device at once. unet_work, vae_work: the most
    that activations hold at once, for a guided call on a picture of `side` x `side` pixels, and for encoding or
    decoding it. adapters: what shows references to the U-Net, on the device in every mode. tower: the image tower that
    they read, where the model has none.
    """

    weights: Mapping[str, int]
    largest_group: int
    unet_work: int
    vae_work: int
    side: int
    adapters: int = 0
    tower: int = 0

    @property
    def all_weights(self) -> int:
        return sum(self.weights.values())


@dataclass(frozen=True)
class MemoryPlan:
    """How a model uses a device's memory; `apply_memory_plan` does it.

    peak: bytes on the device at most, counted, without the margin (None: not counted). free, total: the device's bytes
    when it was planned (None: not known). unet_stays: in mode "model" the U-Net remains on the device while the VAE
    works, so that nothing but the VAE ever moves while painting. tile_side: the VAE works in tiles on pictures with a
    longer side than this, in pixels (None: never). one_by_one: it takes the pictures of a batch one after the other,
    because there is no room for two.
    """

    mode: MemoryMode
    device: str = "cpu"
    dtype: str = "float32"
    weights: int = 0
    peak: int | None = None
    free: int | None = None
    total: int | None = None
    unet_stays: bool = False
    tile_side: int | None = None
    one_by_one: bool = False

    def describe(self) -> str:
        """One line: `memory: full on cuda, bfloat16, 6.9 GB of weights, about 8.5 GB at most (counted) of 23.5 GB
        free`."""
        names = {"full": "full", "model": "model offload", "group": "group offload"}
        parts = [f"{names[self.mode]} on {self.device}", self.dtype, f"{in_gigabytes(self.weights)} of weights"]
        free = None if self.free is None else f"{in_gigabytes(self.free)} free"
        if self.peak is not None:
            counted = f"about {in_gigabytes(self.peak)} at most (counted)"
            free = counted if free is None else f"{counted} of {free}"
        parts += [] if free is None else [free]
        if self.tile_side is not None:
            parts.append(f"VAE in tiles above {self.tile_side} px")
        return "memory: " + ", ".join(parts)


def plan_memory(
    needs: MemoryNeeds,
    *,
    device: str,
    dtype: str,
    free: int | None,
    total: int | None = None,
    mode: str = "auto",
) -> MemoryPlan:
    """The fastest way that fits; ways that never change a picture before those that decode it in tiles.

    "auto" keeps room for references where any way has it before it goes without. LoRAs and subjects need none: the
    weights that they change wait in ordinary memory.

    A CPU has everything in place, and so has a device whose memory is not known. MPS shares the CPU's memory: offload
    gains nothing there. A mode that is asked for by name may use the margin up, too.

    Args:
        device: torch's name, such as "cuda:1". free, total: its bytes. mode: "auto" or one of `MODES`.

    Raises:
        BackboneError: an unknown mode, one that the device has no use for, or too little memory.
    """
    check_memory_mode(mode, device)
    kind = device.partition(":")[0]
    plan = MemoryPlan("full", device, dtype, needs.all_weights, free=free, total=total)
    if kind == "cpu":
        return plan
    bare = replace(needs, adapters=0, tower=0)
    if free is None:
        return replace(plan, peak=_peak(bare, "full", needs.side))
    wanted = [way for way in MODES if mode in ("auto", way) and (way == "full" or kind != "mps")]
    for least in (needs.side, min(LEAST_TILE, needs.side)):
        for held in (needs, bare) if mode == "auto" else (bare,):
            for candidate in wanted:
                found = _fitted(held, candidate, least, free, with_margin=mode == "auto")
                if found is not None:
                    side, stays = found
                    peak = _peak(bare, candidate, min(side, needs.side), stays=stays)
                    alone = side * side < 2 * needs.side**2
                    return replace(plan, mode=candidate, peak=peak, tile_side=side, unet_stays=stays, one_by_one=alone)
    if kind == "mps" and mode == "full":  # the system may lend more than it recommends
        return replace(plan, peak=_peak(bare, "full", needs.side), tile_side=needs.side, one_by_one=True)
    raise BackboneError(_refusal(bare, kind, free, mode))


def check_memory_mode(mode: str, device: str | None = None) -> None:
    """`BackboneError` for a mode that does not exist, or that the device, if it is given, has no use for."""
    if mode not in ("auto", *MODES):
        raise BackboneError(f"memory mode {mode!r} is unknown: use auto, {', '.join(MODES)}")
    kind = (device or "").partition(":")[0]
    if mode in ("model", "group") and kind in ("cpu", "mps"):
        raise BackboneError(f"memory mode {mode!r} gains nothing on {kind}, which uses the computer's own: use auto")


def _fitted(
    needs: MemoryNeeds, mode: MemoryMode, least: int, free: int, *, with_margin: bool
) -> tuple[int, bool] | None:
    """(greatest side that the VAE takes in one piece, whether the U-Net stays beside it), if that is `least` or more
    and all else fits, too."""
    free -= needs.adapters + (needs.tower if mode == "full" else 0)
    if any(_with_margin(held, work, with_margin) > free for held, work in _phases(needs, mode)):
        return None
    both = needs.weights["unet"] + needs.weights["vae"]
    stays = mode == "model" and _with_margin(both, needs.vae_work, with_margin) <= free
    held = needs.all_weights if mode == "full" else both if stays else needs.weights["vae"]
    room = free - held - (FIXED_MARGIN if with_margin else 0)
    share = room / (1 + (SHARE_MARGIN if with_margin else 0)) / max(1, needs.vae_work)
    if share >= 1 and least == needs.side:
        return max(needs.side, _floor(needs.side * math.sqrt(share))), stays
    side = _floor(needs.side * math.sqrt(max(0.0, share)))
    return (side, stays) if least <= side else None


def _phases(needs: MemoryNeeds, mode: MemoryMode) -> Iterator[tuple[int, int]]:
    """(weights on the device, activations) of everything but the VAE's work."""
    if mode == "full":
        yield needs.all_weights, needs.unet_work
        return
    yield (needs.weights["unet"] if mode == "model" else needs.largest_group), needs.unet_work
    yield from ((size, 0) for part, size in needs.weights.items() if part != "unet")
    yield needs.tower, 0


def _peak(needs: MemoryNeeds, mode: MemoryMode, side: int, *, stays: bool = False) -> int:
    """Bytes on the device at most, for a picture of `needs.side` with the VAE's tiles of `side`."""
    held = needs.all_weights if mode == "full" else needs.weights["vae"] + (needs.weights["unet"] if stays else 0)
    decoding = held + math.ceil(needs.vae_work * (side / needs.side) ** 2)
    return max(decoding, *(held + work for held, work in _phases(needs, mode)))


def _with_margin(held: int, work: int, wanted: bool) -> int:
    return math.ceil(held + (1 + SHARE_MARGIN) * work) + FIXED_MARGIN if wanted else held + work


def _floor(side: float) -> int:
    return int(side) // TILE_STEP * TILE_STEP


def _refusal(needs: MemoryNeeds, kind: str, free: int, mode: str) -> str:
    margin = mode == "auto"
    least = next((named for named in MODES if named == mode), "full" if kind == "mps" else MODES[-1])
    tile = min(LEAST_TILE, needs.side)
    work = math.ceil(needs.vae_work * (tile / needs.side) ** 2)
    decoding = (needs.all_weights if least == "full" else needs.weights["vae"], work)
    wanted = max(_with_margin(held, some, margin) for held, some in (decoding, *_phases(needs, least)))
    advice = {"full": "use memory auto or model", "model": "use memory auto or group"}.get(mode, "use device cpu")
    if kind == "mps":
        advice = "use device cpu, or memory full to try all the same"
    return (
        f"the model needs at least {in_gigabytes(wanted)} of {kind} memory with memory mode {least!r} (counted), and "
        f"{in_gigabytes(free)} is free: close other programs, or {advice}"
    )


def in_gigabytes(size: int) -> str:
    """Bytes as `6.9 GB` (10⁹)."""
    return f"{size / 1e9:.1f} GB"
