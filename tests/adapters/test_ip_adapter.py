"""Stock IP-Adapter-Plus files: the same pictures as diffusers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.adapters.tiny_unets import FEATURES, WIDTH, inputs, run, sd15_like, sdxl_like
from torch import Tensor

from intarsia.adapters import AdapterFileError, AdapterKeyError, load_reference, max_references_of
from intarsia.adapters.ip_adapter_keys import attention_numbers, config_of, from_ip_adapter, to_ip_adapter

TOKENS, RESAMPLER, DEPTH = 6, 32, 4
"""diffusers always builds four layers."""


def stock_state(unet: Any, *, heads: int = 2, depth: int = DEPTH, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes that the published files have."""
    generator = torch.Generator().manual_seed(seed)
    inner = 64 * heads
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, TOKENS, RESAMPLER),
        "proj_in.weight": (RESAMPLER, FEATURES),
        "proj_in.bias": (RESAMPLER,),
        "proj_out.weight": (WIDTH, RESAMPLER),
        "proj_out.bias": (WIDTH,),
        "norm_out.weight": (WIDTH,),
        "norm_out.bias": (WIDTH,),
    }
    for layer in range(depth):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"layers.{layer}.{norm}.{part}": (RESAMPLER,) for part in ("weight", "bias")}
        shapes |= {
            f"layers.{layer}.0.to_q.weight": (inner, RESAMPLER),
            f"layers.{layer}.0.to_kv.weight": (2 * inner, RESAMPLER),
            f"layers.{layer}.0.to_out.weight": (RESAMPLER, inner),
            f"layers.{layer}.1.1.weight": (4 * RESAMPLER, RESAMPLER),
            f"layers.{layer}.1.3.weight": (RESAMPLER, 4 * RESAMPLER),
        }
    named = {f"image_proj.{key}": shape for key, shape in shapes.items()}
    number = 1
    for name in unet.attn_processors:
        if ".attn2." in name:
            width = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
            named |= {f"ip_adapter.{number}.{part}_ip.weight": (width, WIDTH) for part in ("to_k", "to_v")}
            number += 2
    return {key: 0.2 * torch.randn(shape, generator=generator) for key, shape in named.items()}


def load_with_diffusers(unet: Any, state: dict[str, Tensor], scales: dict[str, float]) -> None:
    parts = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in ("image_proj", "ip_adapter")
    }
    unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    for name, processor in unet.attn_processors.items():
        if ".attn2." in name:
            processor.scale = [scales[name.split("_")[0]]]
    unet.eval()


def saved(state: dict[str, Tensor], folder: Path, name: str = "ip-adapter-plus.safetensors") -> Path:
    save_file(state, folder / name)
    return folder / name


SCALES = [
    {"down": 0.0, "mid": 0.0, "up": 0.0},
    {"down": 0.45, "mid": 0.45, "up": 0.45},
    {"down": 1.0, "mid": 1.0, "up": 1.0},
    {"down": 0.2, "mid": 1.3, "up": 0.7},
]


@pytest.mark.parametrize("photos", [1, 2])
@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_the_u_net_says_what_it_says_with_diffusers(make: Any, photos: int, tmp_path: Path) -> None:
    ours, theirs, plain = make(), make(), run(make())
    state = stock_state(ours)
    features = torch.randn(2, photos, 17, FEATURES, generator=torch.Generator().manual_seed(8))
    assign = load_reference(saved(state, tmp_path), ours).assign
    assert assign.embed(features[:, 0]).shape == (2, TOKENS, WIDTH)
    assign.inject(ours)
    tokens = torch.cat([assign.embed(features[:, photo]) for photo in range(photos)], 1)
    outputs = []
    for scales in SCALES:
        load_with_diffusers(theirs, state, scales)
        added = inputs(theirs)["added_cond_kwargs"] | {"image_embeds": [features]}
        expected = run(theirs, added_cond_kwargs=added)
        assign.show(tokens, {group: torch.full((2,), scale) for group, scale in scales.items()})
        outputs.append(run(ours))
        assert torch.allclose(outputs[-1], expected, atol=1e-5), scales
    assert torch.allclose(outputs[0], plain, atol=1e-6)
    distances = [float((output - plain).abs().max()) for output in outputs[1:]]
    assert min(distances) > 1e-3


@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
@pytest.mark.parametrize(("heads", "depth"), [(1, 1), (3, 12)])
def test_sizes_are_read_off_and_keys_go_there_and_back(make: Any, heads: int, depth: int, tmp_path: Path) -> None:
    unet = make()
    state = stock_state(unet, heads=heads, depth=depth)
    config = config_of(state)
    assert (config.feature_width, config.cross_attention_width, config.tokens) == (FEATURES, WIDTH, TOKENS)
    assert (config.width, config.depth, config.heads, config.head_width) == (RESAMPLER, depth, heads, 64)
    assert config.unconditional == "zero_picture"
    adapters = load_reference(saved(state, tmp_path), unet)
    assert adapters.refine is None and adapters.assign.config == config
    ours = adapters.assign.state_dict()
    back = to_ip_adapter(ours, attention_numbers(unet))
    assert set(back) == set(state) and all(torch.equal(back[key], value) for key, value in state.items())
    again = from_ip_adapter(back, ours, attention_numbers(unet))
    assert set(again) == set(ours) and all(torch.equal(again[key], value) for key, value in ours.items())
    assert max_references_of(tmp_path / "ip-adapter-plus.safetensors") == config.max_references


def test_half_precision_files_take_the_u_nets_number_format(tmp_path: Path) -> None:
    unet = sdxl_like()
    path = saved({key: value.half() for key, value in stock_state(unet).items()}, tmp_path)
    adapters = load_reference(path, unet)
    assert {p.dtype for p in adapters.assign.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in adapters.assign.parameters()) and not adapters.assign.training
    rounded = load_reference(path, sdxl_like().to(torch.bfloat16))
    assert {p.dtype for p in rounded.assign.parameters()} == {torch.bfloat16} and rounded.hash == adapters.hash


def test_every_key_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    unet = sdxl_like()
    state = stock_state(unet)
    del state["image_proj.layers.2.0.to_kv.weight"], state["ip_adapter.3.to_k_ip.weight"]
    state |= {"image_proj.extra": torch.zeros(1), "ip_adapter.2.to_k_ip.weight": torch.zeros(2, 2)}
    state["ip_adapter.1.to_v_ip.weight"] = torch.zeros(3, WIDTH)
    with pytest.raises(AdapterKeyError) as caught:
        load_reference(saved(state, tmp_path), unet)
    message = str(caught.value)
    assert "2 missing: image_proj.layers.2.0.to_kv.weight, ip_adapter.3.to_k_ip.weight" in message
    assert "2 unused: image_proj.extra, ip_adapter.2.to_k_ip.weight" in message
    assert "1 of another shape: ip_adapter.1.to_v_ip.weight is (3, 40) instead of (32, 40)" in message
    assert "\n" not in message


def test_a_file_of_another_family_is_refused(tmp_path: Path) -> None:
    other = sd15_like()
    with pytest.raises(AdapterKeyError, match=r"do not fit this U-Net; \d+ missing: .*ip_adapter"):
        load_reference(saved(stock_state(sdxl_like()), tmp_path), other)
    state = stock_state(other)
    del state["image_proj.latents"]
    with pytest.raises(AdapterKeyError, match=r"sizes cannot be told without image_proj\.latents"):
        load_reference(saved(state, tmp_path), other)
    state["image_proj.latents"] = torch.zeros(2, 2)
    with pytest.raises(AdapterKeyError, match=r"sizes cannot be told without image_proj\.latents"):
        load_reference(saved(state, tmp_path), other)
    state = stock_state(other) | {"image_proj.layers.0.0.to_q.weight": torch.zeros(100, RESAMPLER)}
    with pytest.raises(AdapterKeyError, match="100 wide, no multiple of 64"):
        load_reference(saved(state, tmp_path), other)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("image_proj.proj.weight", "image_proj.norm.weight"), r"a base \(not Plus\) IP-Adapter.*only IP-Adapter-Plus"),
        (("image_proj.proj.0.weight", "image_proj.norm.weight"), "a FaceID IP-Adapter.*only IP-Adapter-Plus"),
        (("image_proj.perceiver_resampler.proj_in.weight",), "a FaceID-Plus IP-Adapter.*only IP-Adapter-Plus"),
        (("ip_adapter.0.to_k_lora.down.weight", "image_proj.latents"), "a FaceID IP-Adapter.*only IP-Adapter-Plus"),
        (("image_proj.proj.0.weight", "image_proj.proj.3.weight"), "a full-face IP-Adapter.*only IP-Adapter-Plus"),
        (("lora_unet_down.weight",), "is no IP-Adapter"),
    ],
)
def test_other_kinds_are_named(keys: tuple[str, ...], words: str, tmp_path: Path) -> None:
    path = saved({key: torch.zeros(2, 2) for key in keys}, tmp_path)
    with pytest.raises(AdapterFileError, match=words) as caught:
        load_reference(path, sdxl_like())
    assert "\n" not in str(caught.value)


def test_counts_at_the_size_of_sdxl_are_those_of_the_published_files() -> None:
    """Without memory for weights: 70 cross-attentions, 340.8 M parameters in them and 83.0 M in the resampler; the
    reference U-Net feeds 36 self-attentions."""
    from diffusers import UNet2DConditionModel

    from intarsia.adapters import Assign, AssignConfig, Refine, RefineConfig

    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(
            in_channels=9,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        sizes = AssignConfig(1280, 2048, tokens=16, width=1280, depth=4, heads=20, head_width=64)
        assign = Assign.from_unet(unet, sizes)
        refine = Refine.from_unet(unet, RefineConfig(1280), torch.zeros(1, 1280))
    assert attention_numbers(unet) == tuple(range(1, 140, 2)) and len(assign.names) == 70
    assert round(sum(p.numel() for p in assign.layers.parameters()) / 1e5) == 3408
    assert round(sum(p.numel() for p in assign.resampler.parameters()) / 1e5) == 830
    assert len(refine.names) == 36 and len(refine.reference.up_blocks) == 2
    stock = to_ip_adapter(assign.state_dict(), attention_numbers(unet))
    assert {tuple(value.shape) for key, value in stock.items() if "_ip." in key} == {(640, 2048), (1280, 2048)}
