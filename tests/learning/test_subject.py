from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.conftest_tiny import tiny_backbone

from intarsia.adapters import (
    AdapterFileError,
    LoraModules,
    SubjectLora,
    load_lora,
    read_lora,
    save_lora,
    write_lora,
)
from intarsia.errors import OutputError, OutputExistsError
from intarsia.learning import AttributeDictionary, OtherBaseError, Subject, SubjectError


def subject(rank: int = 2, alpha: float = 3.0) -> Subject:
    backbone = tiny_backbone()
    lora = SubjectLora(rank, alpha, seed=4)
    with lora.inject(backbone.unet):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in lora.trainable_parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return Subject(
        class_noun="alarm clock",
        token="sks",
        dictionary=AttributeDictionary({"colour": ("blue",), "pattern": ("white stripes",)}, "alarm clock"),
        lora=lora.state_dict(),
        rank=rank,
        alpha=alpha,
        base_name=backbone.name,
        base_hash=backbone.hash,
        licence="Apache-2.0",
        preset="smoke",
        photo_hashes=("a" * 64, "b" * 64),
        steps_done=7,
    )


def test_a_file_brings_everything_back(tmp_path: Path) -> None:
    before = subject()
    before.save(tmp_path / "clock.safetensors")
    after = Subject.load(tmp_path / "clock.safetensors")
    for field in dataclasses.fields(Subject):
        if field.name != "lora":
            assert getattr(after, field.name) == getattr(before, field.name), field.name
    assert set(after.lora) == set(before.lora)
    assert all(torch.equal(after.lora[key], value) for key, value in before.lora.items())
    assert {"intarsia", "torch", "diffusers"} <= set(after.created_with)


def test_the_file_has_diffusers_keys_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        subject().save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(str(tmp_path / "a.safetensors"), framework="pt") as stream:
        keys = list(stream.keys())
        metadata = stream.metadata()
    assert all(key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys)
    assert any(".attn2.to_k.lora_A.weight" in key for key in keys)
    assert metadata["class_noun"] == "alarm clock" and "lora_adapter_metadata" in metadata


def test_the_adapter_keeps_alpha(tmp_path: Path) -> None:
    subject().save(tmp_path / "clock.safetensors")
    unet = tiny_backbone().unet
    with Subject.load(tmp_path / "clock.safetensors").adapter().inject(unet):
        layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
        assert layer.scaling == {"subject": 1.5}


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "clock.safetensors"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        subject().save(path)
    assert path.read_text() == "mine"
    subject().save(path, overwrite=True)
    assert Subject.load(path).class_noun == "alarm clock"
    with pytest.raises(OutputError):
        subject().save(tmp_path / "nowhere" / "clock.safetensors")


def test_files_that_are_no_subjects(tmp_path: Path) -> None:
    path = tmp_path / "clock.safetensors"
    with pytest.raises(AdapterFileError):
        Subject.load(path)
    subject().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(AdapterFileError):
        Subject.load(path)
    path.write_bytes(whole)
    state, metadata = load_lora(path)
    save_lora(path, state, {"format": "pt"})
    with pytest.raises(SubjectError, match="no subject file"):
        Subject.load(path)
    for key in ("class_noun", "base", "dictionary", "steps_done"):
        save_lora(path, state, {name: value for name, value in metadata.items() if name != key})
        with pytest.raises(SubjectError, match="damaged"):
            Subject.load(path)
    save_lora(path, state, {**metadata, "dictionary": '{"mood": ["sad"]}'})
    with pytest.raises(SubjectError, match="damaged"):
        Subject.load(path)


def test_a_converted_subject_says_what_it_is_and_comes_back(tmp_path: Path) -> None:
    modules, files = LoraModules.of(tiny_backbone().modules()), [tmp_path / f"{n}.safetensors" for n in range(3)]
    subject().save(files[0])
    for source, target, form in zip(files[:2], files[1:], ("kohya", "diffusers"), strict=True):
        save_lora(target, *write_lora(read_lora(source, modules), form, modules))  # type: ignore[arg-type]
    with pytest.raises(SubjectError, match=r"another tool's format: use it with --lora, or .*--to diffusers") as caught:
        Subject.load(files[1])
    assert "damaged" not in str(caught.value)
    back = Subject.load(files[2])
    assert back.alpha == 3.0 and all(torch.equal(back.lora[key], value) for key, value in subject().lora.items())
    save_lora(files[1], {"lora_unet_x.lora_down.weight": torch.ones(2, 2)}, {})
    with pytest.raises(SubjectError, match="--lora"):
        Subject.load(files[1])


def test_another_base_is_refused_naming_both() -> None:
    learned, other = subject(), dataclasses.replace(tiny_backbone(seed=1), name="other")
    learned.require_base(tiny_backbone())
    with pytest.raises(OtherBaseError) as caught:
        learned.require_base(other)
    for words in ("'tiny'", "'other'", learned.base_hash[:12], other.hash[:12]):
        assert words in str(caught.value)


def test_its_words() -> None:
    learned = subject()
    assert learned.prompt_with_token("a red alarm clock") == "a sks red alarm clock"
    assert learned.conflicts("a sks red alarm clock") == ["blue"]
    assert learned.conflicts("a sks alarm clock with white dots") == ["stripes"]
    assert "lora=" not in repr(learned)
