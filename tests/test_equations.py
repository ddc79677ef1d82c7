"""DreamMix's eq. 7, 8 and 9 (arXiv 2411.17223) against the formulas, written here in float64 and plain loops."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.conftest_tiny import tiny_backbone

from intarsia.backbones import Backbone
from intarsia.conditioning import encode_prompt, orthonormal_basis, remove_directions, substitute_attributes
from intarsia.learning.loss import reweighted, total_loss

Array = NDArray[np.float64]
PROMPT = "a photo of a blue mug"


@lru_cache(maxsize=1)
def backbone() -> Backbone:
    return tiny_backbone(image_encoder=False)


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 4.0), st.floats(0.0, 2.0))
def test_equation_7(seed: int, inside: float, outside: float) -> None:
    """L = mean of (τ1·M + τ2·(1 - M)) · (ε - ε_θ)², the weight on the squared error."""
    noise, predicted = numbers(seed, 2, 3, 4, 5, 4)
    mask = (numbers(seed + 1, 3, 1, 5, 4) > 0).astype(float)
    wanted = []
    for sample in range(3):
        total = 0.0
        for channel in range(4):
            for row in range(5):
                for column in range(4):
                    weight = inside if mask[sample, 0, row, column] else outside
                    at = sample, channel, row, column
                    total += weight * (noise[at] - predicted[at]) ** 2
        wanted.append(total / (4 * 5 * 4))
    error = torch.from_numpy(noise - predicted)
    found = reweighted(error, torch.from_numpy(mask), inside, outside)
    assert found.numpy() == pytest.approx(wanted, rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4), st.floats(0.0, 2.0))
def test_equation_8(seed: int, subjects: int, regulars: int, beta: float) -> None:
    """L = L_subject + β · L_regular, each the mean over its samples."""
    losses = np.abs(numbers(seed, subjects + regulars))
    regular = np.arange(subjects + regulars) >= subjects
    wanted = losses[:subjects].sum() / subjects + beta * losses[subjects:].sum() / regulars
    found = total_loss(torch.from_numpy(losses), torch.from_numpy(regular), beta)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


def projected(vector: Array, directions: Array) -> Array:
    """v - (v · e / |e|) e / |e| for each removed direction e, each first freed of those before it."""
    seen: list[Array] = []
    for direction in directions:
        rest = direction.copy()
        for before in seen:
            rest = rest - (rest @ before) / (before @ before) * before
        seen.append(rest)
    for direction in seen:
        length = np.sqrt(direction @ direction)
        vector = vector - (vector @ direction / length) * direction / length
    return vector


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0.0, 1.0))
def test_equation_9(seed: int, count: int, strength: float) -> None:
    directions, values = numbers(seed, count, 24), numbers(seed + 1, 5, 24)
    basis = orthonormal_basis(torch.from_numpy(directions))
    found = remove_directions(torch.from_numpy(values), basis, strength=strength).numpy()
    for row, vector in zip(found, values, strict=True):
        whole = projected(vector, directions)
        assert row == pytest.approx(vector + strength * (whole - vector), abs=1e-9)
    if strength == 1.0:
        assert np.abs(found @ directions.T).max() < 1e-9


def test_equation_9_on_a_prompt_s_own_rows() -> None:
    """Removed: the rows of "clay" and "red", each in its sentence; the result is perpendicular to both."""
    plain = encode_prompt(backbone(), PROMPT).tokens[0].double().numpy()
    sentences = encode_prompt(backbone(), ["a photo of a clay", "a photo of a red"]).tokens[:, 5].double().numpy()
    found = substitute_attributes(backbone(), PROMPT, ["clay", "red"]).tokens[0].double().numpy()
    words = range(1, 1 + len(PROMPT.split()))
    for row in words:
        assert found[row] == pytest.approx(projected(plain[row], sentences), abs=1e-5)
        assert np.abs(found[row] @ sentences.T).max() < 1e-4
        assert np.abs(found[row] - plain[row]).max() > 1e-3
    others = [row for row in range(len(plain)) if row not in words]
    assert np.array_equal(found[others], plain[others])
    assert np.array_equal(substitute_attributes(backbone(), PROMPT, ["clay"], strength=0).tokens[0].double(), plain)
