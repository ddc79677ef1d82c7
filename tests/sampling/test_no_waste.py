"""What is computed once, and what is never waited for: counts, not seconds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.conftest_tiny import tiny_backbone
from tests.sampling.helpers import backbone, picture, square_mask

from intarsia.backbones import Backbone
from intarsia.conditioning import empty_conditioning, encode_prompt
from intarsia.sampling import (
    Guidance,
    KnownRegion,
    StageInput,
    denoise,
    draw_noise,
    make_generators,
    make_scheduler,
    plan_stages,
    run_stages,
    set_steps,
    start_latents,
)

STEPS = 6


@contextmanager
def counted(model: Backbone) -> Iterator[Counter[str]]:
    """Calls of each cross-attention's key and value projections, of the U-Net and of the VAE."""
    calls: Counter[str] = Counter()

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    handles = [model.unet.register_forward_hook(count("unet"))]
    for name, module in model.unet.named_modules():
        if name.endswith((".attn2.to_k", ".attn2.to_v")):
            handles.append(module.register_forward_hook(count("projection")))
    for part in ("encoder", "decoder"):
        handles.append(getattr(model.vae, part).register_forward_hook(count(part)))
    for part in ("text_encoder", "text_encoder_2"):
        handles.append(getattr(model, part).register_forward_hook(count("text")))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def painted(model: Backbone, *, remember: bool = True, lam: float = 0.5, **options: Any) -> torch.Tensor:
    image, mask = picture(), square_mask()
    result = run_stages(
        model,
        make_scheduler(model, "dpmpp_2m_sde_karras"),
        plan_stages(STEPS, lam),
        image,
        lambda stage, scene: StageInput(scene, mask),
        lambda stage, scene, new: new,
        positive=encode_prompt(model, "a red mug"),
        negative=empty_conditioning(model),
        generators=make_generators([3]),
        steps=STEPS,
        remember_prompts=remember,
        **options,
    )
    return result.scene


def test_a_prompt_s_keys_and_values_are_computed_once_for_a_picture() -> None:
    model = backbone()
    before = fingerprint(model.unet)
    with counted(model) as with_memory:
        first = painted(model, guidance=Guidance(4.0))
    with counted(model) as without:
        second = painted(model, remember=False, guidance=Guidance(4.0))
    assert torch.equal(first, second)
    layers = sum(name.endswith(".attn2.processor") for name in model.unet.attn_processors)
    assert layers > 1 and with_memory["projection"] == 2 * layers
    assert without["projection"] == 2 * layers * STEPS
    assert with_memory["unet"] == without["unet"] == STEPS
    assert fingerprint(model.unet) == before


def test_other_blocks_of_a_batch_and_other_words_are_computed() -> None:
    """A guided interval has batches of one and of two; the second prompt is another tensor."""
    model = backbone()
    layers = sum(name.endswith(".attn2.processor") for name in model.unet.attn_processors)
    with counted(model) as calls:
        first = painted(model, guidance=Guidance(4.0, interval=(0.0, 0.5)))
    assert calls["projection"] == 2 * 2 * layers
    assert torch.equal(first, painted(model, remember=False, guidance=Guidance(4.0, interval=(0.0, 0.5))))


def test_nothing_is_remembered_after_an_error() -> None:
    model = backbone()
    before = fingerprint(model.unet)

    def stop(*_: Any) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        painted(model, callback=stop)
    assert fingerprint(model.unet) == before


@pytest.mark.parametrize("channels", [9, 4])
def test_the_vae_and_the_towers_are_asked_as_often_as_needed(channels: int) -> None:
    """One stage from the fill: the scene, and for an inpainting model the masked scene; one picture out."""
    model = backbone() if channels == 9 else tiny_backbone(channels=4, image_encoder=False)
    with counted(model) as calls:
        painted(model, lam=1.0, start="fill")
    assert calls["encoder"] == (2 if channels == 9 else 1) and calls["decoder"] == 1
    assert calls["text"] == 2


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_a", "dpmpp_2m_karras", "dpmpp_2m_sde_karras", "unipc"])
def test_no_step_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device nothing can be read back: a number taken from a tensor there is an error."""
    model = backbone()
    prompts = encode_prompt(model, "a red mug"), empty_conditioning(model)
    with torch.device("meta"):
        unet = type(model.unet).from_config(model.unet.config)
    far = replace(model, unet=unet.eval().requires_grad_(False), path=None)
    assert far.device.type == "meta"
    flags: list[bool] = []
    finite = sys.modules[denoise.__module__]._Finite  # type: ignore[attr-defined]
    monkeypatch.setattr(finite, "require", lambda self: flags.append(self._at_once))
    ready = set_steps(make_scheduler(far, name), STEPS)
    generators = make_generators([3])
    mask, clean = square_mask()[..., ::8, ::8].to("meta"), torch.zeros(1, 4, 8, 8, device="meta")
    steps: list[int] = []
    result = denoise(
        far,
        make_scheduler(far, name),
        start_latents(ready, draw_noise(generators, (4, 8, 8), "meta"), clean),
        mask=mask,
        masked_image_latents=clean,
        positive=prompts[0],
        negative=prompts[1],
        generators=generators,
        steps=STEPS,
        guidance=Guidance(4.0, rescale=0.5),
        known=KnownRegion(clean),
        callback=lambda step: steps.append(step["step"]),
    )
    assert result.latents.device.type == "meta" and steps == list(range(STEPS))
    assert flags == [False]
