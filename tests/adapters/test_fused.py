from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adapters.loras import modules_of, random_lora, run_unet
from tests.conftest_tiny import tiny_backbone
from torch import Tensor, nn

from intarsia.adapters import (
    AdapterError,
    AdapterKeyError,
    FusedLoras,
    Lora,
    LoraLayer,
    Refine,
    RefineConfig,
    SubjectLora,
    from_diffusers,
)
from intarsia.adapters.lora_modules import changeable
from intarsia.backbones import Backbone, MemoryPlan, apply_memory_plan, follow_memory_plan, offload

TO_K = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


def parameters(backbone: Backbone) -> dict[str, tuple[int, bool, Tensor]]:
    """Which object, `requires_grad`, and a copy of the numbers of every parameter."""
    return {
        f"{part}.{name}": (id(value), value.requires_grad, value.detach().clone())
        for part, module in backbone.modules().items()
        for name, value in module.named_parameters()
    }


def same(before: dict[str, tuple[int, bool, Tensor]], backbone: Backbone) -> bool:
    after = parameters(backbone)
    return before.keys() == after.keys() and all(
        before[n][:2] == after[n][:2] and torch.equal(before[n][2], after[n][2]) for n in before
    )


def randomised(backbone: Backbone) -> SubjectLora:
    lora = SubjectLora(rank=2, alpha=5.0, targets=("to_k", "to_v", "to_out.0")).inject(backbone.unet)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return lora


@pytest.mark.parametrize("strength", [1.0, 0.4, -1.0])
def test_fused_is_what_injected_was(strength: float) -> None:
    backbone = tiny_backbone()
    subject = randomised(backbone)
    subject.scale = strength
    injected = run_unet(backbone.unet)
    subject.eject()
    plain = run_unet(backbone.unet)
    lora = Lora.of_unet(from_diffusers(subject.state_dict()), subject.alpha)
    with FusedLoras.fuse(backbone.modules(), [(lora, strength)]):
        torch.testing.assert_close(run_unet(backbone.unet), injected, atol=1e-5, rtol=0)
    assert (plain - injected).abs().max() > 1e-3
    assert torch.equal(run_unet(backbone.unet), plain)


def test_two_loras_are_the_formula_in_every_part_and_kind_of_module() -> None:
    backbone = tiny_backbone()
    modules = modules_of(backbone)
    pairs = [(random_lora(modules), 0.7), (random_lora(modules, every=2, rank=2, alpha=0.5), -1.3)]
    parts = {part: backbone.modules()[part] for part in ("unet", "text_encoder", "text_encoder_2")}
    targets = {(part, name): module for part, root in parts.items()
               for name, module in changeable(part, root).items()}  # fmt: skip
    wanted = {}
    for (part, name), module in targets.items():
        value = module.weight.detach().double()
        for lora, strength in pairs:
            layer = lora.layers[part].get(name)  # type: ignore[index]
            if layer is None:
                continue
            equation = "or,ri->oi" if value.ndim == 2 else "orab,rikl->oikl"
            change = torch.einsum(equation, layer.up.double(), layer.down.double())
            value = value + strength * layer.alpha / layer.down.shape[0] * change
        wanted[part, name] = value
    assert any(value.ndim == 4 and value.shape[-1] == 3 for value in wanted.values())
    before = parameters(backbone)
    with FusedLoras.fuse(backbone.modules(), pairs):
        for place, value in wanted.items():
            torch.testing.assert_close(targets[place].weight.double(), value, atol=2e-4, rtol=1e-5)
    assert same(before, backbone)


def test_unfusing_gives_the_objects_back_also_in_half_precision_and_after_an_error() -> None:
    backbone = tiny_backbone()
    backbone.unet.to(torch.bfloat16)
    backbone.unet.conv_in.requires_grad_(True)
    lora = random_lora(modules_of(backbone))
    before = parameters(backbone)
    with pytest.raises(RuntimeError, match="boom"), FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        assert backbone.unet.conv_in.weight.requires_grad and not backbone.unet.conv_out.weight.requires_grad
        assert backbone.unet.conv_in.weight.dtype is torch.bfloat16
        assert not same(before, backbone)
        raise RuntimeError("boom")
    assert same(before, backbone)


def test_an_error_in_the_middle_of_fusing_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    lora = random_lora(modules_of(backbone))
    before = parameters(backbone)
    plain, calls = nn.Parameter, []

    def fails(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 20:
            raise MemoryError
        return plain(*given, **more)

    monkeypatch.setattr(nn, "Parameter", fails)
    with pytest.raises(MemoryError):
        FusedLoras.fuse(backbone.modules(), [(lora, 1.0)])
    monkeypatch.undo()
    assert len(calls) == 20 and same(before, backbone)


def test_strength_zero_touches_nothing() -> None:
    backbone = tiny_backbone()
    before = parameters(backbone)
    with FusedLoras.fuse(backbone.modules(), [(random_lora(modules_of(backbone)), 0.0)]):
        assert same(before, backbone)


def test_what_does_not_fit_is_listed_and_nothing_changes() -> None:
    backbone = tiny_backbone()
    before = parameters(backbone)
    good, bad = (LoraLayer(torch.ones(1, width), torch.ones(32, 1), 1.0) for width in (40, 7))
    lora = Lora({"unet": {TO_K: good, "nowhere.to_k": good, TO_K.replace("to_k", "to_v"): bad}})
    with pytest.raises(AdapterKeyError) as caught:
        FusedLoras.fuse(backbone.modules(), [(lora, 1.0)])
    assert "unet.nowhere.to_k is not there" in str(caught.value)
    assert "to_v is (32, 40) instead of (32, 7)" in str(caught.value)
    with pytest.raises(AdapterKeyError, match="not there"):
        FusedLoras.fuse({"unet": backbone.unet}, [(Lora({"text_encoder": {"x": good}}), 1.0)])
    with pytest.raises(AdapterError, match="strength nan"):
        FusedLoras.fuse(backbone.modules(), [(Lora({"unet": {TO_K: good}}), float("nan"))])
    with pytest.raises(AdapterError, match="not in memory"):
        FusedLoras.fuse({"unet": tiny_backbone().unet.to("meta")}, [(Lora({"unet": {TO_K: good}}), 1.0)])
    assert same(before, backbone)


def test_fusing_may_be_nested_but_not_crossed() -> None:
    backbone = tiny_backbone()
    lora = random_lora(modules_of(backbone))
    before = parameters(backbone)
    with FusedLoras.fuse(backbone.modules(), [(lora, 0.5)]) as outer:
        half = backbone.unet.get_submodule(TO_K).weight
        with FusedLoras.fuse(backbone.modules(), [(lora, 0.5)]) as inner:
            with pytest.raises(AdapterError, match="take those out first"):
                outer.unfuse()
            whole = backbone.unet.get_submodule(TO_K).weight.clone()
        assert backbone.unet.get_submodule(TO_K).weight is half
        inner.unfuse()
    assert same(before, backbone)
    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        torch.testing.assert_close(backbone.unet.get_submodule(TO_K).weight, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fused_first", [True, False])
def test_beside_an_injected_subject_in_any_order(fused_first: bool) -> None:
    backbone = tiny_backbone()
    subject = randomised(backbone)
    subject.eject()
    other = random_lora(modules_of(backbone), rank=1, alpha=0.2)
    mine = Lora.of_unet(from_diffusers(subject.state_dict()), subject.alpha)
    with FusedLoras.fuse(backbone.modules(), [(mine, 1.0), (other, 1.0)]):
        wanted = run_unet(backbone.unet)
    before = parameters(backbone)
    if fused_first:
        with FusedLoras.fuse(backbone.modules(), [(other, 1.0)]), subject.inject(backbone.unet):
            both = run_unet(backbone.unet)
    else:
        with subject.inject(backbone.unet), FusedLoras.fuse(backbone.modules(), [(other, 1.0)]):
            both = run_unet(backbone.unet)
    torch.testing.assert_close(both, wanted, atol=1e-4, rtol=0)
    assert same(before, backbone)


@pytest.mark.parametrize("made_while_fused", [True, False])
def test_the_reference_u_net_goes_on_seeing_the_plain_weights(made_while_fused: bool) -> None:
    """As it did beside an injected subject, whose layers only the main U-Net has."""
    backbone = tiny_backbone()
    lora = random_lora(modules_of(backbone), rank=1, alpha=1.0)

    def refine() -> Refine:
        torch.manual_seed(2)
        return Refine.from_unet(backbone.unet, RefineConfig(feature_width=16), torch.zeros(1, 24))

    def bank(refine: Refine) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        latents, detail = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 17, 16, generator=generator)
        with torch.no_grad():
            return refine.bank(latents, torch.tensor(300), detail, torch.full((1, 6), 64.0))

    plain = refine()
    wanted = bank(plain)
    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        seen = bank(refine() if made_while_fused else plain)
    assert all(torch.equal(one, two) for one, two in zip(seen, wanted, strict=True))


def test_offload_brings_what_the_reference_u_net_has_of_the_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = apply_memory_plan(tiny_backbone(), MemoryPlan("model"))
    refine = Refine.from_unet(backbone.unet, RefineConfig(feature_width=16), torch.zeros(1, 24))
    follow_memory_plan(backbone, refine)
    brought: set[int] = set()

    def moved(values: Tensor, device: Any) -> Tensor:
        if not isinstance(device, str):  # what is parked goes to "cpu"
            brought.add(values.data_ptr())
        return values

    shared = refine.reference.get_submodule("time_embedding.linear_1").weight
    assert shared is backbone.unet.time_embedding.linear_1.weight
    monkeypatch.setattr(offload, "moved", moved)
    with FusedLoras.fuse(backbone.modules(), [(random_lora(modules_of(backbone)), 1.0)]), torch.no_grad():
        refine.bank(torch.zeros(1, 4, 8, 8), torch.tensor(3), torch.zeros(1, 17, 16), torch.zeros(1, 6))
        assert shared is not backbone.unet.time_embedding.linear_1.weight and shared.data_ptr() in brought
