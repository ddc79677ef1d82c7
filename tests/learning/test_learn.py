from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest_tiny import tiny_backbone
from tests.learning.helpers import NoisePainter, SaysRed, some_photos

from intarsia.backbones import Backbone
from intarsia.errors import IntarsiaWarning, OutputError
from intarsia.imaging import Picture
from intarsia.learning import (
    LearnConfig,
    LearningError,
    LearnProgress,
    ResumeError,
    Subject,
    learn_subject,
)
from intarsia.perception import NamerError, YamlNamer

pytestmark = pytest.mark.filterwarnings("ignore::intarsia.conditioning.PromptTruncatedWarning")

SMOKE = LearnConfig.preset("smoke", gate_margin=-2.0)


def learn(
    config: LearnConfig = SMOKE,
    folder: Path | None = None,
    backbone: Backbone | None = None,
    painter: Any = None,
    **options: Any,
) -> Subject:
    return learn_subject(
        tiny_backbone(prediction_type="v_prediction") if backbone is None else backbone,
        some_photos(),
        "duck",
        NoisePainter() if painter is None else painter,
        config,
        namer=options.pop("namer", SaysRed()),
        work_folder=folder,
        **options,
    )


def same(first: Subject, second: Subject) -> bool:
    return set(first.lora) == set(second.lora) and all(
        torch.equal(value, second.lora[key]) for key, value in first.lora.items()
    )


def interrupting(step: int, interrupt: Callable[[], None]) -> Callable[[LearnProgress], None]:
    def report(progress: LearnProgress) -> None:
        if progress.phase == "train" and progress.step == step:
            interrupt()

    return report


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def test_the_whole_way(tmp_path: Path) -> None:
    backbone, painter, seen = tiny_backbone(prediction_type="v_prediction"), NoisePainter(), []
    before = {key: value.clone() for key, value in backbone.unet.state_dict().items()}
    frozen = [parameter.requires_grad for parameter in backbone.unet.parameters()]
    learned = learn(SMOKE, tmp_path / "work", backbone, painter, progress=seen.append)
    # The backbone is as it was, and the subject is not nothing.
    after = backbone.unet.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[key], value) for key, value in before.items())
    assert [parameter.requires_grad for parameter in backbone.unet.parameters()] == frozen
    assert all(parameter.grad is None for parameter in backbone.unet.parameters())
    assert any(value.abs().max() > 0 for key, value in learned.lora.items() if "lora_B" in key)
    assert learned.steps_done == 4 and learned.base_hash == backbone.hash and learned.preset == "smoke"
    assert learned.dictionary.kinds == {"colour": ("red",), "material": ("clay",)}
    assert learned.photo_hashes == some_photos().hashes
    # Progress tells every phase, in order, each to its end.
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["name", "paint", "encode", "train", "done"]
    losses = [progress.loss for progress in seen if progress.phase == "train"]
    assert len(losses) == 4 and all(loss is not None and loss > 0 for loss in losses)
    # The work folder holds what a user may want to look at.
    lines = [json.loads(line) for line in (tmp_path / "work" / "manifest.jsonl").read_text().splitlines()]
    assert [(line["prompt"], line["seed"]) for line in lines] == painter.asked and len(lines) == 3
    for line, (scene, mask) in zip(lines, painter.scenes, strict=True):
        picture = Picture.load(tmp_path / "work" / line["file"]).rgb()
        drawn = Picture.load(tmp_path / "work" / line["file"].replace(".png", "-mask.png")).luma() > 0.5
        assert np.array_equal(drawn, mask) and np.abs(picture - scene)[~mask].max() < 1 / 255
        x, y, width, height = line["mask_box"]
        assert mask[y : y + height, x : x + width].any(axis=0).all() and mask.sum() <= width * height
        assert line["kept"] and isinstance(line["similarity"], float)
    attributes = YamlNamer(tmp_path / "work" / "dictionary.yaml").name([], [], "")
    assert attributes == {"colour": ["red"], "material": ["clay"]}
    with Image.open(tmp_path / "work" / "preview.png") as sheet:
        assert np.asarray(sheet).std() > 10


def test_the_same_call_gives_the_same_subject_and_another_seed_another() -> None:
    first = learn()
    assert same(first, learn())
    assert not same(first, learn(dataclasses.replace(SMOKE, seed=1)))


def test_settings_reach_the_loss() -> None:
    base = learn()
    for change in (
        {"beta": 0.8},
        {"weight_object": 2.0},
        {"weight_background": 0.2},
        {"loss_space": "velocity"},
        {"prior": "share"},
        {"sample_posterior": False},
        {"stratified_timesteps": False},
        {"named_share": 1.0},
        {"regular_prompts_with_token": True},
    ):
        assert not same(base, learn(dataclasses.replace(SMOKE, **change))), change


def test_lora_targets_rank_and_alpha() -> None:
    learned = learn(dataclasses.replace(SMOKE, rank=2, alpha=8.0, targets=("to_k", "to_v", "to_out.0")))
    assert learned.rank == 2 and learned.alpha == 8.0 and learned.adapter().alpha == 8.0
    assert any(".to_out.0.lora_A" in key for key in learned.lora)
    assert {value.shape[0] for key, value in learned.lora.items() if "lora_A" in key} == {2}


def test_learning_lowers_the_loss_on_what_it_sees() -> None:
    seen: list[float] = []
    config = dataclasses.replace(SMOKE, steps=60, batch=4, learning_rate=0.02, regular_images=0, loss_space="velocity")
    learn(config, progress=lambda p: seen.append(p.loss) if p.loss is not None else None)
    assert np.mean(seen[-15:]) < 0.97 * np.mean(seen[:15])


def test_four_and_four_steps_are_eight(tmp_path: Path) -> None:
    config = dataclasses.replace(SMOKE, steps=8, refresh=3)
    whole = learn(config)
    assert learn(dataclasses.replace(config, steps=4), tmp_path / "a").steps_done == 4
    painter, seen = NoisePainter(), []
    resumed = learn(config, tmp_path / "a", painter=painter, progress=seen.append)
    assert resumed.steps_done == 8 and same(whole, resumed)
    assert painter.asked == []  # the regular images were there already
    assert [p.step for p in seen if p.phase == "train"] == [5, 6, 7, 8]
    whole.save(tmp_path / "whole.safetensors")
    resumed.save(tmp_path / "resumed.safetensors")
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "resumed.safetensors").read_bytes()


@pytest.mark.parametrize("interrupt", [press_ctrl_c, lambda: os.kill(os.getpid(), signal.SIGINT)])
def test_ctrl_c_saves_what_there_is_and_resumes_exactly(tmp_path: Path, interrupt: Callable[[], None]) -> None:
    config = dataclasses.replace(SMOKE, steps=6, regular_images=0)
    seen: list[LearnProgress] = []
    handler = signal.getsignal(signal.SIGINT)

    def report(progress: LearnProgress) -> None:
        seen.append(progress)
        interrupting(2, interrupt)(progress)

    early = learn(config, tmp_path / "a", progress=report)
    assert early.steps_done == 2 and seen[-1].message == "stopped after 2 of 6 steps"
    assert signal.getsignal(signal.SIGINT) is handler
    early.save(tmp_path / "early.safetensors")
    assert Subject.load(tmp_path / "early.safetensors").steps_done == 2
    assert same(early, learn(dataclasses.replace(config, steps=2)))
    assert same(learn(config, tmp_path / "a"), learn(config))


def test_an_error_in_the_middle_leaves_the_backbone_whole() -> None:
    backbone = tiny_backbone()
    before = [(name, id(module)) for name, module in backbone.unet.named_modules()]

    def fail() -> None:
        raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        learn(SMOKE, backbone=backbone, progress=interrupting(2, fail))
    assert [(name, id(module)) for name, module in backbone.unet.named_modules()] == before


def test_a_checkpoint_of_another_run_is_refused_or_ignored(tmp_path: Path) -> None:
    learn(SMOKE, tmp_path)
    other = dataclasses.replace(SMOKE, learning_rate=5e-4)
    with pytest.raises(ResumeError, match=r"checkpoint\.pt.*resume=False"):
        learn(other, tmp_path)
    assert same(learn(dataclasses.replace(other, resume=False), tmp_path), learn(other))
    (tmp_path / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(ResumeError, match="cannot be read"):
        learn(other, tmp_path)


def test_a_work_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="work folder"):
        learn(SMOKE, tmp_path / "file")


def flat(values: np.ndarray) -> np.ndarray:
    return np.full_like(values, 0.5)


def test_gates_drop_what_is_flat_or_unlike_and_keep_a_third_with_a_warning(tmp_path: Path) -> None:
    def reasons() -> list[str]:
        return [json.loads(line)["reason"] for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]

    with pytest.warns(IntarsiaWarning, match="none of the 4 regular images"):
        learn(dataclasses.replace(SMOKE, regular_images=4), tmp_path, painter=NoisePainter(flat))
    assert sorted(reasons()) == ["", "", "flat", "flat"]
    for file in (tmp_path / "regular").iterdir():
        file.unlink()
    with pytest.warns(IntarsiaWarning, match="the best 1 are used"):
        learn(dataclasses.replace(SMOKE, gate_margin=3.0, resume=False), tmp_path)
    assert sorted(reasons()) == ["", "unlike its prompt", "unlike its prompt"]
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["similarity"])
    assert best["kept"]


def test_a_painter_that_gives_nan_or_another_size() -> None:
    with pytest.raises(LearningError, match="not finite"):
        learn(painter=NoisePainter(lambda values: values * np.nan))
    with pytest.raises(LearningError, match="keep the size"):
        learn(painter=NoisePainter(lambda values: values[1:]))


def test_without_regular_images_the_painter_rests() -> None:
    for change in ({"regular_images": 0}, {"beta": 0.0}):
        painter = NoisePainter()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert learn(dataclasses.replace(SMOKE, **change), painter=painter).steps_done == 4
        assert painter.asked == []


def test_what_is_missing_is_said() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("it came before the refusal")

    with pytest.raises(LearningError, match="class noun"):
        learn_subject(tiny_backbone(), some_photos(), " ", NoisePainter(), SMOKE)
    blind = tiny_backbone(image_encoder=False)
    with pytest.raises(NamerError, match="yaml:PATH"):
        learn(SMOKE, backbone=blind, namer=None)
    assert learn(SMOKE, backbone=blind).steps_done == 4  # with a namer of its own; similarities are not judged
    with pytest.raises(LearningError, match="float16"):
        half = tiny_backbone()
        half.unet.half()
        learn(backbone=half, painter=never, namer=never)


def test_room_is_asked_for_first_and_with_the_other_parts_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = sys.modules[learn_subject.__module__]
    parked: list[bool] = []

    @contextlib.contextmanager
    def park(backbone: Backbone) -> Iterator[None]:
        parked.append(True)
        yield

    def full(backbone: Backbone, config: LearnConfig) -> None:
        assert parked == [True]
        raise LearningError("no room")

    monkeypatch.setattr(module, "_others_parked", park)
    monkeypatch.setattr(module, "require_room", full)
    with pytest.raises(LearningError, match="no room"):
        learn(painter=lambda *_: pytest.fail("it painted before"))


def test_a_loss_that_is_not_finite_stops() -> None:
    broken = tiny_backbone()
    with torch.no_grad():
        broken.unet.conv_out.bias.fill_(torch.nan)
    with pytest.raises(LearningError, match="the loss is nan at step 0"):
        learn(SMOKE, backbone=broken)


def test_bfloat16_and_gradient_checkpointing_work() -> None:
    backbone = tiny_backbone()
    for module in backbone.modules().values():
        module.to(torch.bfloat16)
    learned = learn(dataclasses.replace(SMOKE, regular_images=0), backbone=backbone)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in learned.lora.values())
    plain = learn()
    less_memory = learn(dataclasses.replace(SMOKE, gradient_checkpointing=True))
    assert all(torch.allclose(plain.lora[key], value, atol=1e-6) for key, value in less_memory.lora.items())
