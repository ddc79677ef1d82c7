"""What training keeps, counted and real; learning under offload; checkpointing that changes no weight."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.memory_places import Places
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.learning.helpers import NoisePainter, SaysRed, some_photos

from intarsia.adapters import SubjectLora
from intarsia.backbones import (
    Backbone,
    FreeMemory,
    MemoryPlan,
    apply_memory_plan,
    bytes_of,
    load_backbone,
)
from intarsia.learning import LearnConfig, LearningError, learn_subject, memory, trainer
from intarsia.learning.memory import count_saved_bytes, require_room, wants_checkpointing

CONFIG = LearnConfig.preset("smoke", learning_rate=0.01, windows_per_photo=2, refresh=2)


def really_saved(dtype: torch.dtype, targets: tuple[str, ...], *, checkpointing: bool) -> int:
    """Bytes of the distinct storages that autograd keeps in a real run on the CPU, parameters aside."""
    unet = torch.nn.Module.to(tiny_backbone().unet, dtype)
    lora = SubjectLora(targets=targets).inject(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(dtype)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet(
            some(2, 9, 8, 16),
            torch.tensor([3, 500]),
            encoder_hidden_states=some(2, 77, 40),
            added_cond_kwargs={"text_embeds": some(2, 24), "time_ids": some(2, 6)},
        )
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    lora.eject()
    return sum(size for place, size in storages.items() if place not in parameters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("targets", "checkpointing"),
    [(("to_k", "to_v"), False), (("to_k", "to_v"), True), (("to_k", "to_v", "to_out.0"), False)],
)
def test_the_count_is_what_a_real_run_keeps(dtype: Any, targets: tuple[str, ...], checkpointing: bool) -> None:
    unet = tiny_backbone().unet
    counted = count_saved_bytes(unet, 2, 8, 16, dtype, targets, checkpointing=checkpointing)
    real = really_saved(dtype, targets, checkpointing=checkpointing)
    # In 16 bits a CPU keeps the statistics of layer norms in 16, CUDA and the count in 32.
    assert counted == real > 0 if dtype is torch.float32 else real <= counted < 1.004 * real
    assert not getattr(unet, "peft_config", None) and unet.dtype is torch.float32


def test_sdxl_keeps_what_is_written_of_it() -> None:
    from tests.backbones.test_memory import sdxl_unet

    unet, gib = sdxl_unet(), 2**30
    whole = count_saved_bytes(unet, 1, 128, 128, torch.bfloat16)
    assert whole == pytest.approx(5.68 * gib, rel=0.002)
    # 5.0 GiB without the float32 copies of what the float32 LoRA reads: keys' and values', of each self-attention.
    tokens = 10 * 64 * 64 * 640 + 60 * 32 * 32 * 1280
    assert whole - 2 * 4 * tokens == pytest.approx(4.9 * gib, rel=0.02)
    assert count_saved_bytes(unet, 1, 128, 128, torch.bfloat16, checkpointing=True) == pytest.approx(
        0.454 * gib, rel=0.005
    )
    assert count_saved_bytes(unet, 8, 128, 128, torch.bfloat16) == pytest.approx(45.4 * gib, rel=0.002)
    assert count_saved_bytes(unet, 8, 128, 128, torch.bfloat16, checkpointing=True) == pytest.approx(
        3.64 * gib, rel=0.005
    )
    paper = LearnConfig.preset("paper")
    assert paper.batch + paper.regular_batch == 8


def test_checkpointing_is_chosen_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    saved = count_saved_bytes(backbone.unet, 3, 8, 8, torch.float32)  # two samples and a regular one
    enough = int(1.1 * saved) + memory.MARGIN + 1
    assert not wants_checkpointing(backbone, CONFIG, enough) and wants_checkpointing(backbone, CONFIG, enough - 2)
    alone = LearnConfig.preset("smoke", regular_images=0)
    assert not wants_checkpointing(backbone, alone, enough - 2)
    for said in (True, False):
        config = LearnConfig.preset("smoke", gradient_checkpointing=said)
        assert wants_checkpointing(backbone, config, 0) is said
        assert config.fingerprint == LearnConfig.preset("smoke").fingerprint
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(0, 1))
    assert wants_checkpointing(backbone, CONFIG)
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(None, None))
    assert not wants_checkpointing(backbone, CONFIG)


def learned(backbone: Any, config: LearnConfig = CONFIG, folder: Path | None = None) -> dict[str, torch.Tensor]:
    photos = some_photos()
    return dict(
        learn_subject(backbone, photos, "duck", NoisePainter(), config, namer=SaysRed(), work_folder=folder).lora
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(tiny_backbone(), folder)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[str, torch.Tensor]:
    return learned(load_backbone(folder))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_checkpointing_trains_the_same_weights(
    folder: Path, plain: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[bool] = []
    real = trainer._checkpointing
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(1, 2))
    monkeypatch.setattr(trainer, "_checkpointing", lambda unet, wanted: called.append(wanted) or real(unet, wanted))
    assert same(learned(load_backbone(folder)), plain) and called == [True]


@pytest.mark.parametrize("mode", ["model", "group"])
def test_learning_under_offload_trains_the_same_weights(
    folder: Path, plain: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, mode: Any, tmp_path: Path
) -> None:
    Places().install(monkeypatch)
    backbone = apply_memory_plan(load_backbone(folder), MemoryPlan(mode))
    half = dataclasses.replace(CONFIG, steps=2)
    learned(backbone, half, tmp_path)
    assert same(learned(backbone, CONFIG, tmp_path), plain), "the second half is resumed"


def test_a_unet_that_cannot_be_whole_on_the_device_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = apply_memory_plan(load_backbone(folder), MemoryPlan("group"))
    weights = bytes_of(backbone.unet)
    least = count_saved_bytes(backbone.unet, 3, 8, 8, torch.float32, checkpointing=True)
    # One device stands for two here, so the weights count as being there.
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(least, weights))
    require_room(backbone, CONFIG)
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(least - 1, weights))
    painter = NoisePainter()
    with pytest.raises(LearningError, match="for the U-Net and one step") as error:
        learn_subject(backbone, some_photos(), "duck", painter, CONFIG, namer=SaysRed())
    assert painter.asked == []
    assert "\n" not in str(error.value)
    require_room(load_backbone(folder), CONFIG)


def test_a_model_that_is_all_on_a_gpu_needs_room_for_a_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(folder)
    least = count_saved_bytes(backbone.unet, 3, 8, 8, torch.float32, checkpointing=True)
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(least - 1, 10**9))
    require_room(backbone, CONFIG)
    monkeypatch.setattr(Backbone, "device", torch.device("cuda"))
    with pytest.raises(LearningError, match=r"of cuda memory for the U-Net and one step .* use memory model, a sm"):
        require_room(backbone, CONFIG)
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(least, 10**9))
    require_room(backbone, CONFIG)
