"""Compiled blocks paint the same picture, and the second picture compiles nothing. The back end here only traces."""

from __future__ import annotations

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.conftest_tiny import tiny_backbone
from tests.sampling.test_no_waste import painted

from intarsia.backbones import BackboneError, compile_blocks, is_compiled
from intarsia.sampling import Guidance


def test_blocks_are_compiled_once_and_paint_the_same() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model, plain = tiny_backbone(), painted(tiny_backbone(), guidance=Guidance(4.0))
    before = fingerprint(model.unet)[1:]
    assert not is_compiled(model.unet)
    assert compile_blocks(model, "eager") > 1 and is_compiled(model.unet)
    assert torch.equal(painted(model, guidance=Guidance(4.0)), plain)
    frames = counters["frames"]["total"]
    assert frames > 0 and not counters["graph_break"]
    assert torch.equal(painted(model, guidance=Guidance(4.0)), plain)
    assert counters["frames"]["total"] == frames
    after = fingerprint(model.unet)[1:]
    assert after[0] == before[0] and after[2:] == before[2:]


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(BackboneError, match="compiler 'fast' is not known: use one of"):
        compile_blocks(tiny_backbone(), "fast")
