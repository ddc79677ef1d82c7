from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from tests.conftest_tiny import tiny_backbone

from intarsia.adapters import (
    AdapterError,
    AdapterFileError,
    AdapterKeyError,
    SubjectLora,
    from_diffusers,
    load_lora,
    save_lora,
    to_diffusers,
)
from intarsia.errors import DiskFullError


def run(unet: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 9, 8, 8, generator=generator)
    text = torch.randn(2, 24, 40, generator=generator)
    added = {"text_embeds": torch.randn(2, 24, generator=generator), "time_ids": torch.full((2, 6), 64.0)}
    with torch.no_grad():
        return unet(sample, 500, encoder_hidden_states=text, added_cond_kwargs=added).sample


def fingerprint(
    unet: torch.nn.Module,
) -> tuple[list[tuple[str, type, int, bool]], dict[str, torch.Tensor], dict[str, bool]]:
    tree = [(name, type(module), id(module), module.training) for name, module in unet.named_modules()]
    state = {key: value.clone() for key, value in unet.state_dict().items()}
    return tree, state, {name: parameter.requires_grad for name, parameter in unet.named_parameters()}


def randomised(lora: SubjectLora) -> SubjectLora:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in lora.trainable_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return lora


@pytest.mark.parametrize("targets", [("to_k", "to_v"), ("to_k", "to_v", "to_out.0")])
def test_eject_leaves_no_trace(targets: tuple[str, ...]) -> None:
    unet = tiny_backbone().unet
    unet.conv_in.requires_grad_(True)
    unet.mid_block.train()
    before, attributes, output = fingerprint(unet), set(vars(unet)), run(unet)
    lora = randomised(SubjectLora(targets=targets).inject(unet))
    assert not torch.allclose(run(unet), output)
    lora.eject(unet)
    after = fingerprint(unet)
    assert after[0] == before[0] and after[2] == before[2]
    assert all(torch.equal(after[1][key], value) for key, value in before[1].items()) and len(
        after[1]
    ) == len(before[1])
    assert set(vars(unet)) == attributes
    assert torch.equal(run(unet), output)


def test_targets_are_keys_and_values_of_all_attentions() -> None:
    unet = tiny_backbone().unet
    attentions = [name for name, _ in unet.named_modules() if name.endswith((".attn1", ".attn2"))]
    lora = SubjectLora().inject(unet)
    assert set(from_diffusers(lora.state_dict())) == {
        f"{name}.{target}.{part}"
        for name in attentions
        for target in ("to_k", "to_v")
        for part in ("down", "up")
    }
    trainable = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    assert {id(p) for p in trainable} == {id(p) for p in lora.trainable_parameters()}


def test_new_adapter_changes_nothing_and_gradients_reach_it() -> None:
    unet = tiny_backbone().unet
    plain = run(unet)
    lora = SubjectLora(seed=3).inject(unet)
    torch.testing.assert_close(run(unet), plain, atol=1e-6, rtol=0)
    sample, text = torch.randn(1, 9, 8, 8), torch.randn(1, 24, 40)
    added = {"text_embeds": torch.randn(1, 24), "time_ids": torch.full((1, 6), 64.0)}
    unet(sample, 10, encoder_hidden_states=text, added_cond_kwargs=added).sample.square().mean().backward()
    ups = [p.grad for p in lora.trainable_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(ups) == len(lora.trainable_parameters()) // 2


def test_seed_decides_the_start_whatever_the_global_state() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(states))
        states.append(SubjectLora(seed=seed).inject(tiny_backbone().unet).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_scale_and_alpha_are_factors_of_the_change() -> None:
    unet = tiny_backbone().unet
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    x = torch.randn(1, 3, 40)
    plain = unet.get_submodule(layer)(x)
    lora = randomised(SubjectLora(rank=2, alpha=6.0).inject(unet))
    state = from_diffusers(lora.state_dict())
    change = x @ state[f"{layer}.down"].T @ state[f"{layer}.up"].T
    for scale in (1.0, 0.25, 0.0):
        lora.scale = scale
        torch.testing.assert_close(
            unet.get_submodule(layer)(x) - plain, 3.0 * scale * change, atol=1e-4, rtol=1e-4
        )


def test_weights_outlive_ejection_and_the_block() -> None:
    unet = tiny_backbone().unet
    lora = SubjectLora()
    with lora.inject(unet):
        randomised(lora)
        output, state = run(unet), lora.state_dict()
    assert not lora.injected and all(
        torch.equal(state[key], value) for key, value in lora.state_dict().items()
    )
    with lora.inject(unet):
        assert torch.equal(run(unet), output)


def test_a_half_precision_unet_is_adapted_in_full_precision() -> None:
    unet = tiny_backbone().unet.to(torch.bfloat16)
    lora = randomised(SubjectLora().inject(unet))
    assert {parameter.dtype for parameter in lora.trainable_parameters()} == {torch.float32}
    layer = unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    assert layer(torch.randn(1, 3, 40, dtype=torch.bfloat16)).dtype is torch.bfloat16
    lora.eject()
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.bfloat16}


def test_the_block_ejects_on_an_error() -> None:
    unet = tiny_backbone().unet
    before = fingerprint(unet)[0]
    with pytest.raises(RuntimeError, match="boom"), SubjectLora().inject(unet):
        raise RuntimeError("boom")
    assert fingerprint(unet)[0] == before


def test_file_round_trip_keeps_alpha_and_output(tmp_path: Path) -> None:
    unet = tiny_backbone().unet
    lora = randomised(SubjectLora(rank=2, alpha=5.0, targets=("to_k", "to_v", "to_out.0")).inject(unet))
    output, state = run(unet), lora.state_dict()
    save_lora(tmp_path / "s.safetensors", state, {**lora.metadata(), "class": "teapot"})
    lora.eject()
    loaded, metadata = load_lora(tmp_path / "s.safetensors")
    assert metadata["class"] == "teapot"
    again = SubjectLora.from_state(loaded, metadata)
    assert (again.rank, again.alpha, set(again.targets)) == (2, 5.0, {"to_k", "to_v", "to_out.0"})
    with again.inject(unet):
        torch.testing.assert_close(run(unet), output, atol=1e-6, rtol=0)
    assert os.listdir(tmp_path) == ["s.safetensors"]


def test_diffusers_reads_our_file_with_the_same_effect(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionXLInpaintPipeline

    backbone = tiny_backbone()
    lora = randomised(SubjectLora(rank=2, alpha=5.0).inject(backbone.unet))
    output = run(backbone.unet)
    save_lora(tmp_path / "s.safetensors", lora.state_dict(), lora.metadata())
    lora.eject()
    pipe = StableDiffusionXLInpaintPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        text_encoder_2=backbone.text_encoder_2,
        tokenizer=backbone.tokenizer,
        tokenizer_2=backbone.tokenizer_2,
        unet=backbone.unet,
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )
    pipe.load_lora_weights(str(tmp_path), weight_name="s.safetensors")
    torch.testing.assert_close(run(pipe.unet), output, atol=1e-5, rtol=0)


def test_keys_are_bijective_and_strict() -> None:
    state = SubjectLora().inject(tiny_backbone().unet).state_dict()
    back = to_diffusers(from_diffusers(state))
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    strange = {"unet.a.to_k.lora_magnitude_vector": torch.ones(1), "te.x.lora_A.weight": torch.ones(1)}
    with pytest.raises(AdapterKeyError) as caught:
        from_diffusers({**state, **strange})
    assert all(key in str(caught.value) for key in strange)


def test_every_missing_and_unused_key_is_listed() -> None:
    unet = tiny_backbone().unet
    lora = SubjectLora().inject(unet)
    state = lora.state_dict()
    lora.eject()
    module = next(iter(state)).removesuffix(".lora_A.weight")
    pair = {end: state.pop(module + end) for end in (".lora_A.weight", ".lora_B.weight")}
    state |= {"unet.nowhere.attn1.to_k" + end: value for end, value in pair.items()}
    before = fingerprint(unet)[0]
    with pytest.raises(AdapterKeyError) as caught:
        SubjectLora.from_state(state).inject(unet)
    message = str(caught.value)
    assert "nowhere.attn1.to_k.down" in message and f"{module.removeprefix('unet.')}.up" in message
    assert fingerprint(unet)[0] == before


def test_misuse_is_refused(tmp_path: Path) -> None:
    unet = tiny_backbone().unet
    with pytest.raises(AdapterError, match="rank 0"):
        SubjectLora(rank=0)
    with pytest.raises(AdapterError, match="conv_in"):
        SubjectLora(targets=["conv_in"])
    with pytest.raises(AdapterError, match="not injected"):
        SubjectLora().eject()
    with SubjectLora().inject(unet), pytest.raises(AdapterError, match="already carries"):
        SubjectLora().inject(unet)
    with pytest.raises(AdapterFileError, match="note"):
        save_lora(tmp_path / "s.safetensors", {"a": torch.ones(1)}, {"note": 3})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


def test_corrupt_truncated_missing_and_nan_files(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    with pytest.raises(AdapterFileError, match="not a file"):
        load_lora(path)
    save_lora(path, {"a": torch.ones(64)}, {})
    whole = path.read_bytes()
    for content in (b"", b"not safetensors at all", whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(AdapterFileError, match=r"s\.safetensors"):
            load_lora(path)
    save_lora(path, {"a": torch.tensor([float("nan")])}, {})
    with pytest.raises(AdapterFileError, match="finite"):
        load_lora(path)


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    path = tmp_path / "s.safetensors"
    save_lora(path, {"a": torch.ones(4)}, {"n": "1"})
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        save_lora(path, {"a": torch.zeros(4)}, {"n": "2"})
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["s.safetensors"]


def test_metadata_is_json_that_diffusers_understands() -> None:
    config = json.loads(SubjectLora(rank=2, alpha=3.0).metadata()["lora_adapter_metadata"])
    assert config["unet.r"] == 2 and config["unet.lora_alpha"] == 3.0


def test_the_same_weights_and_metadata_give_the_same_bytes(tmp_path: Path) -> None:
    state = {"unet.a.lora_A.weight": torch.ones(4, 8), "unet.b.lora_B.weight": torch.zeros(8, 4)}
    metadata = {f"key {n}": str(n) for n in range(12)}
    for name in ("one", "two"):
        save_lora(tmp_path / name, state, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    loaded, said = load_lora(tmp_path / "one")
    assert said == metadata and all(torch.equal(loaded[key], value) for key, value in state.items())
