"""Eq. 7 and 8 against numbers worked out by hand, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intarsia.learning import LearningError
from intarsia.learning.loss import Noised, predicted_noise, prediction_error, reweighted, total_loss


def noised(seed: int = 0, batch: int = 3) -> Noised:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, batch, 4, 2, 2, generator=generator, dtype=torch.float64)
    share = torch.rand(batch, 1, 1, 1, generator=generator, dtype=torch.float64) * 0.9 + 0.05
    return Noised(clean, noise, share.sqrt(), (1 - share).sqrt())


def test_equation_7_by_hand() -> None:
    error = torch.tensor([[[[2.0, 1.0], [0.0, 3.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])
    # (1.5·4 + 0.7·1 + 0.7·0 + 1.5·9) / 4 and (3·0.7 + 1.5) / 4; squared weights would give 7.4225 and 0.93
    assert torch.allclose(reweighted(error, mask, 1.5, 0.7), torch.tensor([5.05, 0.9]))


def test_equation_7_counts_every_channel() -> None:
    error, mask = torch.ones(1, 4, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert reweighted(error, mask, 1.5, 0.7).item() == pytest.approx(1.1)


def test_equation_8_by_hand() -> None:
    losses = torch.tensor([1.0, 3.0, 10.0])
    regular = torch.tensor([False, False, True])
    assert total_loss(losses, regular, 0.4).item() == pytest.approx(2.0 + 0.4 * 10.0)
    assert total_loss(losses, regular, None).item() == pytest.approx(14 / 3)
    assert total_loss(losses, torch.zeros(3, dtype=torch.bool), 0.4).item() == pytest.approx(14 / 3)
    assert total_loss(losses, torch.ones(3, dtype=torch.bool), 0.4).item() == pytest.approx(0.4 * 14 / 3)


def test_a_batch_is_the_mean_of_its_samples() -> None:
    generator = torch.Generator().manual_seed(2)
    error = torch.randn(5, 4, 3, 3, generator=generator)
    mask = (torch.rand(5, 1, 3, 3, generator=generator) > 0.5).float()
    whole = total_loss(reweighted(error, mask, 1.5, 0.7), torch.zeros(5, dtype=torch.bool), 0.4)
    alone = [reweighted(error[k : k + 1], mask[k : k + 1], 1.5, 0.7).item() for k in range(5)]
    assert whole.item() == pytest.approx(float(np.mean(alone)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_every_prediction_type_says_the_same_noise(seed: int) -> None:
    x = noised(seed)
    velocity = x.alpha * x.noise - x.sigma * x.clean
    for prediction, kind in ((x.noise, "epsilon"), (velocity, "v_prediction"), (x.clean, "sample")):
        assert torch.allclose(predicted_noise(prediction, x, kind), x.noise)
        for space in ("epsilon", "velocity"):
            assert prediction_error(prediction, x, kind, space).abs().max() < 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["epsilon", "v_prediction", "sample"]))
def test_the_velocitys_error_is_the_noises_over_alpha(seed: int, kind: str) -> None:
    x = noised(seed)
    prediction = torch.randn(x.clean.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    noise = prediction_error(prediction, x, kind, "epsilon")
    assert torch.allclose(prediction_error(prediction, x, kind, "velocity"), noise / x.alpha)


def test_a_velocity_by_hand() -> None:
    half = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    x = Noised(2 * half, -2 * half, half, half * math.sqrt(3))  # x_t = 1 - 1·√3/… = 0.5·1 + (√3/2)·(-1)
    prediction = torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)
    x_t = 0.5 - math.sqrt(3) / 2
    expected = 0.5 * 0.2 + math.sqrt(3) / 2 * x_t
    assert predicted_noise(prediction, x, "v_prediction").item() == pytest.approx(expected)
    assert prediction_error(prediction, x, "v_prediction", "epsilon").item() == pytest.approx(-1 - expected)


def test_an_unknown_prediction_type() -> None:
    with pytest.raises(LearningError, match="flow"):
        predicted_noise(torch.zeros(1, 4, 2, 2), noised(batch=1), "flow")
