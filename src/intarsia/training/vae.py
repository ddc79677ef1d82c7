"""The miniature's VAE: a small fully convolutional AutoencoderKL whose latents have zero mean and unit variance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor
from torch.nn import functional

from intarsia.training.linear_start import start_linear
from intarsia.training.loop import LoopConfig, share, train
from intarsia.training.recipe import Recipe


def build_vae(recipe: Recipe) -> Any:
    """An ``AutoencoderKL`` that starts as an image pyramid; without attention, so that any size is a valid one."""
    from diffusers import AutoencoderKL

    channels = recipe.vae.channels
    vae = AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=recipe.vae.layers,
        latent_channels=recipe.vae.latent_channels,
        norm_num_groups=1,
        sample_size=recipe.side,
        scaling_factor=1.0,
        force_upcast=False,
        mid_block_add_attention=False,
    )
    start_linear(vae)
    return vae


def to_tensor(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W, 3) → float (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float().div_(127.5).sub_(1)


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def vae_loss(vae: Any, x: Tensor, generator: Generator, kl_weight: float, edge_weight: float) -> Tensor:
    """Reconstruction (squared + absolute error, and the same of image gradients) plus a small KL term."""
    posterior = vae.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
    y = vae.decode(posterior.mean + posterior.std * noise).sample
    error = functional.mse_loss(y, x) * 4 + functional.l1_loss(y, x)
    edges = sum(functional.l1_loss(a, b) for a, b in zip(_gradients(y), _gradients(x), strict=True))
    kl: Tensor = posterior.kl().mean()
    return error + edge_weight * edges + kl_weight * kl


def train_vae(
    recipe: Recipe,
    pictures: npt.NDArray[np.uint8],
    folder: Path,
    *,
    device: str = "cpu",
    minutes: float | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Any | None:
    """Train on random crops of ``pictures`` (N, H, W, 3); returns the VAE, or None when the minutes ran out."""
    settings = recipe.vae
    torch.manual_seed(recipe.seed)
    vae = build_vae(recipe).to(device)
    side = min(settings.crop, pictures.shape[1])

    batch = share(settings.batch)

    def loss(step: int, generator: Generator) -> Tensor:
        rows = torch.randint(len(pictures), (batch,), generator=generator).tolist()
        tops = torch.randint(pictures.shape[1] - side + 1, (2 * batch,), generator=generator).tolist()
        crops = np.stack(
            [pictures[r, t : t + side, c : c + side] for r, t, c in zip(rows, tops[::2], tops[1::2], strict=True)]
        )
        if step % 2:
            crops = crops[:, :, ::-1]
        x = to_tensor(crops).to(device)
        return vae_loss(vae, x, generator, settings.kl_weight, settings.edge_weight)

    config = LoopConfig(
        "vae", settings.images, settings.batch, settings.learning_rate, recipe.seed,
        ema_half_life=max(400, settings.images // 60), minutes=minutes,
    )  # fmt: skip
    if not train(vae, loss, config, folder, report):
        return None
    normalise_latents(vae, to_tensor(pictures[:: max(1, len(pictures) // 256)][:256]).to(device))
    return vae


@torch.no_grad()
def normalise_latents(vae: Any, x: Tensor) -> None:
    """Fold each latent channel's mean and deviation over ``x`` into the quantisation convolutions, in place.

    Afterwards the latents of such pictures have mean 0 and deviation 1 and ``scaling_factor`` is 1.
    """
    parts: Any = x.split(32)  # type: ignore[no-untyped-call]
    mean = torch.cat([vae.encode(part).latent_dist.mean for part in parts])
    shift, spread = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
    channels = len(shift)
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += (after.weight[:, :, 0, 0] @ shift[:, None])[:, 0]
    after.weight *= spread[None, :, None, None]
    before.bias[:channels] = (before.bias[:channels] - shift) / spread
    before.weight[:channels] /= spread[:, None, None, None]
    before.bias[channels:] -= 2 * spread.log()


@torch.no_grad()
def reconstruction_psnr(vae: Any, pictures: npt.NDArray[np.uint8], device: str = "cpu") -> list[float]:
    """Peak signal-to-noise ratio in dB of each reconstructed picture (peak 255, posterior mode)."""
    values: list[float] = []
    for start in range(0, len(pictures), 16):
        x = to_tensor(pictures[start : start + 16]).to(device)
        y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((x - y) / 2).square().mean((1, 2, 3))
        values += (-10 * error.clamp_min(1e-10).log10()).tolist()
    return values
