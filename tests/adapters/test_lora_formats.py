from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.loras import SD15, SDXL, full_modules, modules_of, random_lora, run_unet, same_layers
from tests.conftest_tiny import tiny_backbone
from torch import Tensor

from intarsia.adapters import (
    LORA_FORMATS,
    AdapterFileError,
    AdapterKeyError,
    FusedLoras,
    Lora,
    LoraLayer,
    LoraModules,
    SubjectLora,
    read_lora,
    save_lora,
    write_lora,
)
from intarsia.backbones import Backbone

TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
ORIGINAL = "input_blocks_3_1_transformer_blocks_0_attn2_to_k"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture(scope="module")
def modules(backbone: Backbone) -> LoraModules:
    return modules_of(backbone)


def learned(backbone: Backbone) -> tuple[SubjectLora, Tensor]:
    """A subject with alpha other than its rank, and what the U-Net gives with it injected."""
    lora = SubjectLora(rank=2, alpha=5.0).inject(backbone.unet)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    output = run_unet(backbone.unet)
    lora.eject()
    return lora, output


def stock_pipeline() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionXLInpaintPipeline

    backbone = tiny_backbone()
    return StableDiffusionXLInpaintPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        text_encoder_2=backbone.text_encoder_2,
        tokenizer=backbone.tokenizer,
        tokenizer_2=backbone.tokenizer_2,
        unet=backbone.unet,
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )


@pytest.mark.parametrize("form", LORA_FORMATS)
def test_a_fused_file_gives_what_the_injected_subject_gave(
    backbone: Backbone, modules: LoraModules, form: Any, tmp_path: Path
) -> None:
    """Of ComfyUI's spelling, which diffusers' reader for these models does not know, this is all the proof."""
    lora, output = learned(backbone)
    state, metadata = write_lora(read_lora(lora.state_dict(), modules, lora.metadata()), form, modules)
    save_lora(tmp_path / "s.safetensors", state, metadata)
    with FusedLoras.fuse(backbone.modules(), [(read_lora(tmp_path / "s.safetensors", modules), 1.0)]):
        torch.testing.assert_close(run_unet(backbone.unet), output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_stock_diffusers_gives_the_same_output(
    backbone: Backbone, modules: LoraModules, form: Any, tmp_path: Path
) -> None:
    lora, output = learned(backbone)
    state, metadata = write_lora(read_lora(lora.state_dict(), modules, lora.metadata()), form, modules)
    save_lora(tmp_path / "s.safetensors", state, metadata)
    pipe = stock_pipeline()
    assert (run_unet(pipe.unet) - output).abs().max() > 1e-2
    pipe.load_lora_weights(str(tmp_path), weight_name="s.safetensors")
    torch.testing.assert_close(run_unet(pipe.unet), output, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("form", "rank", "alpha"), [("diffusers", None, None), ("kohya", 3, 1.5)])
def test_stock_diffusers_reads_text_towers_and_mixed_ranks(
    backbone: Backbone, modules: LoraModules, form: Any, rank: int | None, alpha: float | None, tmp_path: Path
) -> None:
    """Linear layers of attentions and text towers. Its kohya reader gives all modules of a part one alpha."""
    whole = random_lora(modules, rank=rank, alpha=alpha)
    attention = {m: layer for m, layer in whole.layers["unet"].items() if ".attn" in m}
    towers = {part: {m: layer for m, layer in whole.layers[part].items() if ".layers." in m}
              for part in ("text_encoder", "text_encoder_2")}  # fmt: skip
    lora = Lora({"unet": attention, **towers})  # type: ignore[dict-item]
    ids = torch.tensor([[3, 5, 7, 2]])

    def outputs(parts: Any) -> list[Tensor]:
        with torch.no_grad():
            words = [tower(ids, output_hidden_states=True).hidden_states[-1]
                     for tower in (parts.text_encoder, parts.text_encoder_2)]  # fmt: skip
        return [run_unet(parts.unet), *words]

    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        ours = outputs(backbone)
    save_lora(tmp_path / "s.safetensors", *write_lora(lora, form, modules))
    pipe = stock_pipeline()
    before = outputs(pipe)
    pipe.load_lora_weights(str(tmp_path), weight_name="s.safetensors")
    for plain, stock, mine in zip(before, outputs(pipe), ours, strict=True):
        assert (plain - mine).abs().max() > 1e-2
        torch.testing.assert_close(stock, mine, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_stock_diffusers_reads_convolutions(
    backbone: Backbone, modules: LoraModules, form: Any, tmp_path: Path
) -> None:
    whole = random_lora(modules, rank=3, alpha=1.5).layers["unet"]
    ends = (".conv1", ".conv2", ".conv_shortcut")
    lora = Lora({"unet": {module: layer for module, layer in whole.items() if module.endswith(ends)}})
    assert {layer.down.shape[2:] for *_, layer in lora} == {(3, 3), (1, 1)}
    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        ours = run_unet(backbone.unet)
    save_lora(tmp_path / "s.safetensors", *write_lora(lora, form, modules))
    pipe = stock_pipeline()
    assert (run_unet(pipe.unet) - ours).abs().max() > 1e-2
    pipe.load_lora_weights(str(tmp_path), weight_name="s.safetensors")
    torch.testing.assert_close(run_unet(pipe.unet), ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(LORA_FORMATS, repeat=2)))
def test_every_round_trip_is_bit_equal(modules: LoraModules, first: Any, second: Any) -> None:
    lora = random_lora(modules)
    for form in (first, second, "diffusers"):
        state, metadata = write_lora(lora, form, modules)
        again = read_lora(state, modules, metadata)
        assert same_layers(again, lora) and again.spelling == form
        lora = again


@pytest.mark.parametrize(("config", "first"), [(SDXL, "lora_unet_input_blocks_"), (SD15, "lora_unet_down_blocks_")])
def test_full_sized_names_of_every_module(config: dict[str, Any], first: str) -> None:
    modules = full_modules(config)
    meta = Lora(
        {"unet": {m: LoraLayer(torch.empty(0), torch.empty(0), 1.0) for m in modules.shapes["unet"]}}
    )
    for form, size in (("diffusers", 2), ("kohya", 3), ("comfyui", 3)):
        state, _ = write_lora(meta, form, modules)  # type: ignore[arg-type]
        assert len(state) == size * len(modules.shapes["unet"])
        if form == "kohya":
            assert any(key.startswith(first) for key in state)


def test_the_documented_names_of_sdxl() -> None:
    modules = full_modules(SDXL)
    down, up = torch.ones(4, 640), torch.ones(640, 4)
    ours = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    for spelled in (
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        f"unet.{ours}",
        ours,
    ):
        lora = read_lora({f"{spelled}.lora_down.weight": down, f"{spelled}.lora_up.weight": up}, modules)
        assert list(lora.layers["unet"]) == [ours]


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ],
)
@pytest.mark.parametrize("module", ["unet." + TO_K, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"])
def test_older_endings_of_diffusers(modules: LoraModules, module: str, down: str, up: str) -> None:
    part, _, name = module.partition(".")
    out, width = modules.shapes[part][name]  # type: ignore[index]
    lora = read_lora({module + down: torch.ones(2, width), module + up: torch.ones(out, 2)}, modules)
    assert [(p, m, layer.alpha) for p, m, layer in lora] == [(part, name, 2.0)]


def test_files_of_attention_processors(modules: LoraModules) -> None:
    attention = TO_K.removesuffix(".to_k")
    state = {}
    for name in ("to_k", "to_out"):
        width = 40 if name == "to_k" else 32
        state[f"unet.{attention}.processor.{name}_lora.down.weight"] = torch.ones(2, width)
        state[f"unet.{attention}.processor.{name}_lora.up.weight"] = torch.ones(32, 2)
    assert set(read_lora(state, modules).layers["unet"]) == {TO_K, f"{attention}.to_out.0"}


def by_hand(alpha: float | None = 1.0) -> dict[str, Tensor]:
    """A kohya file of one module, rank 4."""
    generator = torch.Generator().manual_seed(3)
    state = {
        f"lora_unet_{ORIGINAL}.lora_down.weight": torch.randn(4, 40, generator=generator),
        f"lora_unet_{ORIGINAL}.lora_up.weight": torch.randn(32, 4, generator=generator),
    }
    return state if alpha is None else {**state, f"lora_unet_{ORIGINAL}.alpha": torch.tensor(alpha)}


@pytest.mark.parametrize(("alpha", "scale"), [(1.0, 0.25), (None, 1.0), (4.0, 1.0), (6.0, 1.5)])
def test_kohya_by_hand_has_the_scale_that_its_alpha_says(
    backbone: Backbone, modules: LoraModules, alpha: float | None, scale: float
) -> None:
    state = by_hand(alpha)
    lora = read_lora(state, modules)
    assert lora.layers["unet"][TO_K].scale == scale
    layer = backbone.unet.get_submodule(TO_K)
    down, up = (state[f"lora_unet_{ORIGINAL}.lora_{half}.weight"].double() for half in ("down", "up"))
    wanted = layer.weight.double() + scale * up @ down
    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        torch.testing.assert_close(layer.weight.double(), wanted, atol=1e-5, rtol=0)
    assert write_lora(lora, "kohya", modules)[0][f"lora_unet_{ORIGINAL}.alpha"] == (4.0 if alpha is None else alpha)


def test_peft_patterns_give_alphas_and_root_scaling(modules: LoraModules) -> None:
    names = [TO_K, TO_K.replace("to_k", "to_v"), "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]
    state = {}
    for name in names:
        state[f"unet.{name}.lora_A.weight"] = torch.ones(4, 40)
        state[f"unet.{name}.lora_B.weight"] = torch.ones(32, 4)
    config = {"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"mid_block.*to_k": 2, "attn2.to_v": 1}}

    def alphas(**more: Any) -> list[float]:
        said = {"lora_adapter_metadata": json.dumps({**config, **{f"unet.{k}": v for k, v in more.items()}})}
        layers = read_lora(state, modules, said).layers["unet"]
        return [layers[name].alpha for name in names]

    assert alphas() == [8, 1, 2]
    assert alphas(use_rslora=True) == [16, 2, 4]
    with pytest.raises(AdapterKeyError, match="DoRA"):
        alphas(use_dora=True)
    with pytest.raises(AdapterKeyError, match="readable alpha"):
        read_lora(state, modules, {"lora_adapter_metadata": "{"})


@pytest.mark.parametrize("length", [640, 1152, 640 + 65536])
def test_a_header_whose_length_begins_like_a_pickle(modules: LoraModules, tmp_path: Path, length: int) -> None:
    path = tmp_path / "s.safetensors"
    save_lora(path, by_hand(), {"note": ""})
    first = int.from_bytes(path.read_bytes()[:8], "little")
    for size in range(length - first - 8, length - first + 8):
        save_lora(path, by_hand(), {"note": "x" * size})
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            break
    assert path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04")
    assert list(read_lora(path, modules).layers["unet"]) == [TO_K]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["lora_alpha", "alpha_pattern"])
def test_an_alpha_in_metadata_must_be_finite(modules: LoraModules, field: str, bad: float) -> None:
    state = {f"unet.{TO_K}.lora_A.weight": torch.ones(4, 40), f"unet.{TO_K}.lora_B.weight": torch.ones(32, 4)}
    said = {"unet.lora_alpha": 2, f"unet.{field}": bad if field == "lora_alpha" else {"to_k": bad}}
    with pytest.raises(AdapterKeyError, match="finite"):
        read_lora(state, modules, {"lora_adapter_metadata": json.dumps(said)})


def test_pefts_own_files_have_their_alpha_in_a_file_beside(modules: LoraModules, tmp_path: Path) -> None:
    path, beside = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    names = [TO_K, TO_K.replace("to_k", "to_v")]
    state = {}
    for name, rank in zip(names, (4, 2), strict=True):
        state[f"base_model.model.{name}.lora_A.weight"] = torch.ones(rank, 40)
        state[f"base_model.model.{name}.lora_B.weight"] = torch.ones(32, rank)
    save_lora(path, state, {"format": "pt"})
    config: dict[str, Any] = {"peft_type": "LORA", "r": 4, "rank_pattern": {"to_v": 2}, "lora_alpha": 8,
                              "alpha_pattern": {"to_v": 3}}  # fmt: skip

    def alphas(**more: Any) -> list[float]:
        beside.write_text(json.dumps({**config, **more}))
        layers = read_lora(path, modules).layers["unet"]
        return [layers[name].alpha for name in names]

    with pytest.raises(AdapterKeyError, match=r"put the adapter_config\.json"):
        read_lora(path, modules)
    with pytest.raises(AdapterKeyError, match=r"adapter_config\.json"):
        read_lora(state, modules)
    assert alphas() == [8, 3]
    assert alphas(use_rslora=True) == [16, 3 * 2**0.5]
    for wrong, words in (
        ({"use_dora": True}, "DoRA"), ({"rank_pattern": {}}, "another LoRA"), ({"lora_alpha": "x"}, "readable"),
        ({"lora_alpha": float("nan")}, "finite"), ({"peft_type": "LOHA"}, "not of a LoRA"), ({"r": None}, "cannot be"),
    ):  # fmt: skip
        with pytest.raises(AdapterKeyError, match=words) as caught:
            alphas(**wrong)
        assert "\n" not in str(caught.value)
    beside.unlink()
    told = {f"base_model.model.{name}.alpha": torch.tensor(1.0) for name in names}
    assert read_lora({**state, **told}, modules).layers["unet"][TO_K].alpha == 1.0


def test_every_unused_doubled_and_lonely_key_is_listed(modules: LoraModules) -> None:
    state = by_hand()
    twice = {f"unet.{TO_K}.lora_A.weight": torch.ones(4, 40)}
    strange = {"lora_unet_nowhere.lora_down.weight": torch.ones(1, 1), "text_encoder_3.x.alpha": torch.ones(1),
               "note": torch.ones(1)}  # fmt: skip
    lonely = {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, 16)}
    with pytest.raises(AdapterKeyError) as caught:
        read_lora({**state, **twice, **strange, **lonely}, modules)
    message = str(caught.value)
    assert all(key in message for key in strange) and "3 keys" in message
    assert "text_encoder.text_model.encoder.layers.0.mlp.fc1 has down only" in message
    assert "twice" in message and "\n" not in message


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"lora_unet_{ORIGINAL}.dora_scale", "DoRA"),
        (f"unet.{TO_K}.lora_magnitude_vector", "DoRA"),
        ("lora_unet_x.hada_w1_a", "LoHa"),
        ("lora_unet_x.lokr_w2", "LoKr"),
        ("lora_unet_x.oft_blocks", "OFT"),
        ("lora_unet_x.diff", "full weight"),
        ("lora_unet_x.diff_b", "full weight"),
        ("lora_unet_x.w_norm", "full weight"),
        ("lora_unet_x.lora_mid.weight", "Tucker"),
        (f"unet.{TO_K}.lora_B.bias", "biases"),
    ],
)
def test_other_kinds_are_refused_by_name(modules: LoraModules, key: str, kind: str) -> None:
    with pytest.raises(AdapterKeyError, match=kind) as caught:
        read_lora({**by_hand(), key: torch.ones(2)}, modules)
    assert key in str(caught.value)


def test_another_architecture_is_told_by_its_name(modules: LoraModules) -> None:
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_{}.weight"
    for_sd15 = {key.format("down"): torch.ones(4, 768), key.format("up"): torch.ones(320, 4)}
    with pytest.raises(AdapterKeyError, match=r"Stable Diffusion 1\.x.*not for this model, SDXL"):
        read_lora(for_sd15, full_modules(SDXL))
    with pytest.raises(AdapterKeyError, match="FLUX"):
        read_lora({"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": torch.ones(4, 9)}, modules)
    misfit = {**by_hand(), f"lora_unet_{ORIGINAL}.lora_up.weight": torch.ones(33, 4)}
    with pytest.raises(AdapterKeyError, match=r"to_k: \(4, 40\) and \(33, 4\) do not fit a weight \(32, 40\)"):
        read_lora(misfit, modules)
    with pytest.raises(AdapterKeyError, match="floating"):
        read_lora({key: value.to(torch.int8) for key, value in by_hand(None).items()}, modules)


def test_convolutions_and_their_other_shapes(modules: LoraModules) -> None:
    """1x1 convolutions may be written for linear layers and the other way round."""
    down, up = torch.randn(2, 40), torch.randn(32, 2)
    lora = read_lora(
        {f"unet.{TO_K}.lora_down.weight": down[:, :, None, None], f"unet.{TO_K}.lora_up.weight": up[:, :, None, None]},
        modules,
    )
    layer = lora.layers["unet"][TO_K]
    assert torch.equal(layer.down, down) and torch.equal(layer.up, up)
    shortcut = next(name for name in modules.shapes["unet"] if name.endswith("conv_shortcut"))
    out, width, *_ = modules.shapes["unet"][shortcut]
    flat = {f"unet.{shortcut}.lora_down.weight": torch.ones(2, width),
            f"unet.{shortcut}.lora_up.weight": torch.ones(out, 2)}  # fmt: skip
    assert read_lora(flat, modules).layers["unet"][shortcut].shape == (out, width, 1, 1)


def test_files_that_are_no_loras(modules: LoraModules, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_lora(path, by_hand(), {})
    whole = path.read_bytes()
    assert list(read_lora(path, modules).layers["unet"]) == [TO_K]
    path.write_bytes(whole[:-10])
    with pytest.raises(AdapterFileError, match="corrupt"):
        read_lora(path, modules)
    for name, content in (("s.ckpt", whole), ("zip.safetensors", b"PK\x03\x04rest"), ("p.safetensors", b"\x80\x02}q")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AdapterFileError, match=r"pickle.*\.safetensors"):
            read_lora(tmp_path / name, modules)
    with pytest.raises(AdapterFileError, match="no LoRA weights"):
        read_lora({"model.diffusion_model.out.2.weight": torch.ones(2)}, modules)
    with pytest.raises(AdapterFileError, match="no LoRA weights"):
        read_lora({}, modules)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(AdapterFileError, match="finite"):
            read_lora(by_hand(bad), modules)
    with pytest.raises(AdapterKeyError, match="aitoolkit"):
        write_lora(read_lora(by_hand(), modules), "aitoolkit", modules)  # type: ignore[arg-type]


def test_kohya_files_say_their_true_alpha_and_what_they_are_for(modules: LoraModules) -> None:
    said = {"token": "sks", "class_noun": "duck", "base": json.dumps({"name": "tiny", "hash": "ab12", "licence": None})}
    lora = Lora(random_lora(modules, rank=2, alpha=5.0).layers, said)
    metadata = write_lora(lora, "kohya", modules)[1]
    assert metadata["ss_network_dim"] == "2" and metadata["ss_network_alpha"] == "5.0"
    assert metadata["modelspec.trigger_phrase"] == "sks duck" and metadata["modelspec.title"] == "duck"
    assert metadata["ss_sd_model_name"] == "tiny" and metadata["ss_sd_model_hash"] == "ab12"
    full = full_modules(SDXL)
    mixed = write_lora(Lora({"unet": {}}), "kohya", full)[1]
    assert mixed["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert write_lora(random_lora(modules), "kohya", modules)[1]["ss_network_alpha"] == "Dynamic"


def test_names_come_from_a_folders_settings_alone(tmp_path: Path, backbone: Backbone, modules: LoraModules) -> None:
    for part in ("unet", "text_encoder", "text_encoder_2"):
        (tmp_path / part).mkdir()
        config = backbone.modules()[part].config
        text = config.to_json_string() if part != "unet" else json.dumps(dict(config))  # type: ignore[union-attr, operator, call-overload]
        (tmp_path / part / "config.json").write_text(text)
    assert LoraModules.of_folder(tmp_path).shapes == modules.shapes
