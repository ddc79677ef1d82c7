"""CLIP, DINO, Inception and LPIPS' network as encoders, from files on this machine; nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from intarsia.evaluation.bench.encoders import USUAL, EncoderSet, Floats, Pixels
from intarsia.evaluation.bench.errors import BenchError
from intarsia.perception import ClipScorer, VisionEncoder

INCEPTION_FILE, ALEX_FILE = "weights-inception-2015-12-05-6726825d.pth", "alexnet-owt-7be5be79.pth"
_BATCH = 32


def real_encoders(models: Mapping[str, str | None], device: str = "auto") -> EncoderSet:
    """``models``: by kind, in place of those of `USUAL`; None leaves a kind out, but for CLIP and DINO.

    Raises:
        BenchError: an extra or a file is missing. HelperError: a model cannot be loaded.
    """
    chosen = {**USUAL, **models}
    clip, dino, dinov2 = str(chosen["clip"]), str(chosen["dino"]), chosen["dinov2"]
    device = _device(device)
    # What may be missing goes first: the others take long to load.
    features = None if chosen["inception"] is None else Inception.load(chosen["inception"], device)
    perceptual = None if chosen["lpips"] is None else LpipsNetwork.load(chosen["lpips"], device)
    return EncoderSet(
        "real",
        clip=Clip(ClipScorer.load(clip, device)),
        dino=ClassToken(VisionEncoder.load(dino, device, "dino")),
        dinov2=None if dinov2 is None else ClassToken(VisionEncoder.load(dinov2, device, "dinov2")),
        features=features,
        perceptual=perceptual,
    )


class _Batched:
    """Embeds 32 pictures at once, each as its own preprocessing makes it."""

    def __init__(self, name: str, model: Any, embed: Callable[[Sequence[Pixels]], Floats]) -> None:
        self.name, self.hash, self._embed = name, weights_hash(model), embed

    def images(self, crops: Sequence[Pixels]) -> Floats:
        """→ (N, D)."""
        return np.concatenate([self._embed(crops[n : n + _BATCH]) for n in range(0, len(crops), _BATCH)])


class Clip(_Batched):
    """A CLIP-like model. Its own preprocessing cuts what is not square at the sides."""

    def __init__(self, scorer: ClipScorer) -> None:
        super().__init__(scorer.name, scorer.model, scorer.embed)
        self._scorer = scorer

    def texts(self, texts: Sequence[str]) -> Floats:
        """→ (N, D)."""
        return self._scorer.embed_texts(texts)


class ClassToken(_Batched):
    """DINO or DINOv2."""

    def __init__(self, encoder: VisionEncoder) -> None:
        super().__init__(encoder.name, encoder.model, encoder.embed)


class Inception(_Batched):
    """Inception v3 of the FID paper, 2048 pooled features, as torchmetrics' FID and KID use it. ``network``: uint8
    pictures (B, 3, H, W) → (B, D)."""

    def __init__(self, network: Any, device: str, name: str = "inception-v3-compat 2048") -> None:
        self._network, self._device = network, device
        super().__init__(name, network, self._features)

    @staticmethod
    def load(file: str, device: str = "cpu") -> Inception:
        """``file``: torch-fidelity's weights, or "cached" for where it keeps them. Raises BenchError."""
        _require("FID and KID", "inception", "torchmetrics", "torch_fidelity")
        path = _weights(file, INCEPTION_FILE, "inception")
        from torchmetrics.image.fid import NoTrainInceptionV3

        network: Any = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
        return Inception(network.to(device), device)

    def _features(self, crops: Sequence[Pixels]) -> Floats:
        found = []
        for pixels in crops:  # of any sizes; the network resizes each
            x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(self._device)
            with torch.no_grad():
                out = self._network(x)
            found.append((out[0] if isinstance(out, tuple) else out).reshape(1, -1).float().cpu().numpy())
        return np.concatenate(found).astype(np.float32)


class LpipsNetwork:
    """The network and the learned weights of LPIPS, as torchmetrics ships them (``net``: scaling_layer, net, lins)."""

    def __init__(self, net: Any, device: str, name: str = "lpips alex") -> None:
        self._net, self._device = net.eval(), device
        self.name, self.hash = name, weights_hash(net)
        self.weights: list[Tensor] = [lin.model[-1].weight.detach().reshape(-1) for lin in net.lins]

    @staticmethod
    def load(kind: str, device: str = "cpu") -> LpipsNetwork:
        """``alex``. Raises BenchError."""
        if kind != "alex":
            raise BenchError(f"LPIPS on {kind!r} cannot be measured: use alex, or none to leave it out")
        _require("LPIPS", "lpips", "torchmetrics", "torchvision")
        _weights("cached", ALEX_FILE, "lpips")
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        net: Any = LearnedPerceptualImagePatchSimilarity("alex").net
        return LpipsNetwork(net.to(device), device)

    def maps(self, pixels: Pixels) -> list[Tensor]:
        """(H, W, 3) → (1, C, h, w) of each layer."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].to(self._device).float() / 127.5 - 1
        with torch.no_grad():
            return list(self._net.net(self._net.scaling_layer(x)))


def weights_hash(model: nn.Module) -> str:
    """sha256 of all parameters and buffers: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _require(what: str, kind: str, *packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(
            f"{what} of real pictures need {missing[0].replace('_', '-')}, which is not installed: install intarsia "
            f"with the extra 'bench', or leave them out (--{kind} none)"
        )


def _weights(file: str, usual: str, kind: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / usual if file == "cached" else Path(file).expanduser()
    if not path.is_file():
        raise BenchError(f"there is no file {path}: put {usual} there, or leave it out (--{kind} none)")
    return path


def _device(device: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
