"""Instruction models: surgery that changes nothing, three layouts, and refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.tiny_unets import fingerprint, inputs, randomised, run, sd15_like, sdxl_like
from tests.backbones.instruct_models import published_layout, two_tower_model
from tests.backbones.real_layouts import write_layout
from tests.conftest_tiny import save_tiny, tiny_backbone

from intarsia.adapters import SubjectLora
from intarsia.backbones import (
    Backbone,
    BackboneError,
    MissingWeightsError,
    catalog,
    find_model,
    load_backbone,
    load_instruct_base,
    load_instruct_model,
    model_hash,
    narrow_to_latents,
    save_instruct_model,
    start_instructions,
    widen_for_instructions,
)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 100.0]))
@settings(max_examples=6, deadline=None)
def test_widening_leaves_the_output_whatever_the_source_image_holds(seed: int, scale: float) -> None:
    for unet in (sd15_like(), narrow_to_latents(sdxl_like())):
        before, shown = run(unet, seed=seed), inputs(unet, seed=seed)
        assert widen_for_instructions(unet) is unet
        image = scale * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        after = run(unet, **shown | {"sample": torch.cat([shown["sample"], image], 1)})
        assert torch.allclose(after, before, atol=1e-6)


def test_the_bias_is_kept_and_the_new_channels_learn_at_once() -> None:
    unet = sd15_like().requires_grad_(True)
    with torch.no_grad():
        unet.conv_in.bias.add_(3.0)
    weight, bias, rest = unet.conv_in.weight, unet.conv_in.bias, fingerprint(unet)
    widen_for_instructions(unet)
    assert unet.conv_in.bias is bias and unet.config.in_channels == unet.conv_in.in_channels == 8
    assert torch.equal(unet.conv_in.weight[:, :4], weight) and not unet.conv_in.weight[:, 4:].any()
    assert [a[0] for a, b in zip(fingerprint(unet)[1], rest[1], strict=True) if a != b] == ["conv_in.weight"]
    unet(**inputs(unet)).sample.square().mean().backward()
    assert (unet.conv_in.weight.grad[:, 4:].abs().sum((0, 2, 3)) > 0).all()
    again = fingerprint(unet)
    assert widen_for_instructions(unet) is unet and fingerprint(unet) == again


def test_narrowing_is_the_model_without_mask_and_masked_image() -> None:
    unet = sdxl_like()
    shown = inputs(unet)
    shown["sample"][:, 4:] = 0
    before, bias = run(unet, **shown), unet.conv_in.bias
    assert narrow_to_latents(unet) is unet and unet.config.in_channels == 4 and unet.conv_in.bias is bias
    assert torch.allclose(run(unet, **shown | {"sample": shown["sample"][:, :4]}), before, atol=1e-6)
    again = fingerprint(unet)
    assert narrow_to_latents(unet) is unet and fingerprint(unet) == again


def test_other_channels_are_refused_and_left_alone() -> None:
    for unet in (sdxl_like(), sd15_like(in_channels=5)):
        before = fingerprint(unet)
        with pytest.raises(BackboneError, match=r"takes \d channels.*narrow_to_latents.*8"):
            widen_for_instructions(unet)
        assert fingerprint(unet) == before
    with pytest.raises(BackboneError, match="3 channels, fewer than its 4"):
        narrow_to_latents(sd15_like(in_channels=3))
    wrapped = sd15_like()
    wrapped.conv_in = torch.nn.Sequential(wrapped.conv_in)
    with pytest.raises(BackboneError, match=r"conv_in is a Sequential.*eject"):
        widen_for_instructions(wrapped)


def test_from_the_masked_image_it_starts_as_the_inpainting_model_under_an_empty_mask() -> None:
    unet = sdxl_like()
    shown = inputs(unet)
    shown["sample"][:, 4] = 0
    before, scale = run(unet, **shown), 0.5
    assert start_instructions(unet, scaling_factor=scale) is unet and unet.config.in_channels == 8
    noisy, image = shown["sample"][:, :4], shown["sample"][:, 5:] / scale
    after = run(unet, **shown | {"sample": torch.cat([noisy, image], 1)})
    assert torch.allclose(after, before, atol=1e-5)
    assert not start_instructions(sdxl_like(), "zero").conv_in.weight[:, 4:].any()
    assert not start_instructions(sd15_like()).conv_in.weight[:, 4:].any()
    with pytest.raises(BackboneError, match="no masked image"):
        start_instructions(sd15_like(), "masked_image")
    with pytest.raises(BackboneError, match="unknown"):
        start_instructions(sd15_like(), "ones")  # type: ignore[arg-type]


def test_the_published_layout_loads_unchanged(tmp_path: Path) -> None:
    pipe = published_layout(tmp_path / "add-base", safety_checker=True)
    loaded = load_instruct_model(tmp_path / "add-base")
    assert loaded.kind == "instruct" and loaded.text_encoder_2 is None and loaded.tokenizer_2 is None
    assert not loaded.has_size_conditioning and not loaded.force_zeros_for_empty_prompt
    assert set(loaded.modules()) == {"vae", "unet", "text_encoder"} and len(loaded.hash) == 64
    for key, value in pipe.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[key], value)
    with pytest.raises(BackboneError, match="one text tower"):
        loaded.text_embeddings(["a mug"])
    with pytest.raises(BackboneError, match="`add`"):
        load_backbone(tmp_path / "add-base")


def test_a_four_channel_model_is_a_base_but_no_instruction_model(tmp_path: Path) -> None:
    published_layout(tmp_path / "sd", channels=4)
    with pytest.raises(BackboneError, match="takes 4 channels, not the 8"):
        load_instruct_model(tmp_path / "sd")
    base = load_instruct_base(tmp_path / "sd")
    assert base.kind == "latent"
    assert start_instructions(base.unet).config.in_channels == 8 and base.kind == "instruct"


def test_an_eight_channel_two_tower_folder_loads_and_is_no_inpainting_model(tmp_path: Path) -> None:
    model = two_tower_model()
    save_tiny(model, tmp_path / "m")
    loaded = load_instruct_model(tmp_path / "m")
    assert loaded.kind == "instruct" and loaded.has_size_conditioning and loaded.force_zeros_for_empty_prompt
    assert torch.equal(run(loaded.unet), run(model.unet))
    with pytest.raises(BackboneError, match="`add`") as caught:
        load_backbone(tmp_path / "m")
    assert "\n" not in str(caught.value)
    save_tiny(tiny_backbone(image_encoder=False), tmp_path / "nine")
    assert load_backbone(tmp_path / "nine").kind == "inpaint"
    with pytest.raises(BackboneError, match="takes 9 channels, not the 8"):
        load_instruct_model(tmp_path / "nine")


# The difference to a base model


@pytest.fixture
def base(tmp_path: Path) -> Backbone:
    save_tiny(tiny_backbone(), tmp_path / "base")
    return load_backbone(tmp_path / "base")


def trained(base: Backbone) -> tuple[Any, list[str]]:
    """A U-Net of which all but one block moved, by amounts that float16 holds."""
    unet = start_instructions(copy.deepcopy(base.unet))
    names = [name for name, _ in unet.named_parameters() if not name.startswith("mid_block.resnets")]
    kept = {name: value.clone() for name, value in unet.state_dict().items()}
    randomised(unet)
    with torch.no_grad():
        for name, value in unet.state_dict().items():
            value.copy_(value.half() if name in names else kept[name])
    return unet, names


def test_the_small_layout_brings_the_model_back(base: Backbone, tmp_path: Path) -> None:
    unet, names = trained(base)
    folder = tmp_path / "models" / "add"
    folder.mkdir(parents=True)
    (folder / "old").write_text("old")
    with pytest.raises(BackboneError, match="no model that was trained here"):
        save_instruct_model(folder, unet, base, names, {})
    assert (folder / "old").read_text() == "old"
    (folder / "old").unlink()
    save_instruct_model(folder, unet, base, names, {})
    (folder / "old").write_text("old")
    save_instruct_model(folder, unet, base, names, {"name": "add", "license": "Apache-2.0"})
    assert sorted(p.name for p in folder.parent.iterdir()) == ["add"] and not (folder / "old").exists()
    assert json.loads((folder / "model_card.json").read_text())["name"] == "add"
    assert not any(str(base.path) in path.read_text() for path in folder.rglob("*.json"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["base_hash"] == base.hash and not Path(index["base"]).is_absolute()
    stored = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
    assert stored < 2 * sum(p.numel() for p in unet.parameters())  # the block that stood still is not there
    for loaded in (load_instruct_model(folder), load_instruct_model(folder, base=base)):
        assert loaded.kind == "instruct" and loaded.hash == model_hash(folder) and loaded.name == "add"
        assert all(torch.equal(loaded.unet.state_dict()[key], value) for key, value in unet.state_dict().items())
        assert not any(p.requires_grad for p in loaded.unet.parameters())
    assert loaded.vae is base.vae and base.unet.config.in_channels == 9
    assert loaded.background_prompt == base.background_prompt
    for load in (load_backbone, load_instruct_base):
        with pytest.raises(BackboneError):
            load(folder)


def test_a_base_in_a_folder_with_a_catalog_name_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tiny_backbone(2), tmp_path / "miniature")
    namesake = load_backbone(tmp_path / "miniature")
    save_instruct_model(tmp_path / "add", *_swap(trained(namesake), namesake), {})
    assert json.loads((tmp_path / "add" / "model_index.json").read_text())["base"] == "../miniature"
    assert load_instruct_model(tmp_path / "add").kind == "instruct"
    assert namesake.known_as == str(tmp_path / "miniature") and namesake.licence is None
    with pytest.raises(BackboneError, match=r"has an inpaint head.* like sdxl"):
        load_instruct_base(with_fooocus(tmp_path, monkeypatch))


def test_a_single_file_is_a_base(tmp_path: Path) -> None:
    file = write_layout("sdxl-file", tmp_path)
    assert load_instruct_base(file).kind == "latent" and load_instruct_base(file).known_as == file
    with pytest.raises(BackboneError, match="takes 4 channels, not the 8"):
        load_instruct_model(file)


def with_fooocus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INTARSIA_MODELS", str(folder / "models"))
    return write_layout("sdxl-file+fooocus", folder)


def test_a_base_with_an_adapter_in_it_is_refused(base: Backbone, tmp_path: Path) -> None:
    save_instruct_model(tmp_path / "add", *_swap(trained(base), base), {})
    with SubjectLora().inject(base.unet), pytest.raises(BackboneError, match="eject it"):
        load_instruct_model(tmp_path / "add", base=base)
    assert load_instruct_model(tmp_path / "add", base=base).kind == "instruct"


def test_another_base_is_refused(base: Backbone, tmp_path: Path) -> None:
    save_instruct_model(tmp_path / "add", *_swap(trained(base), base), {})
    before = model_hash(tmp_path / "add")
    save_tiny(tiny_backbone(1), tmp_path / "base")
    with pytest.raises(BackboneError, match=r"made for another.*train it anew"):
        load_instruct_model(tmp_path / "add")
    index = json.loads((tmp_path / "add/model_index.json").read_text())
    (tmp_path / "add/model_index.json").write_text(json.dumps(index | {"base_hash": model_hash(tmp_path / "base")}))
    assert model_hash(tmp_path / "add") != before
    (tmp_path / "add/model_index.json").write_text(json.dumps({"_class_name": index["_class_name"]}))
    with pytest.raises(BackboneError, match="names no base"):
        load_instruct_model(tmp_path / "add")


def test_what_is_saved_must_be_the_whole_difference(base: Backbone, tmp_path: Path) -> None:
    unet, names = trained(base)
    with pytest.raises(BackboneError, match="1 parameters differ"):
        save_instruct_model(tmp_path / "add", unet, base, [n for n in names if n != "conv_out.bias"], {})
    with pytest.raises(BackboneError, match=r"not\.a\.name"):
        save_instruct_model(tmp_path / "add", unet, base, [*names, "not.a.name"], {})
    with pytest.raises(BackboneError, match="9 channels cannot be saved"):
        save_instruct_model(tmp_path / "add", base.unet, base, names, {})
    assert not (tmp_path / "add").exists() and not (tmp_path / "add.new").exists()


def test_weights_that_do_not_fit_are_refused(base: Backbone, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_instruct_model(tmp_path / "add", *_swap(trained(base), base), {})
    (file,) = (tmp_path / "add/unet").glob("*.safetensors")
    values = load_file(file)
    save_file({k: v for k, v in values.items() if k != "conv_in.weight"}, file)
    with pytest.raises(BackboneError, match="do not fit"):
        load_instruct_model(tmp_path / "add")
    save_file(values | {"conv_out.bias": torch.zeros(7)}, file)
    with pytest.raises(BackboneError, match=r"conv_out\.bias"):
        load_instruct_model(tmp_path / "add")
    file.write_bytes(b"broken")
    with pytest.raises(BackboneError, match="cannot be read"):
        load_instruct_model(tmp_path / "add")
    config = tmp_path / "add/unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"norm_eps": 1.0}))
    with pytest.raises(BackboneError, match="norm_eps"):
        load_instruct_model(tmp_path / "add")


def _swap(made: tuple[Any, list[str]], base: Backbone) -> tuple[Any, Backbone, list[str]]:
    return made[0], base, made[1]


def test_the_catalog_knows_the_two_models() -> None:
    assert catalog["miniature-add"].inpaint == catalog["pipe-add"].inpaint == "none"
    assert "undeclared" in catalog["pipe-add"].licence and "OpenRAIL" in catalog["pipe-add"].licence
    with pytest.raises(MissingWeightsError, match="intarsia models fetch pipe-add"):
        find_model("pipe-add")


def test_sources_are_the_unscaled_mode() -> None:
    model = two_tower_model()
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        mode = model.vae.encode(images).latent_dist.mode()
        torch.testing.assert_close(model.encode_source(images), mode)
        torch.testing.assert_close(model.source_from_latents(model.encode(images)), mode)
