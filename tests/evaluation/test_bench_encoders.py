"""The encoders of real pictures, on tiny random models of the classes that real weights load into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import tiny_tokenizer
from torch import Tensor, nn

from intarsia.evaluation.bench import BenchError, encoder_set
from intarsia.evaluation.bench.metrics.lpips import lpips
from intarsia.evaluation.bench.real_encoders import ClassToken, Clip, Inception, LpipsNetwork, weights_hash
from intarsia.perception import ClipScorer, HelperError, VisionEncoder

DRAW = np.random.default_rng(0)
PICTURES = [DRAW.integers(0, 256, size, np.uint8) for size in ((48, 64, 3), (40, 40, 3), (70, 33, 3))]
TEXTS = ["a red duck", "a mug", "a photo of the toy teapot in clay"]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_clip(folder: Path) -> Any:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = tiny_tokenizer()
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(1)
    config = CLIPConfig(text_config=text, vision_config={**SMALL, "image_size": 32, "patch_size": 8}, projection_dim=16)
    model = CLIPModel(config).eval().requires_grad_(False)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return model, tokenizer, processor


def save_vision(folder: Path, kind: str) -> Any:
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(2)
    size: dict[str, Any] = {**SMALL, "image_size": 32, "patch_size": 8}
    model: Any
    if kind == "dino":
        model = ViTModel(ViTConfig(**size), add_pooling_layer=False)
    else:
        model = Dinov2Model(Dinov2Config(**{k: v for k, v in size.items() if k != "intermediate_size"}))
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def test_clip_agrees_with_torchmetrics_clip_score(tmp_path: Path) -> None:
    from torchmetrics.functional.multimodal.clip_score import clip_score

    model, tokenizer, images = save_clip(tmp_path)

    class Unpacked(nn.Module):
        """Newer transformers wrap features into an output that torchmetrics does not know."""

        config = model.config

        def get_image_features(self, pixels: Tensor) -> Tensor:
            found: Tensor = model.get_image_features(pixels).pooler_output
            return found

        def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
            found: Tensor = model.get_text_features(ids, attention_mask=mask).pooler_output
            return found

    def processor(text: Any = None, images_: Any = None, images: Any = None, **options: Any) -> Any:
        return tokenizer(text, **options) if text is not None else pictures(images, return_tensors="pt")

    pictures = images
    encoder = Clip(ClipScorer.load(str(tmp_path), "cpu"))
    embedded, words = unit(encoder.images(PICTURES)), unit(encoder.texts(TEXTS))
    for image, picture in zip(embedded, PICTURES, strict=True):
        for text, word in zip(TEXTS, words, strict=True):
            x = torch.from_numpy(picture).permute(2, 0, 1)
            wanted = float(clip_score(x, text, lambda: (Unpacked(), processor)))  # type: ignore[arg-type,return-value]
            assert max(100 * float(image @ word), 0) == pytest.approx(wanted, abs=1e-3)
    assert np.ptp(embedded @ words.T) > 1e-3
    assert encoder.hash == weights_hash(model)


@pytest.mark.parametrize("kind", ["dino", "dinov2"])
def test_the_class_token_is_the_models_own(tmp_path: Path, kind: str) -> None:
    from PIL import Image

    model, processor = save_vision(tmp_path, kind)
    encoder = ClassToken(VisionEncoder.load(str(tmp_path), "cpu", kind))
    found = encoder.images(PICTURES)
    for picture, row in zip(PICTURES, found, strict=True):
        pixels = processor(images=[Image.fromarray(picture)], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            wanted = model(pixel_values=pixels).last_hidden_state[0, 0].numpy()
        assert np.allclose(row, wanted, atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-2 and encoder.name.startswith(f"{kind}:")


def test_what_has_no_class_token_is_refused(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    with pytest.raises(HelperError, match="a plain ViT"):
        VisionEncoder.load(str(tmp_path / "clip"), "cpu")
    save_vision(tmp_path / "dino", "dino")
    (tmp_path / "dino" / "model.safetensors").unlink()
    with pytest.raises(HelperError, match="cannot be loaded"):
        VisionEncoder.load(str(tmp_path / "dino"), "cpu")


def test_a_set_of_real_encoders(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    save_vision(tmp_path / "dino", "dino")
    save_vision(tmp_path / "dinov2", "dinov2")
    models: dict[str, str | None] = {name: str(tmp_path / name) for name in ("clip", "dino", "dinov2")}
    found = encoder_set("real", {**models, "inception": None, "lpips": None}, "cpu")
    assert found.cut_out and found.judges is None
    told = found.of_metrics()
    assert sorted(told) == sorted(
        f"{stem}_{end}" for stem in ("clip_t", "clip_i", "dino", "dinov2") for end in ("crop", "whole")
    )
    assert len({told[metric]["hash"] for metric in ("clip_t_crop", "dino_crop", "dinov2_crop")}) == 3


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({"lpips": None, "inception": "cached"}, "FID and KID.*torch-fidelity.*extra 'bench'"),
        ({"inception": None, "lpips": "alex"}, "LPIPS.*torchvision.*extra 'bench'"),
        ({"inception": None, "lpips": "vgg"}, "use alex"),
        ({"sift": "folder"}, "no kind of encoder 'sift'"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, models: dict[str, str | None], words: str) -> None:
    import importlib.util

    usual = importlib.util.find_spec
    absent = ("torch_fidelity", "torchvision")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else usual(name, *a))
    with pytest.raises(BenchError, match=words):
        encoder_set("real", models, "cpu")


class Pooled(nn.Module):
    """Stands for Inception: uint8 pictures of any size → 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.uint8
        return torch.nn.functional.adaptive_avg_pool2d(x.float(), 4).flatten(1)


def test_inception_sees_bytes_of_any_size() -> None:
    found = Inception(Pooled(), "cpu").images(PICTURES)
    wanted = Pooled()(torch.from_numpy(PICTURES[1]).permute(2, 0, 1)[None])[0].numpy()
    assert found.shape == (3, 48) and np.allclose(found[1], wanted)


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [64, 192, 384, 256, 256]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in zip([3, *widths], widths, strict=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            found.append(x)
        return found


def test_lpips_network_gives_torchmetrics_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import lpips as reference

    monkeypatch.setattr(reference, "Alexnet", lambda **_: Layers())
    torch.manual_seed(3)
    net = reference._NoTrainLpips(net="alex")
    network = LpipsNetwork(net, "cpu")
    a, b = PICTURES[0], np.roll(PICTURES[0], 5, 1)
    found = lpips(network.maps(a), network.maps(b), network.weights)
    x, y = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255 for picture in (a, b))
    assert float(found[0]) == pytest.approx(float(net(x, y, normalize=True)), abs=1e-4)
    assert float(found[0]) > 1e-3


def unit(values: Any) -> Any:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)
