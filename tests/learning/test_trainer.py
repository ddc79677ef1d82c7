"""One training step taken apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import tiny_backbone
from tests.learning.helpers import some_photos

from intarsia.conditioning import encode_prompt
from intarsia.learning import LearnConfig
from intarsia.learning.bank import Bank, encode_prompts, encode_views
from intarsia.learning.trainer import _Steps
from intarsia.learning.views import View, draw_views

CONFIG = LearnConfig(batch=3, regular_batch=2, windows_per_photo=3, sample_posterior=False)
PROMPTS = ["a photo of a sks duck", "a sks duck", "a red duck"]


def nothing(step: int, total: int) -> None:
    del step, total


def bank(backbone: Any, extra: list[View] | None = None) -> Bank:
    views = draw_views(some_photos(), CONFIG, 64, 16, 0) + (extra or [])
    subject = encode_views(backbone, views, [(0, 1)] * len(views), regular=False, report=nothing)
    regular = encode_views(backbone, views[:2], [(2,)] * 2, regular=True, report=nothing)
    return Bank(subject, regular, encode_prompts(backbone, PROMPTS))


def test_the_bank_holds_what_inference_would_feed() -> None:
    backbone = tiny_backbone()
    view = draw_views(some_photos(), CONFIG, 64, 16, 0)[0]
    sample = encode_views(backbone, [view], [(0,)], regular=False, report=nothing)[0]
    image = torch.from_numpy(view.image).permute(2, 0, 1)[None] * 2 - 1
    hidden = image.clone()
    hidden[:, :, torch.from_numpy(view.mask.copy())] = 0.0
    # Batched and single convolutions may differ in the last bits.
    assert torch.allclose(sample.image, backbone.encode_moments(image)[0], atol=1e-5)
    assert torch.allclose(sample.masked, backbone.encode_moments(hidden)[0], atol=1e-5)
    cells = view.mask.reshape(8, 8, 8, 8).any(axis=(1, 3))
    assert np.array_equal(sample.mask[0].numpy(), cells.astype(np.float32)) and sample.size == (64, 64)
    alone = encode_prompt(backbone, PROMPTS[1])
    assert torch.allclose(encode_prompts(backbone, PROMPTS).tokens[1], alone.tokens[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_steps_loss_is_the_equations_on_the_unets_answer(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    backbone = tiny_backbone(prediction_type=kind)
    samples = bank(backbone)
    calls: list[dict[str, Any]] = []
    forward = backbone.unet.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        calls.append({"x": args[0], "t": args[1], "answer": result.sample, **kwargs})
        return result

    monkeypatch.setattr(backbone.unet, "forward", spy)
    steps = _Steps(backbone, CONFIG)
    generator = torch.Generator().manual_seed(1)
    chosen = steps.draw(samples, generator)
    assert [sample.regular for sample in chosen] == [False] * 3 + [True] * 2
    loss = steps.loss(samples, chosen, generator)
    (call,) = calls
    x, mask, masked = call["x"].split([4, 1, 4], dim=1)
    assert torch.equal(mask, torch.stack([sample.mask for sample in chosen]))
    clean, hidden = (
        backbone.latents_from_moments(torch.stack([getattr(sample, name) for sample in chosen]))
        for name in ("image", "masked")
    )
    assert torch.equal(masked, hidden)
    level = steps.alphas_cumprod[call["t"]].view(-1, 1, 1, 1)
    alpha, sigma = level.sqrt(), (1 - level).sqrt()
    noise = (x - alpha * clean) / sigma
    assert 0.5 < noise.std() < 1.5
    guess = call["answer"] if kind == "epsilon" else alpha * call["answer"] + sigma * x
    weights = torch.where(mask > 0, 1.5, 0.7)
    each = (weights * (noise - guess) ** 2).mean(dim=(1, 2, 3))
    assert loss.item() == pytest.approx((each[:3].mean() + 0.4 * each[3:].mean()).item(), rel=1e-4)
    assert torch.equal(call["added_cond_kwargs"]["time_ids"], torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(5, 1))
    # Subject samples speak with the token, regular ones without.
    tokens = samples.conditioning.tokens
    for row, text in enumerate(call["encoder_hidden_states"]):
        allowed = tokens[2:] if row >= 3 else tokens[:2]
        assert any(torch.equal(text, one) for one in allowed)


def test_windows_of_several_sizes_share_a_batch() -> None:
    backbone = tiny_backbone()
    rng = np.random.default_rng(0)
    mask = np.zeros((48, 80), bool)
    mask[10:30, 20:50] = True
    samples = bank(backbone, [View(rng.random((48, 80, 3)).astype(np.float32), mask, mask)])
    chosen = [samples.subject[0], samples.subject[-1], samples.subject[1]]
    steps = _Steps(backbone, dataclasses.replace(CONFIG, beta=0.0))
    loss = steps.loss(samples, chosen, torch.Generator().manual_seed(0))
    assert loss.isfinite() and loss > 0


def test_timesteps_are_uniform_or_one_per_slice() -> None:
    backbone = tiny_backbone()
    stratified = _Steps(backbone, dataclasses.replace(CONFIG, stratified_timesteps=True))
    uniform = _Steps(backbone, dataclasses.replace(CONFIG, stratified_timesteps=False))
    generator = torch.Generator().manual_seed(0)
    orders = set()
    for _ in range(20):
        drawn = stratified.timesteps(4, generator)
        assert sorted((drawn // 250).tolist()) == [0, 1, 2, 3]
        orders.add(tuple((drawn // 250).tolist()))
    assert len(orders) > 5
    many = uniform.timesteps(4000, generator)
    assert 0 <= many.min() < 10 and 990 <= many.max() <= 999 and abs(many.float().mean() - 500) < 30


def test_the_share_mode_mixes_by_chance() -> None:
    backbone = tiny_backbone()
    samples = bank(backbone)
    steps = _Steps(backbone, dataclasses.replace(CONFIG, prior="share", batch=400))
    drawn = steps.draw(samples, torch.Generator().manual_seed(0))
    assert len(drawn) == 400 and 0.2 < sum(sample.regular for sample in drawn) / 400 < 0.37
