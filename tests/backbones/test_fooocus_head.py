"""Fooocus' inpaint head against a convolution written here, and the files of tensors it comes in."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.backbones.sdxl_config import call, small_inputs, small_unet
from torch.nn import functional

from intarsia.adapters import SubjectLora
from intarsia.backbones import (
    FOOOCUS_FILES,
    BackboneError,
    InpaintHead,
    head_of,
    load_head,
    load_patch,
    widen_for_inpainting,
)


def random_head(out: int = 4, dtype: torch.dtype = torch.float32) -> InpaintHead:
    return InpaintHead(torch.randn(out, 5, 3, 3, generator=torch.Generator().manual_seed(5)).to(dtype))


# The head


def test_the_heads_output_is_a_plain_convolution() -> None:
    head, feed = random_head(), torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    wanted = functional.conv2d(functional.pad(feed, (1, 1, 1, 1), mode="replicate"), head.weight)
    assert torch.equal(head(feed), wanted)
    # By hand, in float64: the corner, and a cell at the right border.
    for row, column in ((0, 0), (3, 6)):
        total = torch.zeros(2, 4, dtype=torch.float64)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                cell = feed[:, :, min(max(row + down, 0), 5), min(max(column + right, 0), 6)].double()
                total += cell @ head.weight[:, :, down + 1, right + 1].double().T
        assert torch.allclose(head(feed)[:, :, row, column].double(), total, atol=1e-5)


def test_the_u_net_takes_nine_channels_and_adds_the_head_to_its_first_convolution() -> None:
    unet, head = small_unet(), random_head()
    sample = small_inputs(unet)["sample"]
    added = functional.conv2d(functional.pad(sample[:, 4:], (1, 1, 1, 1), mode="replicate"), head.weight)
    handle = unet.conv_in.register_forward_hook(lambda conv, given, output: output + added)
    wanted = call(unet, sample=sample[:, :4])
    handle.remove()
    plain = call(unet, sample=sample[:, :4])
    assert head.inject(unet) is head and head_of(unet) is head and head.injected
    assert torch.equal(call(unet), wanted) and not torch.allclose(wanted, plain, atol=1e-3)
    # Rows do not see each other, and their number may change from call to call.
    rows = {key: small_inputs(unet)[key][:1] for key in ("sample", "encoder_hidden_states")}
    size = {key: value[:1] for key, value in small_inputs(unet)["added_cond_kwargs"].items()}
    assert torch.allclose(call(unet, **rows, added_cond_kwargs=size), wanted[:1], atol=1e-5)


def test_ejecting_leaves_nothing_behind() -> None:
    unet, head = small_unet(), random_head()
    before, plain = fingerprint(unet), call(unet, sample=small_inputs(unet)["sample"][:, :4])
    head.inject(unet)
    call(unet)
    assert fingerprint(unet) == before and unet.config.in_channels == 4
    head.eject()
    assert fingerprint(unet) == before and head_of(unet) is None
    assert not unet.conv_in._forward_hooks and not unet.conv_in._forward_pre_hooks
    assert torch.equal(call(unet, sample=small_inputs(unet)["sample"][:, :4]), plain)
    with pytest.raises(BackboneError, match="nothing to eject"):
        head.eject()
    head.inject(small_unet())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_format_and_device_are_the_u_nets(dtype: torch.dtype) -> None:
    unet, head = small_unet(), random_head(dtype=torch.float16)
    head.inject(unet)
    assert call(unet).dtype is torch.float32
    unet.to(dtype)
    sample = small_inputs(unet)["sample"]
    assert unet.conv_in(sample).dtype is dtype
    ready = head._ready
    assert ready.dtype is dtype and head.weight.dtype is torch.float16
    unet.conv_in(sample)
    assert head._ready is ready, "the weight is cast once, not at every step"
    unet.to("meta")
    assert unet.conv_in(sample.to("meta")).device.type == "meta"


def test_autocast_computes_the_head_in_its_own_format() -> None:
    unet, head = small_unet(), random_head()
    head.inject(unet)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert unet.conv_in(small_inputs(unet)["sample"]).dtype is torch.bfloat16


def test_a_deep_copy_has_a_head_of_its_own() -> None:
    unet, head = small_unet(), random_head()
    head.inject(unet)
    wanted, other = call(unet), copy.deepcopy(unet)
    twin = head_of(other)
    assert twin is not None and twin is not head and torch.equal(call(other), wanted)
    twin.weight.zero_()
    assert torch.equal(call(unet), wanted)
    twin.eject()
    assert head_of(other) is None and head_of(unet) is head and torch.equal(call(unet), wanted)


def test_a_subject_is_learned_through_it_with_and_without_checkpoints() -> None:
    unet, head = small_unet(), random_head(dtype=torch.float16)
    head.inject(unet)
    with torch.inference_mode():  # what a picture leaves behind must not spoil the training after it
        unet(**small_inputs(unet))
    lora = SubjectLora(rank=2).inject(unet)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.add_(0.1)
    found = []
    for checkpoints in (False, True):
        if checkpoints:
            unet.enable_gradient_checkpointing()
            unet.train()
        inputs = small_inputs(unet)
        inputs["sample"].requires_grad_(True)
        unet(**inputs).sample.square().sum().backward()
        found.append([inputs["sample"].grad, *(parameter.grad for parameter in lora.trainable_parameters())])
        for parameter in lora.trainable_parameters():
            parameter.grad = None
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*found, strict=True))
    assert found[0][0][:, 4:].abs().sum() > 0 and all(gradient.abs().sum() > 0 for gradient in found[0][1:])
    assert head.weight.grad is None and not head.weight.requires_grad
    lora.eject()
    assert head_of(unet) is head


def test_it_survives_compilation() -> None:
    unet, head = small_unet(), random_head()
    sample = small_inputs(unet)["sample"]
    head.inject(unet)
    with torch.no_grad():
        compiled = torch.compile(unet.conv_in, backend="eager", fullgraph=True)
        assert torch.equal(compiled(sample), unet.conv_in(sample))


def test_what_a_head_does_not_fit_is_refused() -> None:
    unet, head = small_unet(), random_head()
    head.inject(unet)
    with pytest.raises(BackboneError, match="is in a U-Net already"):
        head.inject(small_unet())
    with pytest.raises(BackboneError, match="has an inpaint head already"):
        random_head().inject(unet)
    with pytest.raises(BackboneError, match=r"takes 9 channels .*, not 4"):
        call(unet, sample=small_inputs(unet)["sample"][:, :4])
    with pytest.raises(BackboneError, match="inpaint head: eject it"):
        widen_for_inpainting(unet)
    for channels in (8, 9):
        with pytest.raises(BackboneError, match=f"takes {channels} channels"):
            random_head().inject(small_unet(in_channels=channels))
    with pytest.raises(BackboneError, match=r"\(8, 5, 3, 3\).*needs \(4, 5, 3, 3\)"):
        random_head(8).inject(small_unet())
    wrapped = small_unet()
    wrapped.conv_in = torch.nn.Sequential(wrapped.conv_in)
    with pytest.raises(BackboneError, match="conv_in is a Sequential"):
        random_head().inject(wrapped)
    assert not wrapped.conv_in[0]._forward_hooks
    unet.conv_in = torch.nn.Sequential(unet.conv_in)
    assert head_of(unet) is head


# The head's file


def test_a_head_is_read_from_both_formats(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    wide = torch.randn(320, 9, 3, 3, generator=torch.Generator().manual_seed(0)).half()
    view = wide[:, 4:]
    assert not view.is_contiguous()
    pickled, safe = tmp_path / "fooocus_inpaint_head.pth", tmp_path / "head.safetensors"
    torch.save({"head": view}, pickled)
    assert abs(pickled.stat().st_size - FOOOCUS_FILES[pickled.name].bytes) < 2000, "the published file is such a view"
    save_file({"head": view.contiguous()}, safe)
    for path in (pickled, safe):
        head = load_head(path)
        assert torch.equal(head.weight, view) and head.weight.dtype is torch.float16
        assert head.weight.is_contiguous() and head.weight.untyped_storage().nbytes() == 320 * 5 * 9 * 2


class Code:
    """What a hostile pickle is: to read it is to call something."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("load", [load_head, load_patch])
def test_pickles_that_would_run_code_are_refused_and_not_run(tmp_path: Path, load: Any) -> None:
    target = tmp_path / "executed"
    torch.save({"head": Code(target)}, tmp_path / "zip.pth")
    torch.save({"head": Code(target)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("zip.pth", "old.pth"):
        with pytest.raises(BackboneError, match="would run code") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("load", [load_head, load_patch])
def test_broken_files_are_refused(tmp_path: Path, load: Any) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"head": torch.zeros(320, 5, 3, 3)}, whole)
    cut, empty, words, listed = (tmp_path / f"{name}.pth" for name in ("cut", "empty", "words", "listed"))
    cut.write_bytes(whole.read_bytes()[:20_000])
    empty.write_bytes(b"")
    words.write_text("not here: 404")
    for path in (cut, empty, words, tmp_path):
        with pytest.raises(BackboneError, match=r"not a whole file|is missing") as caught:
            load(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(BackboneError, match="not a whole file"):
        load(tmp_path / "cut.safetensors")
    with pytest.raises(BackboneError, match=r"nowhere\.pth is missing"):
        load(tmp_path / "nowhere.pth")
    torch.save([torch.zeros(1)], listed)
    with pytest.raises(BackboneError, match="holds a list"):
        load(listed)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"body": torch.zeros(320, 5, 3, 3)}, "holds body"),
        ({}, "holds nothing"),
        ({"head": torch.zeros(320, 5, 3, 3), "more": torch.zeros(1)}, "holds head, more"),
        ({"head": [1.0]}, "one tensor named 'head'"),
        ({"head": torch.zeros(320, 5, 3)}, r"not torch.float32 of shape \(320, 5, 3\)"),
        ({"head": torch.zeros(320, 5, 1, 1)}, r"of shape \(320, 5, 1, 1\)"),
        ({"head": torch.zeros(320, 5, 3, 3, dtype=torch.uint8)}, "not torch.uint8"),
        ({"head": torch.full((320, 5, 3, 3), math.nan)}, "NaN"),
        ({"head": torch.zeros(320, 5, 3, 3).to_sparse()}, "dense"),
    ],
)
def test_other_heads_are_refused(tmp_path: Path, content: dict[str, Any], complaint: str) -> None:
    torch.save(content, tmp_path / "head.pth")
    with pytest.raises(BackboneError, match=complaint) as caught:
        load_head(tmp_path / "head.pth")
    assert "head.pth" in str(caught.value)
