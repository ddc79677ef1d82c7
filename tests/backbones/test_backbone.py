from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.backbones.real_layouts import parts_of, write_file, write_folder, write_fooocus
from tests.conftest_tiny import save_tiny, tiny_backbone

from intarsia.backbones import (
    FOOOCUS_FILES,
    BackboneError,
    MissingWeightsError,
    UnknownModelError,
    catalog,
    find_model,
    load_backbone,
    load_patch,
    prepare_for_image_encoder,
)
from intarsia.backbones.ldm_names import from_ldm

PATCH = list(FOOOCUS_FILES)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(tiny_backbone(), root)
    return root


def test_listing_models_imports_nothing_heavy() -> None:
    code = (
        "import sys, intarsia.backbones as b, intarsia.adapters, intarsia.conditioning, intarsia.sampling; "
        "heavy = {'torch', 'diffusers', 'transformers', 'peft'}; "
        "print(list(b.catalog), sorted(heavy & {*sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "miniature" in out and out.strip().endswith("[]")


def test_round_trip_is_exact(folder: Path) -> None:
    ours, loaded = tiny_backbone(), load_backbone(folder)
    for part, module in ours.modules().items():
        state = loaded.modules()[part].state_dict()
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items()), part
    assert loaded.tokenizer("Porcelain, red mug").input_ids == ours.tokenizer("Porcelain, red mug").input_ids
    assert (loaded.native_size, loaded.latent_factor, loaded.size_multiple) == (64, 8, 16)
    assert loaded.scheduler_config["prediction_type"] == "epsilon"
    assert not any(p.requires_grad for m in loaded.modules().values() for p in m.parameters())


def test_half_precision_and_sharded_folders_load_upcast(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    for module in backbone.modules().values():
        module.half()
    save_tiny(backbone, tmp_path / "m", variant="fp16", max_shard_size="100KB")
    assert len(list((tmp_path / "m" / "unet").glob("*.safetensors"))) > 1
    loaded = load_backbone(tmp_path / "m")
    assert loaded.dtype is torch.float32 and loaded.vae.dtype is torch.float32
    assert torch.equal(loaded.unet.conv_in.weight, backbone.unet.conv_in.weight.float())
    assert len(loaded.hash) == 64
    next((tmp_path / "m" / "unet").glob("*-00002-of-*")).unlink()
    with pytest.raises(BackboneError, match="00002"):
        load_backbone(tmp_path / "m")


def test_hash_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    save_tiny(tiny_backbone(seed=1), tmp_path / "other")
    shutil.copytree(folder, tmp_path / "same")
    assert (
        load_backbone(folder).hash
        == load_backbone(tmp_path / "same").hash
        != load_backbone(tmp_path / "other").hash
    )
    assert tiny_backbone().hash == tiny_backbone().hash != tiny_backbone(1).hash


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda root: shutil.rmtree(root / "vae"), "vae"),
        (lambda root: (root / "model_index.json").unlink(), "model_index.json"),
        (lambda root: (root / "unet/diffusion_pytorch_model.safetensors").unlink(), "unet"),
        (lambda root: (root / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x08broken"), "unet"),
        (lambda root: (root / "scheduler/scheduler_config.json").write_text("{"), "scheduler_config"),
    ],
)
def test_damaged_folders_give_one_clear_line(folder: Path, tmp_path: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "m"
    shutil.copytree(folder, root)
    damage(root)
    with pytest.raises(BackboneError, match=words) as caught:
        load_backbone(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part, stem", [("unet", "diffusion_pytorch_model"), ("text_encoder_2", "model")])
def test_missing_tensors_are_never_invented(folder: Path, tmp_path: Path, part: str, stem: str) -> None:
    from safetensors.torch import load_file, save_file

    root = tmp_path / "m"
    shutil.copytree(folder, root)
    path = root / part / f"{stem}.safetensors"
    state = load_file(path)
    lost = sorted(state)[0]
    del state[lost]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=f"{part}.*missing"):
        load_backbone(root)


@pytest.mark.parametrize(("channels", "kind"), [(9, "inpaint"), (4, "latent"), (8, None), (7, None)])
def test_what_can_paint_into_a_mask_is_loaded(folder: Path, tmp_path: Path, channels: int, kind: str | None) -> None:
    from diffusers import UNet2DConditionModel

    root = tmp_path / "m"
    shutil.copytree(folder, root)
    config = json.loads((root / "unet/config.json").read_text()) | {"in_channels": channels}
    UNet2DConditionModel.from_config(config).save_pretrained(root / "unet")
    if kind is None:
        with pytest.raises(BackboneError, match=r"instruction model|takes 7 channels: an inpainting model has 9"):
            load_backbone(root)
    else:
        backbone = load_backbone(root)
        assert backbone.kind == kind and backbone.input_channels == channels


def test_unknown_and_absent_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"miniatur'.*miniature.*sdxl-inpaint"):
        load_backbone("miniatur")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeightsError, match="intarsia models fetch sdxl-inpaint"):
        find_model("sdxl-inpaint")
    monkeypatch.setattr("intarsia.backbones.on_disk.files", lambda _: tmp_path)
    with pytest.raises(MissingWeightsError, match="miniature"):
        find_model("miniature")


def test_catalog_is_read_only() -> None:
    with pytest.raises(TypeError):
        catalog["x"] = catalog["miniature"]  # type: ignore[index]


def test_the_catalog_gives_the_native_size_of_the_weights_there_are() -> None:
    try:
        _, path = find_model("miniature")
    except MissingWeightsError:
        pytest.skip("the miniature's weights are not part of this checkout")
    vae, unet = (json.loads((path / part / "config.json").read_text()) for part in ("vae", "unet"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    assert catalog["miniature"].native_size == unet["sample_size"] * factor


def test_encoding_is_scaled_per_picture_and_seeded() -> None:
    backbone = tiny_backbone()
    images = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mode = backbone.encode(images)
        moments = backbone.encode_moments(images)

        def draw(which: list[int]) -> torch.Tensor:
            generators = [torch.Generator().manual_seed(seed) for seed in which]
            return backbone.encode(images[which], generators, sample=True)

        batch = draw([0, 1, 2])
        torch.testing.assert_close(draw([2])[0], batch[2], atol=1e-5, rtol=0)
    assert mode.shape == (3, 4, 4, 6) and moments.shape == (3, 8, 4, 6)
    torch.testing.assert_close(mode, moments[:, :4] * 0.5)
    assert not torch.equal(batch, mode)
    with pytest.raises(BackboneError, match="33x32"):
        backbone.encode(torch.zeros(1, 3, 33, 32))
    with pytest.raises(BackboneError, match="as many generators"):
        backbone.encode(images, [torch.Generator()], sample=True)


def test_decode_undoes_the_scaling() -> None:
    backbone = tiny_backbone()
    raw = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(backbone.decode(raw * 0.5), backbone.vae.decode(raw).sample)
        backbone.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
        mean = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)
        std = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
        torch.testing.assert_close(backbone.decode(raw * 0.5), backbone.vae.decode(raw * std + mean).sample)


def test_time_ids() -> None:
    assert tiny_backbone().time_ids((64, 96), (3, 5)).tolist() == [[64, 96, 3, 5, 64, 96]]


def test_image_preparation_normalises_as_told() -> None:
    images = torch.rand(2, 3, 40, 60) * 2 - 1
    plain = prepare_for_image_encoder(images, 32)
    assert plain.shape == (2, 3, 32, 32)
    torch.testing.assert_close(prepare_for_image_encoder(plain, 32), plain)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    shifted = prepare_for_image_encoder(images, 32, mean, std)
    expected = ((plain + 1) / 2 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(shifted, expected)


def test_preprocessor_config_is_read(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "m"
    shutil.copytree(folder, root)
    config = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (root / "image_encoder/preprocessor_config.json").write_text(json.dumps(config))
    loaded = load_backbone(root)
    assert loaded.image_mean == (0.1, 0.2, 0.3) and loaded.image_std == (0.4, 0.5, 0.6)


def test_similarity_is_a_cosine_and_needs_an_image_tower() -> None:
    backbone = tiny_backbone()
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    table = backbone.image_text_similarity(images, ["a red mug", "a blue duck", "toy"])
    assert table.shape == (2, 3) and table.abs().max() <= 1.0001
    one = backbone.image_text_similarity(images[1:], ["toy"])
    torch.testing.assert_close(one[0, 0], table[1, 2], atol=1e-5, rtol=0)
    with pytest.raises(BackboneError, match="no image encoder"):
        tiny_backbone(image_encoder=False).image_text_similarity(images, ["toy"])


def test_the_prompt_of_a_removal_comes_with_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_tiny(tiny_backbone(), folder)
    assert load_backbone(folder).background_prompt == "empty background"
    (folder / "model_card.json").write_text('{"background_prompt": "an empty table"}')
    assert load_backbone(folder).background_prompt == "an empty table"


def test_hashes_of_large_models_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intarsia.backbones import hash_cache, model_hash, weights

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "m"
    shutil.copytree(folder, root)
    plain, computed = model_hash(root), []
    hash_files = weights.hash_files
    monkeypatch.setattr(weights, "hash_files", lambda *given: computed.append(1) or hash_files(*given))
    assert model_hash(root) == plain and len(computed) == 1 and not (tmp_path / "cache").exists()
    monkeypatch.setattr(hash_cache, "LEAST_BYTES", 0)
    assert [model_hash(root) for _ in range(3)] == [plain] * 3 and len(computed) == 2
    path = root / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert model_hash(root) != plain and len(computed) == 3
    (tmp_path / "cache" / "intarsia" / "hashes.json").write_text("{")
    assert model_hash(root) != plain and len(computed) == 4
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", staticmethod(lambda: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert model_hash(root) != plain


def test_a_patch_is_added_to_the_file_s_own_numbers_and_rounded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTARSIA_MODELS", str(tmp_path / "models"))
    parts = {part: module.half() for part, module in parts_of("sdxl", 4).items()}
    given = {"folder": write_folder(parts, tmp_path / "mine"), "file": write_file(parts, tmp_path / "one.safetensors")}
    patch = load_patch(write_fooocus(parts["unet"], tmp_path / "models" / "fooocus-inpaint") / PATCH)
    plain = {name: value.float() for name, value in parts["unet"].state_dict().items()}
    for path in given.values():
        unet = load_backbone(f"{path}+fooocus", dtype=torch.bfloat16).unet
        found, sooner = unet.state_dict(), False
        assert {value.dtype for value in found.values()} == {torch.bfloat16}
        for key, delta in patch.items():
            name = from_ldm(key.removeprefix("diffusion_model."), unet.config)
            wanted = (plain[name] + delta.dequantised()).bfloat16()
            assert torch.equal(found[name], wanted)
            sooner |= not torch.equal((plain[name].bfloat16().float() + delta.dequantised()).bfloat16(), wanted)
        assert sooner  # rounding the file's numbers first gives others
