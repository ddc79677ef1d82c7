"""A VAE that starts as an image pyramid: encoding averages, decoding interpolates, colours are right from step 0.

Gradient descent then only has to learn the detail. On two CPU cores this saves most of the VAE's training time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_ANCHOR = 8.0
_LIFT = 5.0


def _identity(conv: nn.Conv2d, channels: int, kernel: Tensor) -> None:
    """Let the first ``channels`` channels through one by one, each with ``kernel`` (k, k)."""
    with torch.no_grad():
        conv.weight[:channels] = 0
        for c in range(channels):
            conv.weight[c, c] = kernel
        if conv.bias is not None:
            conv.bias[:channels] = 0


def _silence(block: Any, channels: int) -> None:
    """A residual block that changes nothing yet; its shortcut lets the first channels through."""
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    if block.conv_shortcut is not None:
        _identity(block.conv_shortcut, channels, torch.ones(1, 1))


def _centre() -> Tensor:
    kernel = torch.zeros(3, 3)
    kernel[1, 1] = 1
    return kernel


def _output(norm: Any, conv: nn.Conv2d, channels: int, rows: int) -> None:
    """Read the first channels through normalisation and SiLU, linearly.

    Two anchor channels at ±_ANCHOR make the (single) normalisation group's mean and deviation nearly constant; a lift
    of _LIFT moves the signal to where SiLU(x) is x.
    """
    assert conv.bias is not None
    total = conv.in_channels
    deviation = (2 * _ANCHOR**2 / total) ** 0.5
    with torch.no_grad():
        norm.weight[:channels] = deviation
        norm.bias[:channels] = _LIFT
        conv.weight[:rows] *= 0.05
        for c in range(channels):
            conv.weight[c, c] += _centre()
        # SiLU(_LIFT) is not exactly _LIFT; what is left of the lift is taken off by the bias.
        lifted = float(nn.functional.silu(torch.tensor(_LIFT)))
        conv.bias[:channels] = -lifted


def _anchors(conv: nn.Conv2d, at: int) -> None:
    with torch.no_grad():
        for c, sign in ((at, 1.0), (at + 1, -1.0)):
            conv.weight[c] = 0
            conv.bias[c] = sign * _ANCHOR  # type: ignore[index]


def start_linear(vae: Any) -> None:
    """Turn a fresh ``AutoencoderKL`` (one normalisation group, no attention) into a pyramid, in place.

    Its first three latent channels are the picture averaged over cells; the rest starts as noise-free zeros.
    """
    colours, keep = 3, 5
    half = torch.zeros(3, 3)
    half[:2, :2] = 0.25
    smooth = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16
    encoder, decoder = vae.encoder, vae.decoder
    _identity(encoder.conv_in, colours, _centre())
    _anchors(encoder.conv_in, colours)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            _silence(resnet, keep)
        for sampler in block.downsamplers or ():
            _identity(sampler.conv, keep, half)
            # The asymmetric padding of the last row and column is zero, so anchors are averaged with it: harmless.
    for resnet in (*encoder.mid_block.resnets, *decoder.mid_block.resnets):
        _silence(resnet, keep)
    _output(encoder.conv_norm_out, encoder.conv_out, colours, vae.config.latent_channels)
    channels = vae.config.latent_channels
    with torch.no_grad():
        encoder.conv_out.weight[channels:] *= 0.05
        encoder.conv_out.bias[channels:] = -6.0
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.zero_()
            conv.bias.zero_()
            for c in range(conv.weight.shape[0]):
                conv.weight[c, c] = 1
    _identity(decoder.conv_in, colours, _centre())
    _anchors(decoder.conv_in, colours)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            _silence(resnet, keep)
        for sampler in block.upsamplers or ():
            _identity(sampler.conv, keep, smooth)
    _output(decoder.conv_norm_out, decoder.conv_out, colours, colours)
