"""Fooocus' inpaint patch: on all of SDXL without its weights, and on small U-Nets against the formula in float64."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.backbones.sdxl_config import SDXL, call, documented_shapes, on_meta, small_inputs, small_unet
from torch import Tensor

from intarsia.adapters import SubjectLora
from intarsia.backbones import BackboneError, expected_patch_keys, load_patch, merge_patch
from intarsia.backbones.fooocus_patch import QuantisedDelta
from intarsia.backbones.ldm_names import from_ldm, ldm_blocks, to_ldm_names

# The patch on SDXL, without its weights


def test_each_documented_key_is_a_parameter_of_sdxl_of_the_same_shape() -> None:
    shapes, unet = documented_shapes(), on_meta(SDXL)
    assert len(shapes) == 960 and sum(key.endswith(".bias") for key in shapes) == 378
    assert sum(map(math.prod, shapes.values())) == 1_316_253_444
    parameters, blocks = dict(unet.named_parameters()), ldm_blocks(unet.config)
    names = {key: from_ldm(key.removeprefix("diffusion_model."), unet.config, blocks) for key in shapes}
    assert [key for key, name in names.items() if name not in parameters] == []
    assert {key: tuple(parameters[name].shape) for key, name in names.items() if name} == shapes
    assert len(set(names.values())) == 960
    assert expected_patch_keys(unet) == set(shapes)
    # The strict merge itself stops at nothing but the weights, which are not there.
    patch = {
        key: QuantisedDelta(torch.empty(shape, dtype=torch.uint8, device="meta"), torch.zeros(()), torch.zeros(()))
        for key, shape in shapes.items()
    }
    with pytest.raises(BackboneError, match="960 such") as caught:
        merge_patch(unet, patch)
    assert "without a parameter" not in str(caught.value)
    weights = {key: value for key, value in patch.items() if key.endswith(".weight")}
    with pytest.raises(BackboneError, match="378 missing: "):
        merge_patch(unet, weights)


# The patch on a small U-Net


def patch_content(unet: Any, seed: int = 0) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """What a file for `unet` holds: ranges per output channel in float16, or one for all."""
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(unet.named_parameters())
    ours = {theirs: name for name, theirs in to_ldm_names(list(parameters), unet.config).items()}
    content = {}
    for number, key in enumerate(sorted(expected_patch_keys(unet))):
        shape = parameters[ours[key.removeprefix("diffusion_model.")]].shape
        ends = (shape[0], *(1 for _ in shape[1:])) if number % 3 else ()
        low = -0.2 * torch.rand(ends, generator=generator) - 0.01
        high = 0.3 * torch.rand(ends, generator=generator) + 0.01
        levels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        content[key] = (levels, low.half(), high.half())
    return content


def save(content: Any, folder: Path) -> Path:
    path = folder / "inpaint_v26.fooocus.patch"
    torch.save(content, path)
    return path


def bits(unet: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in unet.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """To the last bit, signs of zeros too."""
    return one.keys() == other.keys() and all(
        torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8)) for name in one
    )


@pytest.mark.parametrize(
    ("dtype", "strength"),
    [(torch.float32, 1.0), (torch.float32, -0.7), (torch.bfloat16, 1.0), (torch.float16, 1.0), (torch.float16, 0.5)],
)
def test_a_file_merges_to_the_formula_and_comes_out_bit_by_bit(
    tmp_path: Path, dtype: torch.dtype, strength: float
) -> None:
    unet = small_unet().to(dtype)
    before, identity, content = bits(unet), fingerprint(unet), patch_content(unet)
    patch = load_patch(save(content, tmp_path))
    merged = merge_patch(unet, patch, strength)
    after, ours = bits(unet), to_ldm_names(list(before), unet.config)
    for name, value in before.items():
        entry = content.get(f"diffusion_model.{ours[name]}")
        if entry is None:
            assert ".transformer_blocks.4." in name and torch.equal(after[name], value)
            continue
        levels, low, high = (part.double() for part in entry)
        wanted = value.double() + strength * (levels / 255 * (high - low) + low)
        assert after[name].dtype is dtype
        # Half a step of the number format, and float32's own rounding before that.
        assert ((after[name].double() - wanted).abs() <= 0.5001 * step(wanted, dtype) + 1e-7).all(), name
    assert len(merged.names) == len(content) and merged.strength == strength
    assert any(name.endswith("norm1.bias") and not torch.equal(after[name], before[name]) for name in merged.names)
    merged.unmerge()
    assert same(bits(unet), before) and fingerprint(unet)[3:] == identity[3:]
    merge_patch(unet, patch, strength)
    assert same(bits(unet), after), "it can be merged again"


def step(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance of neighbouring numbers of `dtype` at `value`."""
    smallest = torch.finfo(dtype).tiny
    return torch.finfo(dtype).eps * 2 ** torch.floor(torch.log2(value.abs().clamp(min=smallest)))


def test_strength_zero_is_identity() -> None:
    unet = small_unet()
    before = bits(unet)
    merge_patch(unet, read(patch_content(unet)), 0.0)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def read(content: dict[str, tuple[Tensor, Tensor, Tensor]]) -> dict[str, QuantisedDelta]:
    return {key: QuantisedDelta(*value) for key, value in content.items()}


def test_the_whole_difference_counts_and_both_ways_are_the_same_picture() -> None:
    unet, sample = small_unet(), small_inputs(small_unet())["sample"][:, :4]
    plain = call(unet, sample=sample)
    merged = merge_patch(unet, read(patch_content(unet)))
    with SubjectLora(rank=2).inject(unet):  # an adapter on top wraps modules; their parameters stay
        assert not torch.allclose(call(unet, sample=sample), plain, atol=1e-3)
        merged.unmerge()
    assert torch.equal(call(unet, sample=sample), plain)


def test_merging_twice_and_un_merging_twice_are_refused() -> None:
    unet = small_unet()
    patch, before = read(patch_content(unet)), bits(unet)
    merged = merge_patch(unet, patch)
    once = bits(unet)
    with pytest.raises(BackboneError, match="has a patch already"):
        merge_patch(unet, patch)
    other = copy.deepcopy(unet)
    with pytest.raises(BackboneError, match="has a patch already"):
        merge_patch(other, patch)
    assert same(bits(unet), once)
    merged.unmerge()
    with pytest.raises(BackboneError, match="it was before"):
        merged.unmerge()
    assert same(bits(unet), before) and same(bits(other), once)


def test_originals_may_be_dropped() -> None:
    unet, kept = small_unet(), small_unet()
    patch = read(patch_content(unet))
    merge_patch(kept, patch)
    merged = merge_patch(unet, patch, keep_originals=False)
    assert same(bits(unet), bits(kept)) and merged._originals is None
    with pytest.raises(BackboneError, match="keep_originals=False"):
        merged.unmerge()


def test_un_merging_follows_the_u_nets_format_and_refuses_other_parameters() -> None:
    unet = small_unet()
    before = bits(unet.to(torch.bfloat16))
    unet.float()
    merged = merge_patch(unet, read(patch_content(unet)))
    unet.to(torch.bfloat16)
    merged.unmerge()
    assert same(bits(unet), before)
    merged = merge_patch(unet, read(patch_content(unet)))
    unet.conv_out.weight = torch.nn.Parameter(unet.conv_out.weight.detach().clone())
    with pytest.raises(BackboneError, match="other parameters"):
        merged.unmerge()


def test_an_error_in_the_middle_leaves_the_u_net_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, calls = small_unet(), []
    before, patch, real = bits(unet), read(patch_content(unet)), QuantisedDelta.dequantised

    def full_memory(delta: QuantisedDelta, *arguments: Any) -> Tensor:
        calls.append(delta)
        if len(calls) == 50:
            raise MemoryError
        return real(delta, *arguments)

    monkeypatch.setattr(QuantisedDelta, "dequantised", full_memory)
    with pytest.raises(MemoryError):
        merge_patch(unet, patch)
    assert len(calls) == 50 and same(bits(unet), before)
    merge_patch(unet, patch).unmerge()


def test_weights_that_cannot_be_written_are_refused_and_eight_bit_floats_can() -> None:
    with torch.inference_mode():
        fixed = small_unet()
    patch = read(patch_content(fixed))
    with pytest.raises(BackboneError, match=r"such: .*outside of inference_mode"):
        merge_patch(fixed, patch)
    unet = small_unet()
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(torch.float8_e4m3fn)
    before = bits(unet)
    merged = merge_patch(unet, patch)
    assert not same(bits(unet), before)
    merged.unmerge()
    assert same(bits(unet), before)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("drop", r"1 missing: diffusion_model\.out\.2\.bias"),
        ("biases", r"\d+ missing: "),
        ("alien", r"2 without a parameter: diffusion_model\.input_blocks\.99\.0\.in_layers\.2\.weight, out\.2\.weight"),
        ("shape", r"diffusion_model\.out\.2\.bias is \(5,\) instead of \(4,\)"),
        ("strength", "strength is nan"),
        ("adapter", r"to_k\.weight.*without adapters"),
        ("nine", r"input_blocks\.0\.0\.weight is \(4, 4, 3, 3\) instead of \(4, 9, 3, 3\)"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_and_nothing_is_merged(change: str, complaint: str) -> None:
    unet = small_unet()
    patch, key = read(patch_content(unet)), "diffusion_model.out.2.bias"
    if change == "drop":
        del patch[key]
    elif change == "biases":
        patch = {key: value for key, value in patch.items() if key.endswith(".weight")}
    elif change == "alien":
        patch |= {name: patch[key] for name in ("diffusion_model.input_blocks.99.0.in_layers.2.weight", "out.2.weight")}
    elif change == "shape":
        patch[key] = QuantisedDelta(torch.zeros(5, dtype=torch.uint8), torch.tensor(0.0), torch.tensor(1.0))
    elif change == "adapter":
        SubjectLora().inject(unet)
    elif change == "nine":
        unet = small_unet(in_channels=9)
    before = bits(unet)
    with pytest.raises(BackboneError, match=complaint) as caught:
        merge_patch(unet, patch, math.nan if change == "strength" else 1.0)
    assert "\n" not in str(caught.value) and same(bits(unet), before)
    assert not hasattr(unet, "_intarsia_patch")


def test_a_patch_of_more_blocks_is_welcome() -> None:
    """As the 1680 tensors of Fooocus' version 2.5."""
    unet = small_unet()
    patch, weight = read(patch_content(unet)), unet.mid_block.attentions[0].transformer_blocks[4].norm1.weight
    levels = torch.full(weight.shape, 255, dtype=torch.uint8)
    patch["diffusion_model.middle_block.1.transformer_blocks.4.norm1.weight"] = QuantisedDelta(
        levels, torch.tensor(0.0), torch.tensor(0.25)
    )
    merge_patch(unet, patch)
    assert torch.equal(weight, torch.full_like(weight, 1.25))


LEVELS, LOW, HIGH = torch.zeros(4, 3, dtype=torch.uint8), torch.zeros(4, 1), torch.ones(4, 1)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (LEVELS, "x is a Tensor, not three tensors"),
        ((LEVELS, LOW), "x is a tuple, not three"),
        ((LEVELS.float(), LOW, HIGH), "levels of torch.float32, not dense uint8"),
        ((None, LOW, HIGH), "levels of NoneType"),
        ((LEVELS.to_sparse(), LOW, HIGH), "not dense"),
        ((LEVELS, LOW, "1"), "no tensor"),
        ((LEVELS, torch.zeros(3, 1), HIGH), r"range of shape \(3, 1\) for levels \(4, 3\)"),
        ((LEVELS, LOW, torch.ones(1, 4, 3)), r"range of shape \(1, 4, 3\)"),
        ((LEVELS, torch.full((4, 1), math.nan), HIGH), "NaN"),
        ((LEVELS, LOW, torch.full((4, 1), math.inf)), "infinity"),
        ((LEVELS, torch.tensor(-3e38), torch.tensor(3e38)), "wider than float32"),
    ],
)
def test_entries_of_another_kind_are_listed(tmp_path: Path, entry: Any, complaint: str) -> None:
    path = save({"x": entry, "good": (LEVELS, LOW, HIGH), "y": None}, tmp_path)
    with pytest.raises(BackboneError, match=complaint) as caught:
        load_patch(path)
    assert (
        "2 entries" in str(caught.value) and "y is a NoneType" in str(caught.value) and "good" not in str(caught.value)
    )


def test_an_empty_patch_and_the_old_format(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="it is empty"):
        load_patch(save({}, tmp_path))
    torch.save({"x": (LEVELS, 0.0, HIGH)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    found = load_patch(tmp_path / "old")["x"]
    assert torch.equal(found.dequantised(), torch.zeros(4, 3)) and torch.equal(found.high, HIGH)
