"""Compiled blocks paint the same picture, and the second picture compiles nothing. The back end here only traces."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.backbones.sdxl_config import call, small_inputs, small_unet
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.editing.conftest import noise_picture
from tests.sampling.test_no_waste import painted

from intarsia.backbones import (
    Backbone,
    BackboneError,
    MemoryPlan,
    apply_memory_plan,
    compile_blocks,
    is_compiled,
)
from intarsia.backbones.compiling import compiled_kinds
from intarsia.editing import Studio, opening
from intarsia.errors import IntarsiaWarning
from intarsia.sampling import Guidance


@pytest.fixture
def counters() -> Iterator[Any]:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def compiled_everything(counters: Any) -> bool:
    """No block was left uncompiled because too many kinds were compiled before."""
    return counters["frames"]["ok"] == counters["frames"]["total"] > 0 and not counters["graph_break"]


def test_blocks_are_compiled_once_and_paint_the_same(counters: Any) -> None:
    model, plain = tiny_backbone(), painted(tiny_backbone(), guidance=Guidance(4.0))
    before = fingerprint(model.unet)[1:]
    assert not is_compiled(model.unet)
    assert compile_blocks(model, "eager") > 1 and is_compiled(model.unet)
    assert torch.equal(painted(model, guidance=Guidance(4.0)), plain)
    frames = counters["frames"]["total"]
    assert compiled_everything(counters)
    assert torch.equal(painted(model, guidance=Guidance(4.0)), plain)
    assert counters["frames"]["total"] == frames
    after = fingerprint(model.unet)[1:]
    assert after[0] == before[0] and after[2] - before[2] == {"_compiled_call_impl"} and after[3:] == before[3:]


def sdxl_like() -> Backbone:
    return dataclasses.replace(tiny_backbone(), unet=small_unet(in_channels=9))


def test_all_kinds_of_sdxls_blocks_are_compiled_in_several_sizes(
    counters: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo import config, convert_frame

    model, plain = sdxl_like(), sdxl_like().unet
    blocks = compiled_kinds(model.unet)
    resnets = {tuple(p.shape for p in b.parameters()) for b in blocks if type(b).__name__ == "ResnetBlock2D"}
    limits = (config.recompile_limit, config.accumulated_recompile_limit)
    assert len(resnets) > config.recompile_limit, "more than dynamo's own limit, as SDXL"
    exceeded: list[Any] = []
    real = convert_frame.exceeds_recompile_limit

    def watched(*given: Any) -> Any:
        result = real(*given)
        exceeded.extend([result[1]] if result[0] else [])
        return result

    monkeypatch.setattr(convert_frame, "exceeds_recompile_limit", watched)
    compile_blocks(model, "eager")
    for sides in ((8, 8), (12, 8), (8, 8)):
        sample = torch.randn(2, 9, *sides, generator=torch.Generator().manual_seed(3))
        assert torch.equal(call(model.unet, sample=sample), call(plain, sample=sample))
    assert not exceeded and compiled_everything(counters)
    frames = counters["frames"]["total"]
    call(model.unet, **small_inputs(model.unet))
    assert counters["frames"]["total"] == frames
    assert (config.recompile_limit, config.accumulated_recompile_limit) == limits


def test_blocks_that_come_one_by_one_are_not_compiled() -> None:
    with pytest.warns(IntarsiaWarning, match="not compiled: with group offload"):
        model = apply_memory_plan(tiny_backbone(), MemoryPlan("group"))
        assert compile_blocks(model, "eager") == 0
    assert not is_compiled(model.unet)
    assert compile_blocks(apply_memory_plan(tiny_backbone(), MemoryPlan("model")), "eager") > 1


def test_a_studio_compiles_on_request(counters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tiny_backbone(), tmp_path / "tiny")
    monkeypatch.setattr(opening, "compile_blocks", lambda backbone: compile_blocks(backbone, "eager"))
    plain, studio = (Studio.load(tmp_path / "tiny", "cpu", compiled=compiled) for compiled in (False, True))
    assert is_compiled(studio.backbone.unet) and not is_compiled(plain.backbone.unet)
    options: dict[str, Any] = {"box": "20,16,30,30", "prompt": "a red duck", "steps": 3, "lam": 0.5}
    one, two = (each.insert(noise_picture(72, 160), **options) for each in (plain, studio))
    assert one.picture.sha256 == two.picture.sha256 and compiled_everything(counters)


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(BackboneError, match="compiler 'fast' is not known: use one of"):
        compile_blocks(tiny_backbone(), "fast")
