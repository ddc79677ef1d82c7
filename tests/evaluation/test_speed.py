"""The counts of the speed bench on small models, its clocks and ratios, and its run at SDXL's size made tiny."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.tiny_unets import fingerprint
from tests.conftest_tiny import tiny_backbone

from intarsia.evaluation import ResultsError
from intarsia.evaluation.speed import __main__ as command
from intarsia.evaluation.speed import sdxl as sdxl_bench
from intarsia.evaluation.speed.counting import counted_calls, dispatched, flops_of, prompt_projections, saved_bytes
from intarsia.evaluation.speed.counts import (
    calls_of_edits,
    edit_cost,
    operations_with_lora,
    part_costs,
    shape_counts,
    unet_inputs,
)
from intarsia.evaluation.speed.edits import Job, greatest_difference, one_window, stock, stock_pipeline, two_windows
from intarsia.evaluation.speed.pairs import Side, paired
from intarsia.evaluation.speed.ratios import ratios
from intarsia.evaluation.speed.sdxl import SdxlRun
from intarsia.evaluation.speed.sdxl_shape import SDXL, Shape, random_backbone, random_unet, random_vae
from intarsia.evaluation.speed.stages import STAGES, Clock, stage_seconds

TINY = Shape(
    name="tiny",
    side=64,
    window=24,
    unet=SDXL.unet
    | dict(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=40,
        attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 1),
        norm_num_groups=4,
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 24,
    ),
    vae=SDXL.vae | dict(sample_size=64, block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1),
    text=dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        vocab_size=900,
        max_position_embeddings=24,
    ),
    text_2=dict(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=24,
        vocab_size=900,
        max_position_embeddings=24,
    ),
)
"""The same classes and parts as SDXL's."""


@pytest.fixture(scope="module")
def model() -> Any:
    return random_backbone(TINY, "cpu", torch.float32)


def test_calls_are_those_of_the_story(model: Any) -> None:
    job, layers = Job(TINY.side, 5), len(prompt_projections(model.unet)) // 2
    calls = calls_of_edits(model, job)
    assert layers > 2
    assert calls["stock"] == Counter(unet=5, encoder=1, decoder=1, text=2, projection=5 * 2 * layers)
    assert calls["one_window"] == Counter(unet=5, encoder=1, decoder=1, text=2, projection=2 * layers)
    assert calls["one_window_forgetful"]["projection"] == 5 * 2 * layers
    assert calls["two_windows"] == Counter(unet=5, encoder=4, decoder=2, text=2, projection=2 * layers)


def test_what_is_compared_is_the_same_picture(model: Any) -> None:
    job = Job(TINY.side, 3)
    assert greatest_difference(model, stock_pipeline(model), job) <= 1e-4
    assert float(stock(stock_pipeline(model), job).std()) > 0.01


def test_costs_of_two_steps_and_of_three_tell_those_of_five(model: Any) -> None:
    job = Job(TINY.side, 5)
    cost = edit_cost(model, two_windows, job)
    with dispatched() as seen:
        two_windows(model, job)
    assert cost.flops(5) == flops_of(lambda: two_windows(model, job)) > 0
    assert cost.once.operations + 5 * cost.each.operations == seen.operations


def test_the_stock_pipeline_costs_its_calls(model: Any) -> None:
    job = Job(TINY.side, 4)
    pipe = stock_pipeline(model)
    with counted_calls(model) as calls:
        flops = flops_of(lambda: stock(pipe, job))
    assert part_costs(model, TINY).of_calls(calls) == flops


def test_weights_that_move_are_seen_again_and_again() -> None:
    layer, other = torch.nn.Linear(8, 16), torch.ones(5)
    with dispatched(layer) as seen:
        far = layer.to("meta")
        far.to("cpu")
        other.to("meta").to(torch.float16)
        _ = torch.empty(5, device="meta").copy_(other)
    assert seen.weight_bytes == 2 * 4 * (8 * 16 + 16)
    assert (seen.bytes_there, seen.bytes_back) == (2 * 5 * 4, 0)


def test_operations_of_a_fused_lora_are_those_of_no_lora() -> None:
    backbone = tiny_backbone(image_encoder=False)
    before = fingerprint(backbone.unet)
    counted = operations_with_lora(backbone)
    assert counted["fused"] == counted["plain"] < counted["unfused"]
    layers = sum(name.endswith("processor") for name in backbone.unet.attn_processors)
    assert counted["unfused"] - counted["plain"] >= 4 * 2 * layers  # two products, a scale and a sum
    assert fingerprint(backbone.unet) == before


def test_views_and_plain_work_are_told_apart() -> None:
    values = torch.ones(4, 6)
    with dispatched() as seen:
        values.view(2, 12).t().reshape(24)  # the last one copies
        _ = values + 1
    assert seen.operations == 2
    with dispatched() as seen:
        assert bool((torch.ones(2, device="meta") > 0).all())
    assert seen.syncs == 1


def test_saved_bytes_are_distinct_storages_without_weights() -> None:
    layer = torch.nn.Linear(8, 16, bias=False)
    values = torch.ones(4, 8, requires_grad=True)

    def forward() -> torch.Tensor:
        hidden = layer(values)
        return (hidden * hidden).exp()

    # The input, the hidden values (saved for two products and once kept), and the exponential's result.
    assert saved_bytes(forward, layer) == 4 * (4 * 8 + 4 * 16 + 4 * 16)


def test_sdxl_s_documented_costs() -> None:
    """TFLOP at 1024 pixels: 6.76 a call of the U-Net, 4.88 and 10.47 the VAE."""
    unet, vae = (make(SDXL, "meta", torch.bfloat16) for make in (random_unet, random_vae))
    arguments, named = unet_inputs(unet, SDXL.window, 1280, 1, "meta", torch.bfloat16)
    sizes = (1, 3, 1024, 1024), (1, 4, 128, 128)
    image, latents = (torch.zeros(*size, device="meta", dtype=torch.bfloat16) for size in sizes)
    with torch.no_grad():
        counted = [
            flops_of(lambda: unet(*arguments, **named)),
            flops_of(lambda: vae.encode(image)),
            flops_of(lambda: vae.decode(latents)),
        ]
    assert [flops / 1e12 for flops in counted] == pytest.approx([6.76, 4.88, 10.47], rel=0.01)
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684 + 5 * 320 * 9


def test_counts_of_a_shape_without_weights(model: Any) -> None:
    calls = {"stock": Counter(unet=4, encoder=1, decoder=1, text=2)}
    counts = list(shape_counts(TINY, calls, 4))
    value = {count.key.removeprefix("tiny_"): count.value for count in counts}
    assert len(value) == len(counts) > 20
    # An edit on the meta device does the work of one on the CPU, and moves no weights.
    here = flops_of(lambda: two_windows(model, Job(TINY.side, 4)))
    assert value["edit_two_windows_tflop"] * 1e12 == pytest.approx(here, rel=1e-12)
    assert value["edit_one_window_tflop"] < value["edit_stock_tflop"] < value["edit_two_windows_tflop"]
    assert value["moved_two_windows_weight_bytes"] == 0 < value["moved_two_windows_there_bytes"]
    picture = 3 * TINY.side**2 * 4  # of each window, in float32, to be pasted and to be kept
    assert 2 * picture <= value["moved_two_windows_back_bytes"] <= 4 * picture
    # After a window's last step, whether all predictions were finite; and once a window, if the mask is empty.
    assert (value["asked_one_window_numbers"], value["asked_two_windows_numbers"]) == (1, 2 + 2)
    assert value["step_one_window_operations"] < value["step_one_window_forgetful_operations"]
    # Checkpointing keeps less and works more.
    assert 0 < value["lora_saved_checkpointed_gib"] < value["lora_saved_gib"]
    assert value["lora_step_tflop"] < value["lora_step_checkpointed_tflop"] < 2 * value["lora_step_tflop"]


def test_pairs_go_there_and_back_and_give_ratios() -> None:
    order: list[str] = []

    def work(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            time.sleep(seconds)

        return run

    ratio = paired(Side("slow", work("a", 0.03)), Side("quick", work("b", 0.01)), 3)
    assert "".join(order) == "ab" + "abbaab"
    assert ratio.pairs == 3 and 1.5 < ratio.wall.median < 6
    assert ratio.wall.low <= ratio.wall.median <= ratio.wall.high
    with pytest.raises(ResultsError, match="0 pairs of runs give no ratio"):
        paired(Side("a", list), Side("b", list), 0)


def test_preparation_is_not_timed_and_is_undone() -> None:
    events: list[str] = []

    class Prepared:
        def __enter__(self) -> None:
            time.sleep(0.02)
            events.append("in")

        def __exit__(self, *_: Any) -> None:
            events.append("out")

    side = Side("prepared", lambda: events.append("work"), Prepared)
    ratio = paired(side, Side("nothing", lambda: None), 1)
    assert events == ["in", "work", "out"] * 2
    assert ratio.seconds[0] < 0.01


def test_other_pictures_are_not_compared(model: Any) -> None:
    with pytest.raises(ResultsError, match="their times cannot be compared"):
        next(ratios(model, Job(TINY.side, 2), pairs=1, tolerance=-1.0))


def test_stages_add_up(model: Any) -> None:
    clock, job = Clock("cpu"), Job(TINY.side, 4)
    whole = stage_seconds(model, clock, lambda: two_windows(model, job))
    assert set(whole) == set(STAGES) and all(value > 0 for value in whole.values())
    parts = sum(value for name, value in whole.items() if name != "whole")
    assert parts == pytest.approx(whole["whole"])
    single = stage_seconds(model, clock, lambda: one_window(model, job))
    assert single["denoise_local"] > 0 == single["denoise_global"]


def test_without_a_gpu_it_skips_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["speed", "--sdxl", "--output", str(tmp_path / "out.json")])
    command.main()
    told = capsys.readouterr().out
    assert told.startswith("bench-sdxl skipped: no CUDA device (") and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 << 30, 16 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a small card")
    assert sdxl_bench.why_not() == "12.0 GiB of a small card are free, and 32 GiB are needed"


def test_the_run_on_a_gpu_runs_at_tiny_size_on_a_cpu(
    model: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The whole command, its shape and device exchanged for small ones; the model is left as it was."""
    tiny = partial(SdxlRun, TINY, "cpu", "float32", short_steps=2, learning_steps=5, repeats=1)
    monkeypatch.setattr(sdxl_bench, "why_not", lambda: None)
    monkeypatch.setattr(sdxl_bench, "SdxlRun", tiny)
    monkeypatch.setattr(sdxl_bench, "random_backbone", lambda *_: model)
    output, before = tmp_path / "results" / "sdxl.json", fingerprint(model.unet)
    monkeypatch.setattr(sys, "argv", ["speed", "--sdxl", "--steps", "2", "--pairs", "1", "--output", str(output)])
    command.main()
    metrics = json.loads(output.read_text())["metrics"]
    told = capsys.readouterr().out
    assert all(key in told for key in metrics)
    assert metrics["difference"]["value"] <= 1e-4
    stages = {f"{edit}_{stage}_seconds" for edit in ("one_window", "two_windows") for stage in STAGES}
    compared = {f"ratio_{name}" for name in ("control", "stock", "stock_two_windows", "memory", "lora", "lora_stock")}
    learned = {"lora_step_plain_seconds", "lora_step_checkpointed_seconds"}
    assert stages | compared | learned | {"ratio_offload"} <= set(metrics)
    row = metrics["ratio_stock"]
    assert row["low"] <= row["value"] <= row["high"] and row["n"] == 1 and row["first_seconds"] > 0
    assert metrics["lora_step_plain_seconds"]["n"] == 2 and metrics["difference"]["machine"]
    assert fingerprint(model.unet) == before and not getattr(model.unet, "peft_config", None)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (["--pairs", "0"], "0 is not 1 or more"),
        (["--steps", "1"], "1 is not 2 or more"),
        (["--steps", "many"], "'many' is no whole number"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--sdxl", "--only", "ratios"], "--only is of no use with --sdxl"),
    ],
)
def test_bad_input_is_one_line(
    bad: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed", *bad])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("notes.json", "holds no measurements"),
        ("folder", "cannot be written"),
        ("notes.json/speed.json", "cannot be made"),
    ],
)
def test_a_place_that_cannot_hold_results_is_known_before_anything_is_counted(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.json").write_text("[]")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(sys, "argv", ["speed", "--output", str(tmp_path / name)])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and (tmp_path / "notes.json").read_text() == "[]"
