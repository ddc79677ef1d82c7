from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.tiny_unets import fingerprint, inputs, run, sd15_like, sdxl_like

from intarsia.adapters import SubjectLora
from intarsia.backbones import BackboneError, widen_for_inpainting


def text_to_image() -> Any:
    """An SDXL-like U-Net that reads latents alone."""
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet: Any = UNet2DConditionModel.from_config(dict(sdxl_like().config) | {"in_channels": 4})
    return unet.eval().requires_grad_(False)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 100.0]))
@settings(max_examples=8, deadline=None)
def test_the_output_is_unchanged_whatever_the_mask_and_the_masked_image_hold(seed: int, scale: float) -> None:
    """To 1e-6: sums over more channels may be rounded in another order."""
    for unet in (text_to_image(), sd15_like()):
        before, shown = run(unet, seed=seed), inputs(unet, seed=seed)
        assert widen_for_inpainting(unet) is unet
        rest = scale * torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(seed))
        after = run(unet, **shown | {"sample": torch.cat([shown["sample"], rest], 1)})
        assert torch.allclose(after, before, atol=1e-6)


def test_new_weights_are_zero_learn_at_once_and_nothing_else_moves() -> None:
    unet = text_to_image().requires_grad_(True)
    weight, bias, rest = unet.conv_in.weight, unet.conv_in.bias, fingerprint(unet)
    widen_for_inpainting(unet)
    assert torch.equal(unet.conv_in.weight[:, :4], weight) and not unet.conv_in.weight[:, 4:].any()
    assert unet.conv_in.bias is bias and unet.conv_in.weight.requires_grad and unet.conv_in.in_channels == 9
    changed = [a[0] for a, b in zip(fingerprint(unet)[1], rest[1], strict=True) if a != b]
    assert changed == ["conv_in.weight"] and fingerprint(unet)[0] == rest[0]
    unet(**inputs(unet)).sample.square().mean().backward()
    gradient = unet.conv_in.weight.grad
    assert (gradient[:, 4:].abs().sum((0, 2, 3)) > 0).all()


def test_it_can_be_saved_and_loaded(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    unet = widen_for_inpainting(text_to_image().to(torch.bfloat16))
    assert unet.conv_in.weight.dtype is torch.bfloat16 and not unet.conv_in.weight.requires_grad
    unet = unet.float()
    assert unet.config.in_channels == 9
    unet.save_pretrained(tmp_path)
    loaded: Any = UNet2DConditionModel.from_pretrained(tmp_path).eval()
    assert torch.equal(run(loaded), run(unet))


def test_an_inpainting_u_net_is_left_alone() -> None:
    unet = sdxl_like()
    before = fingerprint(unet)
    assert widen_for_inpainting(unet) is unet and fingerprint(unet) == before


def test_others_are_refused_and_left_alone() -> None:
    unet = sd15_like(in_channels=8)
    before = fingerprint(unet)
    with pytest.raises(BackboneError, match=r"takes 8 channels.*4 .*or 9") as caught:
        widen_for_inpainting(unet)
    assert "\n" not in str(caught.value) and fingerprint(unet) == before
    wrapped = sd15_like()
    wrapped.conv_in = torch.nn.Sequential(wrapped.conv_in)
    with pytest.raises(BackboneError, match=r"conv_in is a Sequential.*eject"):
        widen_for_inpainting(wrapped)


def test_a_subject_in_the_u_net_is_no_obstacle() -> None:
    unet = text_to_image()
    lora = SubjectLora().inject(unet)
    widen_for_inpainting(unet)
    lora.eject()
    assert run(unet).shape == (2, 4, 8, 8)
