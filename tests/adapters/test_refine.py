from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import FEATURES, WIDTH, fingerprint, inputs, randomised, run, sd15_like, sdxl_like
from torch import Tensor, nn

from intarsia.adapters import AdapterError, AdapterKeyError, Assign, AssignConfig, Refine, RefineConfig, SubjectLora

Bank = tuple[Tensor, ...]


def normal(*shape: int, seed: int = 11) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def refine_for(unet: Any, trains: Any = "attention", *, moved: bool = True) -> Refine:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        refine = Refine.from_unet(unet, RefineConfig(FEATURES, trains), normal(1, 24))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in refine.own_parameters() if moved else refine.detail.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return refine.eval()


def bank_of(refine: Refine, count: int = 2, size: tuple[int, int] = (8, 8), seed: int = 4) -> Bank:
    latents, detail = normal(count, 4, *size, seed=seed), normal(count, 17, FEATURES, seed=seed + 1)
    with torch.no_grad():
        return refine.bank(latents, torch.tensor(500), detail, torch.full((count, 6), 64.0))


def half_mask(count: int = 2, size: tuple[int, int] = (8, 8)) -> Tensor:
    mask = torch.zeros(count, 1, *size)
    mask[..., : size[1] // 2] = 1
    return mask


@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_without_a_reference_nothing_changes_and_eject_leaves_no_trace(make: Any) -> None:
    unet = make()
    before, plain = fingerprint(unet), run(unet)
    refine = refine_for(unet)
    assert fingerprint(unet) == before  # sharing its parameters does not touch them
    bank = bank_of(refine)
    refine.inject(unet)
    assert list(unet.state_dict()) == before[-1] and torch.equal(run(unet), plain)
    refine.show(bank)
    assert not torch.allclose(run(unet), plain, atol=1e-3)
    refine.show(None)
    assert torch.equal(run(unet), plain)
    refine.show(bank, mask=half_mask())
    refine.eject()
    assert not refine.injected and fingerprint(unet) == before and torch.equal(run(unet), plain)
    refine.inject(unet)
    assert torch.equal(run(unet), plain)


@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_banks_pair_with_the_decoders_self_attentions(make: Any) -> None:
    unet = make()
    refine = refine_for(unet)
    assert refine.names == tuple(
        n.removesuffix(".processor") for n in unet.attn_processors if n.startswith("up") and ".attn1." in n
    )
    shapes: list[tuple[int, ...]] = []
    for name in refine.names:
        unet.get_submodule(name).register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    run(unet)
    assert [tuple(tokens.shape) for tokens in bank_of(refine)] == shapes


def test_an_untrained_bank_is_what_the_main_u_net_sees() -> None:
    """Before training, and fed the same things, the copy's tokens are the main U-Net's own."""
    unet = sd15_like()  # four channels and no size conditioning: the same inputs
    refine = refine_for(unet, moved=False)
    seen: list[Tensor] = []
    for name in refine.names:
        unet.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    detail = normal(2, 17, FEATURES)
    sample = normal(2, 4, 8, 8, seed=3)
    bank = refine.bank(sample, torch.tensor(300), detail, torch.zeros(2, 6))
    run(unet, sample=sample, timestep=torch.tensor(300), encoder_hidden_states=refine.detail(detail))
    assert len(bank) == len(seen) and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(bank, seen, strict=True))


@pytest.mark.parametrize("trains", ["cross_attention", "attention", "all"])
@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_own_parameters_are_trained_and_all_others_are_the_main_u_nets(make: Any, trains: Any) -> None:
    unet = make().requires_grad_(False)
    refine = refine_for(unet, trains)
    theirs = dict(unet.named_parameters())
    own = set(refine.own)
    for name, value in refine.reference.named_parameters():
        assert (value is theirs[name]) == (name not in own), name
    assert "conv_in.weight" in own and refine.reference.conv_in.weight.shape[1] == 4
    if trains == "cross_attention":
        assert all(".attn2." in name or name.startswith("conv_in.") for name in own)
    if trains == "attention":
        assert any("mid_block.attentions" in name for name in own) and not any("resnets" in name for name in own)
    latents, detail = normal(2, 4, 8, 8), normal(2, 17, FEATURES)
    refine.inject(unet).show(refine.bank(latents, torch.tensor(500), detail, torch.full((2, 6), 64.0)))
    unet(**inputs(unet)).sample.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in refine.own_parameters())
    assert all(p.grad is None for p in unet.parameters())
    trained = {id(p) for p in refine.own_parameters()}
    assert all(id(p) in trained for p in refine.parameters() if p.requires_grad)


def test_it_ends_after_its_last_attention_block() -> None:
    unet = sdxl_like()  # its last decoder level has no attention
    refine = refine_for(unet, "all")
    reference = refine.reference
    assert len(reference.up_blocks) == 1 < len(unet.up_blocks)
    assert reference.up_blocks[-1].upsamplers is None and unet.up_blocks[0].upsamplers is not None
    assert isinstance(reference.conv_out, nn.Identity) and reference.conv_norm_out is None
    last = refine.names[-1].removesuffix(".attn1")
    dead = {n for n, _ in unet.named_parameters() if n.startswith(last) and not n.startswith(f"{last}.norm1")}
    dead |= {n for n, _ in unet.named_parameters() if n.startswith(last.split(".transformer")[0] + ".proj_out")}
    shared = {name for name, _ in reference.named_parameters()} - set(refine.own)
    assert dead and shared == dead
    gone = {n.rpartition(".")[0] for n, _ in unet.named_parameters()} - {
        n.rpartition(".")[0] for n, _ in reference.named_parameters()
    }
    assert all(n.startswith(("up_blocks.0.upsamplers", "up_blocks.1", "conv_norm_out", "conv_out")) for n in gone)
    all_levels = refine_for(sd15_like())
    assert len(all_levels.reference.up_blocks) == 3


def attend_by_hand(attention: Any, tokens: Tensor, reference: Tensor, strength: Tensor, seen: Tensor) -> Tensor:
    """W_o · softmax(q kᵀ / √d + log s) v, with k and v of [tokens ; reference] and s = 1 for the tokens themselves,
    the reference's strength where it is seen and 0 where it is not."""
    rows, count, width = tokens.shape
    context = torch.cat([tokens, reference], 1)
    weight = torch.cat([torch.ones(rows, count), strength[:, None] * seen], 1)
    size = width // attention.heads

    def heads(values: Tensor) -> Tensor:
        return values.view(rows, -1, attention.heads, size).transpose(1, 2)

    query, keys, values = (
        heads(part) for part in (attention.to_q(tokens), attention.to_k(context), attention.to_v(context))
    )
    powers = (query @ keys.mT / size**0.5).exp() * weight[:, None, None]
    attended = powers / powers.sum(-1, keepdim=True) @ values
    result: Tensor = attention.to_out[0](attended.transpose(1, 2).flatten(2))
    return result


def test_one_layer_is_the_formula() -> None:
    unet = sdxl_like()
    refine = refine_for(unet)
    bank = bank_of(refine, 2)
    refine.inject(unet)
    attention = unet.get_submodule(refine.names[0])
    tokens = normal(4, 20, bank[0].shape[-1])
    rows = bank[0].repeat(2, 1, 1)  # row r reads reference r mod N
    everything = torch.ones(4, bank[0].shape[1])
    refine.show(bank)
    expected = attend_by_hand(attention, tokens, rows, torch.ones(4), everything)
    assert torch.allclose(attention(tokens), expected, atol=1e-5)
    strength, mask = torch.tensor([0.0, 0.3, 0.7, 1.0]), half_mask()
    mask[1] = 1 - mask[1]
    seen = nn.functional.max_pool2d(mask, 2).flatten(1).repeat(2, 1)  # the layer is at half the latent's size
    refine.show(bank, mask=mask, strength=strength)
    expected = attend_by_hand(attention, tokens, rows, strength, seen)
    assert torch.allclose(attention(tokens), expected, atol=1e-5)
    refine.show(bank, mask=mask)
    expected = attend_by_hand(attention, tokens, rows, torch.ones(4), seen)
    assert torch.allclose(attention(tokens), expected, atol=1e-5)


def test_strength_zero_is_without_and_one_is_the_papers() -> None:
    unet = sdxl_like()
    plain = run(unet)
    refine = refine_for(unet).inject(unet)
    bank = bank_of(refine)
    refine.show(bank)
    paper = run(unet)
    refine.show(bank, strength=torch.zeros(2))
    assert torch.allclose(run(unet), plain, atol=1e-6)
    refine.show(bank, strength=torch.ones(2))
    assert torch.allclose(run(unet), paper, atol=1e-6)
    distances = []
    for strength in (0.25, 0.5, 0.75):
        refine.show(bank, strength=torch.full((2,), strength))
        distances.append(float((run(unet) - plain).norm()))
    assert 0 < distances[0] < distances[1] < distances[2] < float((paper - plain).norm())
    refine.show(bank, strength=torch.tensor([0.0, 1.0]))
    mixed = run(unet)
    assert torch.allclose(mixed[0], plain[0], atol=1e-6) and torch.allclose(mixed[1], paper[1], atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (7, 9)])
@pytest.mark.parametrize("strength", [None, 0.6])
def test_the_paddings_tokens_are_never_read(size: tuple[int, int], strength: float | None) -> None:
    """Also where the reference is not square, of odd sides, or of another size than the scene."""
    unet = sd15_like()
    refine = refine_for(unet).inject(unet)
    bank, mask = bank_of(refine, 2, size), half_mask(2, size)
    each = None if strength is None else torch.full((2,), strength)
    spoilt = []
    for tokens in bank:
        level = next(k for k in range(3) if -(-size[0] // 2**k) * -(-size[1] // 2**k) == tokens.shape[1])
        h, w = -(-size[0] // 2**level), -(-size[1] // 2**level)
        padding = nn.functional.adaptive_max_pool2d(mask, (h, w)).flatten(1) == 0
        assert padding.any() and not padding.all()
        spoilt.append(tokens + 100 * padding[..., None])
    refine.show(bank, mask=mask, strength=each)
    clean = run(unet)
    refine.show(tuple(spoilt), mask=mask, strength=each)
    assert torch.equal(run(unet), clean)
    refine.show(tuple(spoilt), strength=each)
    assert not torch.allclose(run(unet), clean, atol=1e-3)


def test_an_empty_mask_is_no_reference() -> None:
    unet = sdxl_like()
    plain = run(unet)
    refine = refine_for(unet).inject(unet)
    refine.show(bank_of(refine), mask=torch.zeros(2, 1, 8, 8))
    assert torch.allclose(run(unet), plain, atol=1e-6)


def test_several_references_of_a_sample_stand_side_by_side() -> None:
    """Tokens joined along their axis, masks below one another, as the guide of references does."""
    unet = sdxl_like()
    refine = refine_for(unet).inject(unet)
    both = tuple(tokens.reshape(1, -1, tokens.shape[-1]) for tokens in bank_of(refine, 2))
    first = tuple(tokens[:1] for tokens in bank_of(refine, 2))
    mask = torch.cat([torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)], 2)
    refine.show(first)
    alone = run(unet)
    refine.show(both, mask=mask, strength=torch.ones(2))
    assert torch.allclose(run(unet), alone, atol=1e-6)
    refine.show(both)
    assert not torch.allclose(run(unet), alone, atol=1e-3)


def test_guidance_halves_share_the_references() -> None:
    unet = sdxl_like()
    refine = refine_for(unet).inject(unet)
    bank = bank_of(refine, 2)
    refine.show(bank, mask=half_mask())
    four = run(unet, 4)
    refine.show(tuple(torch.cat([tokens, tokens]) for tokens in bank), mask=torch.cat([half_mask()] * 2))
    assert torch.allclose(run(unet, 4), four, atol=1e-6)
    alone = inputs(unet, 4)
    added = {key: value[3:] for key, value in alone["added_cond_kwargs"].items()}
    refine.show(tuple(tokens[1:] for tokens in bank), mask=half_mask(1))
    words = alone["encoder_hidden_states"][3:]
    last = run(unet, sample=alone["sample"][3:], encoder_hidden_states=words, added_cond_kwargs=added)
    assert torch.allclose(last, four[3:], atol=1e-5)


def test_own_state_goes_round_and_lists_what_does_not_fit() -> None:
    unet = sdxl_like()
    first, second = refine_for(unet), refine_for(unet, moved=False)
    state = {key: value.clone() for key, value in first.own_state().items()}
    shared = fingerprint(unet)
    assert not all(torch.equal(value, state[key]) for key, value in second.own_state().items())
    second.load_own_state(state)
    assert all(torch.equal(value, state[key]) for key, value in second.own_state().items())
    assert all(torch.equal(a, b) for a, b in zip(bank_of(first), bank_of(second), strict=True))
    assert fingerprint(unet) == shared
    del state["null_pooled"]
    state |= {"reference.conv_in.bias": torch.zeros(3), "extra": torch.zeros(1)}
    with pytest.raises(AdapterKeyError) as caught:
        second.load_own_state(state)
    message = str(caught.value)
    assert "1 missing: null_pooled" in message and "1 unused: extra" in message and "\n" not in message
    assert "reference.conv_in.bias is (3,) instead of (16,)" in message


@pytest.mark.parametrize("lora_first", [True, False])
@pytest.mark.parametrize("lora_leaves_first", [True, False])
def test_it_works_beside_a_subject_and_assign_in_any_order(lora_first: bool, lora_leaves_first: bool) -> None:
    unet = sdxl_like()
    before, plain = fingerprint(unet), run(unet)
    refine, lora = refine_for(unet), SubjectLora()
    bank = bank_of(refine)
    assign: Assign = randomised(Assign.from_unet(unet, AssignConfig(FEATURES, WIDTH, tokens=3, width=8, heads=1)))
    for step in (lora, assign, refine) if lora_first else (refine, assign, lora):
        step.inject(unet)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.fill_(0.05)
    # The reference U-Net keeps what it shares, and does not see the subject.
    assert all(torch.equal(a, b) for a, b in zip(bank_of(refine), bank, strict=True))
    with_lora = run(unet)
    refine.show(bank, mask=half_mask())
    assign.show(normal(2, 3, WIDTH))
    assert not torch.allclose(run(unet), with_lora, atol=1e-3)
    for step in (lora, refine, assign) if lora_leaves_first else (assign, refine, lora):
        step.eject()
    assert fingerprint(unet) == before and torch.equal(run(unet), plain)


def test_it_can_be_made_while_a_subject_is_in_the_u_net() -> None:
    unet = sdxl_like()
    plain = bank_of(refine_for(unet))
    lora = SubjectLora().inject(unet)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.fill_(0.05)
    refine = refine_for(unet)
    assert all(torch.equal(a, b) for a, b in zip(bank_of(refine), plain, strict=True))
    lora.eject()
    assert all(value is unet.get_parameter(name) for name, value in refine.reference.named_parameters()
               if name not in refine.own)  # fmt: skip


def test_a_wrong_host_is_refused_and_nothing_is_changed() -> None:
    unet = sdxl_like()
    refine = refine_for(unet).inject(unet)
    state = fingerprint(unet)
    with pytest.raises(AdapterError, match="already injected"):
        refine.inject(unet)
    with pytest.raises(AdapterError, match=r"carries another reference adapter.*eject"):
        refine_for(unet).inject(unet)
    with pytest.raises(AdapterError, match="decoder is not the adapter's"):
        refine_for(sd15_like()).inject(unet)
    wider = sd15_like(block_out_channels=(8, 16, 24))
    narrow = refine_for(sd15_like(block_out_channels=(8, 24, 24)))
    assert narrow.names == refine_for(wider).names
    with pytest.raises(AdapterError, match="decoder is not the adapter's"):
        narrow.inject(wider)
    assert fingerprint(unet) == state
    refine.eject()
    with pytest.raises(AdapterError, match="nothing to eject"):
        refine.eject()
    bare = sd15_like(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    with pytest.raises(AdapterError, match="no self-attention in its decoder"):
        refine_for(bare)
    with pytest.raises(AdapterError, match="trains 'resnets'"):
        RefineConfig(FEATURES, "resnets")  # type: ignore[arg-type]
    for timestep in (-1, 1000, 0.5):
        with pytest.raises(AdapterError, match=f"clean_timestep {timestep} is no timestep"):
            RefineConfig(FEATURES, clean_timestep=timestep)  # type: ignore[arg-type]


def test_what_does_not_belong_together_is_one_clear_line() -> None:
    unet = sdxl_like()
    refine = refine_for(unet).inject(unet)
    bank, plain = bank_of(refine), run(unet)
    with pytest.raises(AdapterError, match="3 subject masks do not fit 2 references"):
        refine.show(bank, mask=half_mask(3))
    with pytest.raises(AdapterError, match=r"strengths \(3,\) do not fit 2 references"):
        refine.show(bank, strength=torch.ones(3))
    with pytest.raises(AdapterError, match=r"8x9 cells has no level of 16 tokens"):
        refine.show(bank, mask=half_mask(2, (8, 9)))
    assert torch.equal(run(unet), plain)  # nothing is shown after an error
    refine.show(bank)
    with pytest.raises(AdapterError, match="2 rows of a reference are shown to a U-Net call of 3"):
        run(unet, 3)
    refine.show(bank, strength=torch.ones(4))
    with pytest.raises(AdapterError, match="4 rows of a reference are shown to a U-Net call of 2"):
        run(unet, 2)


def test_bfloat16_keeps_the_bias() -> None:
    unet = sdxl_like()
    refine = refine_for(unet).inject(unet)
    strength = torch.tensor([0.0, 0.5])
    refine.show(bank_of(refine), mask=half_mask(), strength=strength)
    exact = run(unet)
    unet.to(torch.bfloat16)
    plain = run(unet)
    refine.eject()
    half = refine_for(unet).inject(unet)
    assert half.detail.weight.dtype is torch.bfloat16
    bank = bank_of(half)  # float32 latents and features are cast
    assert bank[0].dtype is torch.bfloat16
    half.show(bank, mask=half_mask(), strength=strength)
    shown = run(unet)
    assert shown.dtype is torch.bfloat16 and shown.isfinite().all() and plain.isfinite().all()
    assert (shown.float() - exact).abs().max() < 0.15
    with torch.autocast("cpu", torch.bfloat16):
        fine = sdxl_like()
        other = refine_for(fine).inject(fine)
        other.show(bank_of(other), mask=half_mask(), strength=strength)
        assert (run(fine).float() - exact).abs().max() < 0.15


def test_the_reference_u_net_sees_its_detail_its_time_and_no_words() -> None:
    unet = sdxl_like()
    refine = refine_for(unet)
    latents, detail, ids = normal(1, 4, 8, 8), normal(1, 17, FEATURES), torch.full((1, 6), 64.0)
    with torch.no_grad():
        bank = refine.bank(latents, torch.tensor(500), detail, ids)
        again = refine.bank(latents, torch.tensor([500]), detail, ids)
        later = refine.bank(latents, torch.tensor(0), detail, ids)
        other = refine.bank(latents, torch.tensor(500), detail + 1, ids)
        assert all(torch.equal(a, b) for a, b in zip(bank, again, strict=True))
        refine.null_pooled += 1  # type: ignore[operator]
        spoken = refine.bank(latents, torch.tensor(500), detail, ids)
    for changed in (later, other, spoken):
        assert not torch.allclose(changed[-1], bank[-1], atol=1e-4)
    assert "null_pooled" in refine.state_dict() and "null_pooled" in refine.own_state()
