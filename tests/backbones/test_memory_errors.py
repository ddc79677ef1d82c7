"""Too little memory is one line: before a model is loaded, while it paints or learns, on the command line."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.editing.conftest import noise_picture
from tests.learning.helpers import SaysRed, some_photos

from intarsia.backbones import (
    DeviceMemoryError,
    FreeMemory,
    MemoryPlan,
    UnknownModelError,
    apply_memory_plan,
    load_backbone,
    memory,
    no_memory_explained,
    parameter_count,
)
from intarsia.cli.common import guarded
from intarsia.editing import Studio
from intarsia.errors import IntarsiaWarning


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(tiny_backbone(), folder)
    return folder


def test_weights_that_exceed_the_free_memory_are_warned_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = 4 * parameter_count(folder)
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(wanted, 10 * wanted))
    with warnings.catch_warnings():
        warnings.simplefilter("error", IntarsiaWarning)
        Studio.load(folder, "cpu")
        with pytest.raises(UnknownModelError):
            Studio.load("no such model", "cpu")
    monkeypatch.setattr(memory, "free_memory", lambda device: FreeMemory(wanted - 1, 10 * wanted))
    with pytest.warns(IntarsiaWarning, match=r"GB in float32, and .* of ordinary memory is free: close other"):
        Studio.load(folder, "cpu")


CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.7 GiB"


@pytest.mark.parametrize(
    ("error", "mode", "words"),
    [
        (torch.OutOfMemoryError(CUDA), "full", r"^cuda ran .* while painting \(2.00 GiB more .* memory model or gro"),
        (torch.OutOfMemoryError(CUDA), "model", "or use memory group"),
        (torch.OutOfMemoryError(CUDA), "group", "or use device cpu"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "full", "^mps ran out .* or use device cpu"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 B"), "full", "^cpu ran out"),
        (MemoryError(), "full", "^cpu ran out of memory while painting: close"),
    ],
)
def test_painting_without_enough_memory_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, mode: Any, words: str
) -> None:
    backbone = apply_memory_plan(load_backbone(folder), MemoryPlan(mode))

    def fails(*_: Any) -> None:
        raise error

    backbone.unet.mid_block.register_forward_pre_hook(fails)
    with pytest.raises(DeviceMemoryError, match=words) as caught:
        Studio(backbone).insert(noise_picture(), box="20,16,30,30", prompt="a duck", steps=2)
    assert "\n" not in str(caught.value)


def test_learning_without_enough_memory_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intarsia.learning import trainer

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(trainer._Steps, "run", fails)
    with pytest.raises(DeviceMemoryError, match=r"while learning .*--memory.* batch=1 or gradient_checkpointing=True"):
        Studio.load(folder, "cpu").learn(some_photos(), "duck", preset="smoke", namer=SaysRed(), regular_images=0)


def test_other_errors_are_left_alone_and_what_the_work_held_is_let_go_of() -> None:
    with pytest.raises(RuntimeError, match="boom"), no_memory_explained("painting"):
        raise RuntimeError("boom")
    held: list[Any] = []

    def work() -> None:
        large = torch.zeros(3)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError(CUDA)

    with pytest.raises(DeviceMemoryError), no_memory_explained("painting"):
        work()
    assert held[0]() is None


def test_the_command_line_ends_in_one_line_where_memory_runs_out(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (torch.OutOfMemoryError(CUDA), MemoryError()):

        def fails(error: Exception = error) -> None:
            raise error

        with pytest.raises(typer.Exit) as ended:
            guarded(fails)()
        said = capsys.readouterr().err
        assert ended.value.exit_code == 2 and said.count("\n") == 1 and "ran out of memory while working" in said

    def other() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        guarded(other)()
