"""The memory plan: a pure choice from counted bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from intarsia.backbones import BackboneError, MemoryNeeds, MemoryPlan, check_memory_mode, plan_memory

GB, GIB = 10**9, 2**30
SDXL = MemoryNeeds(
    weights={"unet": 5_134_956_168, "vae": 167_307_726, "text_encoder": 246_122_496, "text_encoder_2": 1_389_321_216},
    largest_group=701_680_640,
    unet_work=330_312_960,
    vae_work=1_610_743_808,
    side=1024,
)
"""In 16 bits; test_memory.py counts what is counted here."""
SHOWN = replace(SDXL, adapters=847_574_400, tower=1_264_000_000)
"""With room for references."""


def plan(free: float, mode: str = "auto", device: str = "cuda", needs: MemoryNeeds = SDXL) -> MemoryPlan:
    return plan_memory(needs, device=device, dtype="bfloat16", free=int(free * GB), total=24 * GB, mode=mode)


@pytest.mark.parametrize(
    ("free", "mode", "stays", "side"),
    [
        (23.5, "full", False, (2900, 3300)),  # a card of 24 GB
        (11.5, "full", False, (1500, 1800)),  # 12 GB
        (9.3, "full", False, (1024, 1088)),
        (9.0, "model", True, (1300, 1500)),  # 10 GB with a desktop on it
        (7.7, "model", True, (1024, 1100)),  # 8 GB
        (7.0, "model", False, (1900, 2000)),
        (5.6, "group", False, (1600, 1800)),  # 6 GB
        (3.6, "group", False, (1200, 1400)),  # 4 GB
        (2.1, "group", False, (700, 1000)),  # 2.5 GB: the VAE works in tiles
    ],
)
def test_the_fastest_way_that_fits_is_chosen(free: float, mode: str, stays: bool, side: tuple[int, int]) -> None:
    chosen = plan(free)
    assert (chosen.mode, chosen.unet_stays) == (mode, stays)
    assert chosen.tile_side is not None and side[0] <= chosen.tile_side <= side[1] and chosen.tile_side % 64 == 0
    assert chosen.peak is not None and chosen.peak + GIB // 2 <= free * GB
    assert chosen.one_by_one is (chosen.tile_side < 1024 * 2**0.5)


def test_what_fits_is_monotonous_and_within_the_memory() -> None:
    ranks = {"group": 0, "model": 1, "full": 2}
    found = [plan(free / 10) for free in range(21, 300)]
    assert [ranks[p.mode] for p in found] == sorted(ranks[p.mode] for p in found)
    assert all(p.peak is not None and p.free is not None and p.peak < p.free for p in found)
    exact = next(p for p in found if p.tile_side is not None and p.tile_side >= 1024)
    assert all((p.tile_side or 0) >= 1024 for p in found if (p.free or 0) >= (exact.free or 0))


@pytest.mark.parametrize(
    ("free", "mode", "stays"),
    [
        (11.4, "full", False),
        (11.2, "model", True),
        (8.5, "model", True),
        (8.3, "model", False),
        (6.9, "model", False),
        (6.7, "group", False),
        (3.4, "group", False),
        (2.6, "group", False),  # without that room
        (2.0, "group", False),
    ],
)
def test_room_for_references_is_kept_where_there_is_some(free: float, mode: str, stays: bool) -> None:
    chosen = plan(free, needs=SHOWN)
    assert (chosen.mode, chosen.unet_stays) == (mode, stays)
    assert chosen.peak is not None and chosen.tile_side is not None
    kept = SHOWN.adapters + (SHOWN.tower if mode == "full" else 0) if free > 3 else 0
    assert chosen.peak + kept + GIB // 2 <= free * GB
    assert (chosen.tile_side >= 1024) is (free > 2.5), "tiles would change a picture, so they come last"
    assert plan(8.7, "full", needs=SHOWN).mode == "full", "a mode by name may use it up"
    with pytest.raises(BackboneError, match="at least 1\\.9 GB"):
        plan(1.5, needs=SHOWN)


def test_a_small_model_and_a_cpu_and_an_unknown_device_have_everything_in_place() -> None:
    tiny = MemoryNeeds({"unet": 200_000, "vae": 50_000, "text_encoder": 30_000}, 40_000, 90_000, 300_000, 64)
    assert plan(1.0, needs=tiny).mode == "full"
    on_cpu = plan_memory(SDXL, device="cpu", dtype="float32", free=1, mode="auto")
    assert (on_cpu.mode, on_cpu.tile_side) == ("full", None)
    unknown = plan_memory(SDXL, device="xpu:1", dtype="bfloat16", free=None)
    assert (unknown.mode, unknown.tile_side, unknown.device) == ("full", None, "xpu:1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"free": 1.5}, "at least 1.9 GB of cuda memory with memory mode 'group' (counted), and 1.5 GB is free"),
        ({"free": 6.5, "mode": "full"}, "at least 7.3 GB of cuda memory with memory mode 'full'"),
        ({"free": 5.0, "mode": "model"}, "use memory auto or group"),
        ({"free": 6.0, "device": "mps"}, "memory full to try all the same"),
        ({"free": 60.0, "mode": "group", "device": "mps"}, "gains nothing on mps"),
        ({"free": 60.0, "mode": "model", "device": "cpu"}, "gains nothing on cpu"),
        ({"free": 60.0, "mode": "ful"}, "memory mode 'ful' is unknown: use auto, full, model, group"),
    ],
)
def test_too_little_memory_and_modes_of_no_use_are_refused_in_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BackboneError) as error:
        plan(**options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_mode_by_name_may_use_the_margin_and_auto_may_not() -> None:
    assert plan(8.7, "full").mode == "full" and plan(8.7).mode == "model"
    assert plan(20, "model").unet_stays and plan(20, "group").mode == "group"
    assert plan(6.0, "full", "mps").mode == "full"
    check_memory_mode("group")


def test_a_plan_says_what_it_is_in_one_line() -> None:
    assert plan(11.5).describe() == (
        "memory: full on cuda, bfloat16, 6.9 GB of weights, about 8.5 GB at most (counted) of 11.5 GB free, "
        f"VAE in tiles above {plan(11.5).tile_side} px"
    )
    assert plan(7.0).describe().startswith("memory: model offload on cuda, bfloat16, 6.9 GB of weights, about 5.5 GB")
    assert "memory: group offload on cuda" in plan(5.0).describe()
    bare = plan_memory(SDXL, device="cpu", dtype="float32", free=int(12.3 * GB))
    assert bare.describe() == "memory: full on cpu, float32, 6.9 GB of weights, 12.3 GB free"
    assert MemoryPlan("full", weights=GB).describe() == "memory: full on cpu, float32, 1.0 GB of weights"
