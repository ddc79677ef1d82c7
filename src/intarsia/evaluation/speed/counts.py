"""What an edit and a step of learning cost, counted: calls, operations, FLOPs, bytes. No weights, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from intarsia.backbones import Backbone
from intarsia.evaluation.speed.counting import (
    Dispatched,
    counted_calls,
    dispatched,
    flops_of,
    fused_attention_on_meta,
    prompt_projections,
    saved_bytes,
)
from intarsia.evaluation.speed.edits import Job, one_window, stock, stock_pipeline, two_windows
from intarsia.evaluation.speed.sdxl_shape import Shape, random_backbone, random_unet

if TYPE_CHECKING:
    import torch

TERA, GIBI = 1e12, float(1 << 30)


@dataclass(frozen=True)
class Count:
    """One number with its name in the results, its unit, and what it is."""

    key: str
    value: float
    unit: str
    what: str


@dataclass(frozen=True)
class EditCost:
    """What an edit costs apart from its steps (`once`), and what each step adds; exact, since every step but a
    window's first is alike."""

    once: Dispatched
    each: Dispatched
    flops_once: int
    flops_each: int

    def flops(self, steps: int) -> int:
        return self.flops_once + steps * self.flops_each


def edit_cost(backbone: Backbone, edit: Callable[[Backbone, Job], object], job: Job) -> EditCost:
    """Count `edit` with two steps and with three. On the meta device it runs as on an accelerator, without weights."""
    seen: list[Dispatched] = []
    flops: list[int] = []
    for steps in (2, 3):
        short = replace(job, steps=steps)

        # The innermost count sees operations first, before torch takes some apart to know their formulas.
        def work(short: Job = short) -> None:
            with dispatched(*backbone.modules().values()) as counted:
                edit(backbone, short)
            seen.append(counted)

        flops.append(flops_of(work))
    names = ("operations", "syncs", "weight_bytes", "bytes_there", "bytes_back")
    two, three = ({name: getattr(counted, name) for name in names} for counted in seen)
    each = {name: three[name] - two[name] for name in names}
    once = {name: two[name] - 2 * each[name] for name in names}
    slope = flops[1] - flops[0]
    return EditCost(Dispatched(**once), Dispatched(**each), flops[0] - 2 * slope, slope)


def calls_of_edits(backbone: Backbone, job: Job) -> dict[str, Counter[str]]:
    """Calls of the stock pipeline, of our edit that does the same, of that without remembered prompts, and of our whole
    edit."""
    pipe = stock_pipeline(backbone, job.scheduler)
    edits: dict[str, Callable[[], object]] = {
        "stock": lambda: stock(pipe, job),
        "one_window": lambda: one_window(backbone, job),
        "one_window_forgetful": lambda: one_window(backbone, job, remember=False),
        "two_windows": lambda: two_windows(backbone, job),
    }
    calls = {}
    for name, edit in edits.items():
        with counted_calls(backbone) as counted:
            edit()
        calls[name] = counted
    return calls


def unet_inputs(
    unet: Any, window: int, pooled: int, rows: int, device: str, dtype: torch.dtype
) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
    """Arguments of a call for pictures of the model's own size, prompts of `window` tokens and pooled vectors of so
    many numbers; zeros, or on the meta device no numbers at all."""
    import torch

    def zeros(*size: int) -> torch.Tensor:
        return torch.zeros(*size, device=device, dtype=dtype)

    cells = int(unet.config.sample_size)
    return (zeros(rows, unet.config.in_channels, cells, cells), torch.zeros((), device=device)), {
        "encoder_hidden_states": zeros(rows, window, unet.config.cross_attention_dim),
        "added_cond_kwargs": {"text_embeds": zeros(rows, pooled), "time_ids": zeros(rows, 6)},
        "return_dict": False,
    }


@dataclass(frozen=True)
class PartCosts:
    """FLOPs of one call of each part at a shape's side: U-Net with one row and with two, VAE, and both text towers."""

    unet: int
    unet_guided: int
    encoder: int
    decoder: int
    text: int
    unet_operations: int

    def of_calls(self, calls: Counter[str]) -> int:
        """Of a guided edit that computes every prompt's keys and values in every step."""
        pictures = calls["encoder"] * self.encoder + calls["decoder"] * self.decoder
        return calls["unet"] * self.unet_guided + pictures + calls["text"] * self.text // 2


def part_costs(backbone: Backbone, shape: Shape) -> PartCosts:
    """Counted on a backbone on the meta device."""
    import torch

    device, dtype = str(backbone.device), backbone.dtype
    unet, vae, factor = backbone.unet, backbone.vae, backbone.latent_factor
    images = torch.zeros(1, 3, shape.side, shape.side, device=device, dtype=dtype)
    cells = shape.side // factor
    latents = torch.zeros(1, backbone.latent_channels, cells, cells, device=device, dtype=dtype)
    ids = torch.zeros(1, shape.window, dtype=torch.long, device=device)
    single, guided = (unet_inputs(unet, shape.window, _pooled(shape), rows, device, dtype) for rows in (1, 2))
    with torch.no_grad():
        with dispatched():
            text = flops_of(lambda: (backbone.text_encoder(ids), _second(backbone)(ids)))
        with fused_attention_on_meta(), dispatched() as seen:
            unet(*single[0], **single[1])
        return PartCosts(
            unet=flops_of(lambda: unet(*single[0], **single[1])),
            unet_guided=flops_of(lambda: unet(*guided[0], **guided[1])),
            encoder=flops_of(lambda: vae.encode(images)),
            decoder=flops_of(lambda: vae.decode(latents)),
            text=text,
            unet_operations=seen.operations,
        )


@dataclass(frozen=True)
class LearningCosts:
    """Of a U-Net with an unfused rank-4 LoRA on all keys and values, one sample: operations of a forward pass; FLOPs
    and saved bytes of a step, plain and with gradient checkpointing."""

    operations: int
    flops: int
    saved: int
    flops_checkpointed: int
    saved_checkpointed: int


def learning_costs(shape: Shape, dtype: torch.dtype) -> LearningCosts:
    """Counted on the meta device; the LoRA is in float32, as it is learned."""
    import torch

    from intarsia.adapters import SubjectLora

    unet = random_unet(shape, "meta", dtype)
    SubjectLora(rank=4).inject(unet)  # for good: it cannot copy its weights out of the meta device
    arguments, named = unet_inputs(unet, shape.window, _pooled(shape), 1, "meta", dtype)

    def forward() -> Any:
        return unet(*arguments, **named)[0]

    def step() -> None:
        forward().float().sum().backward()

    with torch.no_grad(), dispatched() as seen, fused_attention_on_meta():
        forward()
    plain = flops_of(step), saved_bytes(forward, unet)
    unet.train()  # diffusers checkpoints in training mode only; there is no dropout
    unet.enable_gradient_checkpointing()
    return LearningCosts(seen.operations, plain[0], plain[1], flops_of(step), saved_bytes(forward, unet))


def operations_with_lora(backbone: Backbone) -> dict[str, int]:
    """Operations of one call of a U-Net in memory: "plain", with a LoRA beside its layers, and with the same fused."""
    import torch

    from intarsia.adapters import FusedLoras, Lora, SubjectLora, from_diffusers

    unet = backbone.unet
    window, pooled = backbone.tokenizer.model_max_length, int(_second(backbone).config.projection_dim)
    arguments, named = unet_inputs(unet, window, pooled, 1, str(backbone.device), backbone.dtype)

    def count() -> int:
        with torch.no_grad(), dispatched() as seen:
            unet(*arguments, **named)
        return seen.operations

    counted = {"plain": count()}
    lora = SubjectLora(rank=4)
    with lora.inject(unet):
        counted["unfused"] = count()
    change = Lora.of_unet(from_diffusers(lora.state_dict()), lora.alpha)
    with FusedLoras.fuse({"unet": unet}, [(change, 1.0)]):
        counted["fused"] = count()
    return counted


def lora_counts(backbone: Backbone) -> Iterator[Count]:
    """`operations_with_lora` as numbers for the results."""
    for key, value in operations_with_lora(backbone).items():
        yield Count(f"miniature_unet_operations_{key}", value, "ops", f"one call of the miniature's U-Net, LoRA: {key}")


def shape_counts(shape: Shape, calls: dict[str, Counter[str]], steps: int) -> Iterator[Count]:
    """All counts of a shape on the meta device in bfloat16, the last of them for edits of so many `steps`; `calls` are
    those of the stock pipeline with so many."""
    import torch

    backbone = random_backbone(shape, "meta", torch.bfloat16)
    name, side = shape.name, shape.side
    parts = part_costs(backbone, shape)
    for key, value, what in (
        ("unet", parts.unet, "U-Net, one row"),
        ("vae_encode", parts.encoder, "VAE, encode one picture"),
        ("vae_decode", parts.decoder, "VAE, decode one picture"),
        ("text", parts.text, "both text towers, one prompt"),
    ):
        yield Count(f"{name}_{key}_tflop", value / TERA, "TFLOP", f"{what}, {side} px")
    learning = learning_costs(shape, torch.bfloat16)
    for key, value, what in (
        ("lora_step", learning.flops, "forward and backward, rank-4 LoRA on keys and values"),
        ("lora_step_checkpointed", learning.flops_checkpointed, "the same with gradient checkpointing"),
    ):
        yield Count(f"{name}_{key}_tflop", value / TERA, "TFLOP", what)
    for key, value, what in (
        ("lora_saved", learning.saved, "kept for the backward pass of that step, without weights"),
        ("lora_saved_checkpointed", learning.saved_checkpointed, "the same with gradient checkpointing"),
    ):
        yield Count(f"{name}_{key}_gib", value / GIBI, "GiB", what)
    yield Count(f"{name}_unet_operations", parts.unet_operations, "ops", "dispatched by one call of the U-Net")
    yield Count(f"{name}_unet_operations_lora", learning.operations, "ops", "the same with an unfused LoRA")

    job = Job(shape.side, steps)
    costs = {
        "one_window": edit_cost(backbone, one_window, job),
        "one_window_forgetful": edit_cost(backbone, lambda b, j: one_window(b, j, remember=False), job),
        "two_windows": edit_cost(backbone, two_windows, job),
    }
    stock_flops = parts.of_calls(calls["stock"])
    yield Count(f"{name}_edit_stock_tflop", stock_flops / TERA, "TFLOP", f"stock pipeline, {steps} steps")
    for key, what in _EDITS.items():
        cost = costs[key]
        yield Count(f"{name}_edit_{key}_tflop", cost.flops(steps) / TERA, "TFLOP", f"{what}, {steps} steps")
        yield Count(f"{name}_step_{key}_operations", cost.each.operations, "ops", f"{what}, each step")
    for key in ("one_window", "two_windows"):
        cost, what = costs[key], _EDITS[key]
        weights = cost.once.weight_bytes + steps * cost.each.weight_bytes
        yield Count(f"{name}_moved_{key}_weight_bytes", weights, "bytes", f"{what}: weights between devices")
        there = cost.once.bytes_there + steps * cost.each.bytes_there
        back = cost.once.bytes_back + steps * cost.each.bytes_back
        asked = cost.once.syncs + steps * cost.each.syncs
        yield Count(f"{name}_asked_{key}_numbers", asked, "times", f"{what}: a number was asked of the device")
        yield Count(f"{name}_moved_{key}_there_bytes", there, "bytes", f"{what}: other bytes to the device")
        yield Count(f"{name}_moved_{key}_back_bytes", back, "bytes", f"{what}: other bytes from the device")


_EDITS = {
    "one_window": "ours, the same work",
    "one_window_forgetful": "ours, prompts not remembered",
    "two_windows": "ours, both windows and blending",
}


def call_counts(backbone: Backbone, calls: dict[str, Counter[str]], job: Job) -> Iterator[Count]:
    """The calls as numbers for the results, and operations of a step of ours and of the stock pipeline."""
    layers = len(prompt_projections(backbone.unet)) // 2
    names = {"stock": "stock pipeline", **_EDITS}
    parts = {
        "unet": "calls of the U-Net",
        "encoder": "pictures encoded",
        "decoder": "pictures decoded",
        "text": "calls of text towers",
        "projection": f"key and value projections of prompts ({layers} layers)",
    }
    for edit, counted in calls.items():
        for part, what in parts.items():
            yield Count(f"calls_{edit}_{part}", counted[part], "calls", f"{names[edit]}: {what}, {job.steps} steps")
    pipe = stock_pipeline(backbone, job.scheduler)
    ours, theirs = (edit_cost(backbone, edit, job) for edit in (one_window, lambda _, short: stock(pipe, short)))
    for key, cost, what in (("one_window", ours, _EDITS["one_window"]), ("stock", theirs, "stock pipeline")):
        yield Count(f"miniature_step_{key}_operations", cost.each.operations, "ops", f"{what}, each step, miniature")


def _pooled(shape: Shape) -> int:
    return int(shape.text_2["projection_dim"])


def _second(backbone: Backbone) -> Any:
    assert backbone.text_encoder_2 is not None
    return backbone.text_encoder_2
