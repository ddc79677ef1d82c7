from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import FEATURES, WIDTH, fingerprint, inputs, randomised, run, sd15_like, sdxl_like
from torch import Tensor

from intarsia.adapters import AdapterError, Assign, AssignConfig, SubjectLora

CONFIG = AssignConfig(FEATURES, WIDTH, tokens=5, width=12, depth=2, heads=2, head_width=6)


def assign_for(unet: Any) -> Assign:
    adapter: Assign = randomised(Assign.from_unet(unet, CONFIG))
    return adapter.requires_grad_(False)


def tokens(rows: int = 2, seed: int = 5) -> Tensor:
    return torch.randn(rows, CONFIG.tokens, WIDTH, generator=torch.Generator().manual_seed(seed))


def strengths(down: float = 1.0, mid: float = 1.0, up: float = 1.0, rows: int = 2) -> dict[str, Tensor]:
    return {"down": torch.full((rows,), down), "mid": torch.full((rows,), mid), "up": torch.full((rows,), up)}


@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_without_a_reference_nothing_changes_and_eject_leaves_no_trace(make: Any) -> None:
    unet = make()
    before, plain = fingerprint(unet), run(unet)
    assign = assign_for(unet).inject(unet)
    assert assign.injected and list(unet.state_dict()) == before[-1]
    assert torch.equal(run(unet), plain)
    assign.show(tokens())
    assert not torch.allclose(run(unet), plain, atol=1e-3)
    assign.show(None)
    assert torch.equal(run(unet), plain)
    assign.show(tokens())
    assign.eject()
    assert not assign.injected and fingerprint(unet) == before
    assert torch.equal(run(unet), plain)
    assign.inject(unet)
    assert torch.equal(run(unet), plain)  # what was shown before does not come back


def test_it_starts_as_the_words_own_projections() -> None:
    unet = sdxl_like()
    assign = Assign.from_unet(unet, CONFIG)
    assert len(assign.names) == 4 and all(name.endswith(".attn2") for name in assign.names)
    for name, layer in zip(assign.names, assign.layers, strict=True):
        for part in ("to_k", "to_v"):
            mine, theirs = getattr(layer, part).weight, getattr(unet.get_submodule(name), part).weight
            assert torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()


def test_one_layer_is_the_formula() -> None:
    unet = sdxl_like()
    assign = assign_for(unet).inject(unet)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    attention, layer = unet.get_submodule(name), assign.layers[assign.names.index(name)]
    generator = torch.Generator().manual_seed(0)
    x, words = torch.randn(2, 16, 32, generator=generator), torch.randn(2, 12, WIDTH, generator=generator)
    beta = torch.tensor([0.45, 2.0])

    def heads(values: Tensor) -> Tensor:
        return values.view(2, -1, attention.heads, 32 // attention.heads).transpose(1, 2)

    def attend(keys: Tensor, values: Tensor) -> Tensor:
        query = heads(attention.to_q(x))
        weights = (query @ heads(keys).mT / (32 // attention.heads) ** 0.5).softmax(-1)
        return (weights @ heads(values)).transpose(1, 2).flatten(2)

    assign.show(tokens(), {"mid": beta})
    expected = attend(attention.to_k(words), attention.to_v(words))
    expected += beta[:, None, None] * attend(layer.to_k(tokens()), layer.to_v(tokens()))  # type: ignore[operator]
    assert torch.allclose(attention(x, words), attention.to_out[0](expected), atol=1e-5)


def test_strength_zero_is_the_words_alone() -> None:
    unet = sdxl_like()
    plain = run(unet)
    assign = assign_for(unet).inject(unet)
    assign.show(tokens(), strengths(0, 0, 0))
    assert torch.allclose(run(unet), plain, atol=1e-6)


@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
@pytest.mark.parametrize("group", ["down", "mid", "up"])
def test_strength_of_a_block_group_acts_there_alone(make: Any, group: str) -> None:
    unet = make()
    assign = assign_for(unet).inject(unet)
    assign.show(tokens(), strengths(0, 0, 0) | {group: torch.ones(2)})
    there = run(unet)
    others = assign_for(make())  # the same weights, but with nothing to say in the other groups
    with torch.no_grad():
        for name, layer in zip(others.names, others.layers, strict=True):
            if not name.startswith(group):
                layer.to_v.weight.zero_()  # type: ignore[union-attr,operator]
    assign.eject()
    plain = run(unet)
    others.inject(unet).show(tokens())
    assert torch.allclose(there, run(unet), atol=1e-6)
    assert not torch.allclose(there, plain, atol=1e-3)


def test_rows_see_their_own_tokens_with_their_own_strength() -> None:
    unet = sdxl_like()
    assign = assign_for(unet).inject(unet)
    beta = {group: torch.tensor([0.3, 1.5]) for group in ("down", "mid", "up")}
    assign.show(tokens(), beta)
    both = run(unet)
    for row in range(2):
        assign.show(tokens()[row : row + 1], {group: value[row : row + 1] for group, value in beta.items()})
        given = inputs(unet)
        alone = {"sample": given["sample"][row : row + 1], "encoder_hidden_states": None, "added_cond_kwargs": {}}
        alone["encoder_hidden_states"] = given["encoder_hidden_states"][row : row + 1]
        alone["added_cond_kwargs"] = {k: v[row : row + 1] for k, v in given["added_cond_kwargs"].items()}
        assert torch.allclose(run(unet, **alone), both[row : row + 1], atol=1e-5)
    assign.show(tokens() + torch.tensor([0.0, 1.0])[:, None, None], beta)
    other = run(unet)
    assert torch.allclose(other[0], both[0], atol=1e-6) and not torch.allclose(other[1], both[1], atol=1e-3)


def test_a_mask_over_the_words_is_kept() -> None:
    unet = sdxl_like()
    assign = assign_for(unet).inject(unet)
    seen = torch.ones(2, 12, dtype=torch.bool)
    seen[:, 7:] = False
    words = inputs(unet)["encoder_hidden_states"]
    cut = run(unet, encoder_hidden_states=words[:, :7])
    assert torch.allclose(run(unet, encoder_attention_mask=seen), cut, atol=1e-5)
    assign.show(tokens())
    masked, short = run(unet, encoder_attention_mask=seen), run(unet, encoder_hidden_states=words[:, :7])
    assert torch.allclose(masked, short, atol=1e-5) and not torch.allclose(masked, cut, atol=1e-3)


def test_embedding_gives_tokens_and_refuses_other_features() -> None:
    assign = assign_for(sdxl_like())
    features = torch.randn(3, 17, FEATURES, generator=torch.Generator().manual_seed(0))
    assert assign.embed(features).shape == (3, CONFIG.tokens, WIDTH)
    with pytest.raises(AdapterError, match=rf"\(3, 17, {FEATURES + 1}\).*image encoder"):
        assign.embed(torch.zeros(3, 17, FEATURES + 1))
    with pytest.raises(AdapterError, match="do not fit"):
        assign.embed(features[0])


@pytest.mark.parametrize("lora_first", [True, False])
@pytest.mark.parametrize("lora_leaves_first", [True, False])
def test_it_works_beside_a_subject_in_any_order(lora_first: bool, lora_leaves_first: bool) -> None:
    unet = sdxl_like()
    before, plain = fingerprint(unet), run(unet)
    lora, assign = SubjectLora(), assign_for(unet)
    for step in (lora, assign) if lora_first else (assign, lora):
        step.inject(unet)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.fill_(0.05)
    with_lora = run(unet)
    assign.show(tokens())
    with_both = run(unet)
    assert not torch.allclose(with_lora, plain, atol=1e-3) and not torch.allclose(with_both, with_lora, atol=1e-3)
    if lora_leaves_first:
        lora.eject()
        with_assign = run(unet)
        assign.eject()
        again = assign.inject(unet)
        again.show(tokens())
        assert torch.equal(run(unet), with_assign) and not torch.allclose(with_assign, with_both, atol=1e-3)
        again.eject()
    else:
        assign.eject()
        assert torch.equal(run(unet), with_lora)
        lora.eject()
    assert fingerprint(unet) == before and torch.equal(run(unet), plain)


def test_a_second_adapter_is_refused_and_nothing_is_changed() -> None:
    unet = sdxl_like()
    first = assign_for(unet).inject(unet)
    state = fingerprint(unet)
    with pytest.raises(AdapterError, match="already injected"):
        first.inject(unet)
    with pytest.raises(AdapterError, match=r"carries another reference adapter.*eject"):
        assign_for(unet).inject(unet)
    with pytest.raises(AdapterError, match="other names or widths"):
        assign_for(sd15_like()).inject(unet)
    assert fingerprint(unet) == state
    first.eject()
    with pytest.raises(AdapterError, match="nothing to eject"):
        first.eject()


def test_rows_that_do_not_fit_are_one_clear_line() -> None:
    unet = sdxl_like()
    assign = assign_for(unet).inject(unet)
    with pytest.raises(AdapterError, match=r"2 rows.*'up': \(3,\)"):
        assign.show(tokens(), {"up": torch.ones(3)})
    assign.show(tokens(3))
    with pytest.raises(AdapterError, match="3 rows of image tokens are shown to a U-Net call of 2") as caught:
        run(unet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"tokens": 0}, {"width": 2.0}, {"depth": None}, {"unconditional": "black"}])
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(AdapterError, match=next(iter(change))):
        AssignConfig(**{"feature_width": FEATURES, "cross_attention_width": WIDTH} | change)


def test_bfloat16_is_close_to_float32() -> None:
    unet = sdxl_like()
    assign = assign_for(unet)
    assign.inject(unet).show(tokens(), strengths(0.45, 0.45, 0.45))
    exact = run(unet)
    unet.to(torch.bfloat16)
    half = run(unet)  # the adapter's own numbers may be finer than the U-Net's
    assign.to(torch.bfloat16)
    assert half.dtype is run(unet).dtype is torch.bfloat16
    assert (half.float() - exact).abs().max() < 0.1 and (run(unet).float() - exact).abs().max() < 0.1


def test_gradients_reach_the_adapter_alone() -> None:
    unet = sdxl_like()
    assign = Assign.from_unet(unet, CONFIG).requires_grad_(True).inject(unet)
    features = torch.randn(2, 17, FEATURES, generator=torch.Generator().manual_seed(0))
    assign.show(assign.embed(features))
    unet(**inputs(unet)).sample.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in assign.parameters())
    assert all(p.grad is None for p in unet.parameters())
