"""The formulas against published values, against torchmetrics on the same features, and against what they must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from intarsia.evaluation.bench import BenchError
from intarsia.evaluation.bench.metrics.colour import delta_e_2000, lab_of
from intarsia.evaluation.bench.metrics.distances import (
    frechet_distance,
    kernel_distance,
    kernel_distance_of_subsets,
)
from intarsia.evaluation.bench.metrics.lpips import lpips, lpips_map
from intarsia.evaluation.bench.metrics.outside import bytes_outside, only_outside, psnr_outside
from intarsia.evaluation.bench.metrics.seam import seam_score
from intarsia.evaluation.bench.subject_crops import square_crop, subject_crop

# Sharma, Wu and Dalal 2005, table 1: two colours, and how far apart they are.
PAIRS = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def features(count: int, width: int, seed: int, shift: float = 0.0) -> Any:
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(count, width)) @ draw.normal(size=(width, width)) / 3 + shift).astype(np.float32)


def test_colour_differences_are_those_of_the_published_table() -> None:
    rows = np.array([[float(number) for number in line.split()] for line in PAIRS.split("\n") if line])
    assert rows.shape == (34, 7)
    assert np.abs(delta_e_2000(rows[:, :3], rows[:, 3:6]) - rows[:, 6]).max() < 5.1e-5
    assert np.allclose(delta_e_2000(rows[:, 3:6], rows[:, :3]), rows[:, 6], atol=5.1e-5)


def test_lab_of_known_srgb_colours() -> None:
    found = lab_of([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    wanted = [[100, 0, 0], [0, 0, 0], [53.2408, 80.0925, 67.2032], [32.2970, 79.1875, -107.8602], [53.389, 0, 0]]
    assert np.abs(found - wanted).max() < 0.02


class Passing(nn.Module):
    """As an encoder: what it is given is features already."""

    num_features = 24

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("counts", [(60, 45), (15, 20)], ids=["full rank", "fewer pictures than features"])
def test_frechet_distance_agrees_with_torchmetrics(counts: tuple[int, int]) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    a, b = features(counts[0], 24, 0), features(counts[1], 24, 1, 0.5)
    metric = FrechetInceptionDistance(feature=Passing(), input_img_size=(24,))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a).double(), real=True)
    metric.update(torch.from_numpy(b).double(), real=False)
    assert frechet_distance(a, b) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_frechet_distance_of_equal_and_of_moved_sets() -> None:
    a = features(50, 12, 3)
    assert abs(frechet_distance(a, a)) < 1e-9
    assert frechet_distance(a, a + 2) == pytest.approx(12 * 4)
    assert frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * a.var(0, ddof=1).sum(), rel=1e-5)


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = features(40, 24, 4), features(40, 24, 5, 0.3)
    metric = KernelInceptionDistance(feature=Passing(), subsets=2, subset_size=40)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert kernel_distance(a, b) == pytest.approx(float(metric.compute()[0]), rel=1e-4)
    mean, spread = kernel_distance_of_subsets(a, b, subsets=2, size=1000)
    assert mean == pytest.approx(kernel_distance(a, b)) and spread == pytest.approx(0, abs=1e-9)


def test_kernel_distance_by_hand_and_of_subsets() -> None:
    from torchmetrics.image.kid import poly_mmd

    a, b = features(9, 5, 6).astype(np.float64), features(7, 5, 7).astype(np.float64)

    def mean(x: Any, y: Any, same: bool) -> float:
        values = [(p @ q / 5 + 1) ** 3 for i, p in enumerate(x) for j, q in enumerate(y) if not same or i != j]
        return float(np.mean(values))

    by_hand = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert kernel_distance(a, b) == pytest.approx(by_hand)
    draw, values = np.random.default_rng(3), []
    for _ in range(4):
        x, y = a[draw.permutation(9)[:6]], b[draw.permutation(7)[:6]]
        values.append(float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))))
    found = kernel_distance_of_subsets(a, b, subsets=4, size=6, seed=3)
    assert found == pytest.approx((np.mean(values), np.std(values)))


def test_distances_of_sets_that_cannot_be_compared() -> None:
    with pytest.raises(BenchError, match="one encoder"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(BenchError, match="two pictures"):
        kernel_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(BenchError, match="at least 2 rows"):
        kernel_distance_of_subsets(np.zeros((4, 3)), np.zeros((4, 3)), size=1)


class Layers(nn.Module):
    """Stands for AlexNet: five feature maps of other sizes and widths."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        inputs = [3, *widths[:-1]]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in zip(inputs, widths, strict=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            found.append(x)
        return found


@pytest.mark.parametrize("spatial", [False, True])
def test_lpips_agrees_with_torchmetrics(monkeypatch: pytest.MonkeyPatch, spatial: bool) -> None:
    from torchmetrics.functional.image import lpips as reference

    monkeypatch.setattr(reference, "Alexnet", lambda **_: Layers([64, 192, 384, 256, 256]))
    torch.manual_seed(0)
    net = reference._LPIPS(pretrained=True, net="alex", spatial=spatial)
    a, b = torch.rand(2, 3, 40, 56) * 2 - 1, torch.rand(2, 3, 40, 56) * 2 - 1
    first, second = (net.net(net.scaling_layer(x)) for x in (a, b))
    weights = [lin.model[-1].weight.reshape(-1) for lin in net.lins]
    wanted = net(a, b)[:, 0]
    found = lpips_map(first, second, weights, (40, 56)) if spatial else lpips(first, second, weights)
    assert torch.allclose(found, wanted if spatial else wanted[:, 0, 0], atol=1e-5)
    assert float(found.mean()) > 1e-3
    assert float(lpips(first, first, weights).abs().max()) == 0


def flat(value: int = 120, side: int = 48) -> tuple[Any, Any]:
    mask = np.zeros((side, side), bool)
    mask[16:32, 14:34] = True
    return np.full((side, side, 3), value, np.uint8), mask


def test_a_seam_is_seen_where_it_is() -> None:
    pixels, mask = flat()
    assert seam_score(pixels, mask) == 0
    ramp = np.repeat((np.arange(48) * 4).astype(np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    assert abs(seam_score(ramp, mask) or 9) < 0.2
    patched = pixels.copy()
    patched[mask] += 20
    step = float(delta_e_2000(lab_of(np.full(3, 120 / 255)), lab_of(np.full(3, 140 / 255))))
    assert seam_score(patched, mask) == pytest.approx(step)
    elsewhere = pixels.copy()
    elsewhere[12:36, 10:38] += 20  # an edge four pixels outside counts against the ring there, not for a seam
    assert (seam_score(elsewhere, mask) or 0) < 0
    assert seam_score(pixels, np.ones((48, 48), bool)) is None
    assert seam_score(pixels, np.zeros((48, 48), bool)) is None


@given(st.integers(0, 2**31), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_outside_is_outside(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    source, mask = draw.integers(0, 256, (12, 15, 3), np.uint8), draw.random((12, 15)) < 0.4
    picture = source.copy()
    picture[mask] = draw.integers(0, 256, (int(mask.sum()), 3), np.uint8)
    assert bytes_outside(picture, source, mask) == 0 and psnr_outside(picture, source, mask) in (100.0, None)
    places = np.argwhere(~mask)[:count]
    for y, x in places:
        picture[y, x, 1] ^= 3
    assert bytes_outside(picture, source, mask) == len(places)
    error = (picture[~mask].astype(float) - source[~mask]) ** 2
    if len(places):
        assert psnr_outside(picture, source, mask) == pytest.approx(10 * np.log10(255**2 / error.mean()))
    mixed = only_outside(picture, source, mask)
    assert np.array_equal(mixed[mask], source[mask]) and np.array_equal(mixed[~mask], picture[~mask])


def test_nothing_is_outside_a_mask_that_is_everywhere() -> None:
    pixels, mask = flat()
    assert psnr_outside(pixels, pixels + 1, np.ones_like(mask)) is None
    assert bytes_outside(pixels, pixels + 1, np.ones_like(mask)) == 0


def test_crops_are_squares_around_the_mask() -> None:
    pixels = np.arange(30 * 40 * 3, dtype=np.uint32).reshape(30, 40, 3).astype(np.uint8)
    mask = np.zeros((30, 40), bool)
    mask[10:20, 15:23] = True
    found = square_crop(pixels, mask, 1.2)
    assert np.array_equal(found, pixels[9:21, 13:25])
    corner = np.zeros((30, 40), bool)
    corner[0:4, 36:40] = True
    edge = square_crop(pixels, corner, 2.0)
    assert edge.shape == (8, 8, 3) and np.array_equal(edge[0], edge[2]) and np.array_equal(edge[:, 5], edge[:, 7])
    cut = subject_crop(pixels, mask, margin=1.2)
    assert (cut[0] == 128).all() and np.array_equal(cut[1:11, 2:10], pixels[10:20, 15:23])
    assert subject_crop(pixels, None) is pixels
    assert np.array_equal(subject_crop(pixels, mask, cut_out=False, margin=1.2), found)
    with pytest.raises(BenchError, match="empty"):
        square_crop(pixels, np.zeros((30, 40), bool))
