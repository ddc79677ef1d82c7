"""The guide with real adapters in a tiny backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest_tiny import tiny_backbone

from intarsia.adapters import Assign, AssignConfig, Refine, RefineConfig
from intarsia.backbones import BackboneError
from intarsia.conditioning import (
    ConditioningError,
    CutOut,
    ReferenceGuide,
    ReferenceOptions,
    cut_out,
    empty_conditioning,
    encode_prompt,
)
from intarsia.conditioning.reference_guide import _noise
from intarsia.sampling import (
    Guidance,
    denoise,
    draw_noise,
    make_generators,
    make_scheduler,
    set_steps,
    start_latents,
)

BACKBONE = tiny_backbone()
PROMPTS = encode_prompt(BACKBONE, "a red mug on the table"), empty_conditioning(BACKBONE)
APART = Guidance(5.0, reference_scale=2.5)
TOKENS = 3


def thing(seed: int = 0, height: int = 24, width: int = 6) -> CutOut:
    rgb = np.random.default_rng(seed).random((height, width, 3), np.float32)
    return cut_out(rgb, np.ones((height, width), bool))


@pytest.fixture()
def make() -> Iterator[Callable[..., Any]]:
    """Makes injected adapters; ejects them at the end."""
    made: list[Any] = []

    def make(unconditional: Any = "absent", max_references: int = 2) -> Any:
        torch.manual_seed(0)
        sizes = {"tokens": TOKENS, "width": 12, "depth": 1, "heads": 2, "head_width": 6}
        assign = Assign.from_unet(
            BACKBONE.unet,
            AssignConfig(16, 40, unconditional=unconditional, max_references=max_references, **sizes),
        )
        config = RefineConfig(16, max_references=max_references, clean_timestep=200)
        refine = Refine.from_unet(BACKBONE.unet, config, torch.zeros(1, 24))
        made.append(SimpleNamespace(assign=assign.inject(BACKBONE.unet), refine=refine.inject(BACKBONE.unet)))
        return made[-1]

    yield make
    for adapters in made:
        adapters.refine.eject()
        adapters.assign.eject()


def paint(
    reference: Any, seeds: Sequence[int] = (5,), name: str = "ddim", steps: int = 3, **options: Any
) -> torch.Tensor:
    noise = draw_noise(generators := make_generators(seeds), (4, 8, 8))
    scheduler = make_scheduler(BACKBONE, name)
    arguments: dict[str, Any] = {
        "mask": torch.ones(1, 1, 8, 8),
        "masked_image_latents": torch.zeros(1, 4, 8, 8),
        "positive": PROMPTS[0],
        "negative": PROMPTS[1],
        "generators": generators,
        "steps": steps,
        "guidance": APART,
        "reference": reference,
    }
    start = start_latents(set_steps(make_scheduler(BACKBONE, name), steps), noise)
    return denoise(BACKBONE, scheduler, start, **(arguments | options)).latents


def spy(monkeypatch: pytest.MonkeyPatch, adapter: Any, method: str) -> list[tuple[Any, ...]]:
    """Every call's arguments, positional ones first and then named ones."""
    calls, real = [], getattr(adapter, method)

    def called(*arguments: Any, **named: Any) -> Any:
        calls.append((*arguments, *named.values()))
        return real(*arguments, **named)

    monkeypatch.setattr(adapter, method, called)
    return calls


def test_the_same_seed_gives_the_same_bytes_and_the_reference_counts(make: Callable[..., Any]) -> None:
    adapters = make()
    guide = ReferenceGuide(BACKBONE, adapters, [thing()])
    first, again = paint(guide), paint(guide)
    fresh = paint(ReferenceGuide(BACKBONE, adapters, [thing()]))
    assert torch.equal(first, again) and torch.equal(first, fresh)
    other = paint(ReferenceGuide(BACKBONE, adapters, [thing(1)]))
    plain = paint(None)
    assert not torch.allclose(first, other, atol=1e-3) and not torch.allclose(first, plain, atol=1e-3)
    parts = [ReferenceOptions(detail_strength=0.0), ReferenceOptions(strength=0.0)]
    for options in parts:  # Assign alone, and Refine alone
        one = paint(ReferenceGuide(BACKBONE, adapters, [thing()], options))
        assert not torch.allclose(one, plain, atol=1e-3) and not torch.allclose(one, first, atol=1e-3)


def test_no_strength_is_no_reference_byte_by_byte(make: Callable[..., Any]) -> None:
    plain = paint(None, guidance=Guidance(5.0))
    adapters = make()
    off = ReferenceOptions(strength=0.0, detail_strength=0.0)
    assert torch.equal(paint(ReferenceGuide(BACKBONE, adapters, [thing()], off), guidance=Guidance(5.0)), plain)
    never = ReferenceOptions(interval=(0.5, 0.5))
    assert torch.equal(paint(ReferenceGuide(BACKBONE, adapters, [thing()], never), guidance=Guidance(5.0)), plain)


def test_the_reference_unet_runs_once_per_step_for_three_blocks(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = make()
    banks = spy(monkeypatch, adapters.refine, "bank")
    rows: list[int] = []
    forward = type(BACKBONE.unet).forward

    def counting(self: Any, value: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        if self is BACKBONE.unet:
            rows.append(len(value))
        return forward(self, value, *arguments, **named)

    monkeypatch.setattr(type(BACKBONE.unet), "forward", counting)
    paint(ReferenceGuide(BACKBONE, adapters, [thing()]), seeds=(1, 2))
    assert rows == [6, 6, 6] and [len(call[0]) for call in banks] == [2, 2, 2]
    assert not torch.equal(banks[0][0][0], banks[0][0][1])  # each sample's own noise
    times = [float(call[1]) for call in banks]
    assert times == sorted(times, reverse=True)
    assert banks[0][3].tolist() == [[64, 64, 0, 0, 64, 64]] * 2
    banks.clear()
    clean = ReferenceGuide(BACKBONE, adapters, [thing()], ReferenceOptions(detail_mode="clean"))
    pictures = [paint(clean, seeds=(1, 2)) for _ in range(2)]  # as two stages do
    assert [(len(call[0]), float(call[1])) for call in banks] == [(1, 200.0)]  # as the adapter's file says
    assert torch.equal(*pictures)


@pytest.mark.parametrize("name", ["ddim", "euler", "euler_karras", "dpmpp_2m", "unipc"])
def test_the_noised_reference_is_in_the_units_of_the_unet(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    adapters = make()
    guide = ReferenceGuide(BACKBONE, adapters, [thing()])
    banks = spy(monkeypatch, adapters.refine, "bank")
    paint(guide, name=name)
    assert guide._encoded is not None and guide._encoded.latents is not None
    clean = guide._encoded.latents[0]
    kept = make_scheduler(BACKBONE, "ddim").alphas_cumprod.double().numpy()
    for step, (latents, timestep, *_) in enumerate(banks):
        share = float(np.interp(float(timestep), np.arange(1000), kept))  # variance preserving
        noise = _noise(5, step, 0, (4, 8, 8))[None]
        torch.testing.assert_close(latents, share**0.5 * clean + (1 - share) ** 0.5 * noise, atol=0.02, rtol=0)
        assert latents.std() < 1.5


@pytest.mark.parametrize("mode", ["noised", "clean"])
def test_a_sample_does_not_depend_on_its_neighbours(make: Callable[..., Any], mode: Any) -> None:
    adapters, options = make(), ReferenceOptions(detail_mode=mode)
    shared = ReferenceGuide(BACKBONE, adapters, [thing()], options)
    batch = paint(shared, (11, 12))
    for index, seed in enumerate((11, 12)):
        torch.testing.assert_close(paint(shared, (seed,))[0], batch[index], atol=1e-4, rtol=1e-4)
    own = ReferenceGuide(BACKBONE, adapters, [[thing(1)], [thing(0)]], options)
    swapped = paint(own, (12, 11))
    torch.testing.assert_close(swapped[1], batch[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(swapped[0], batch[1], atol=1e-3)


def test_blocks_without_the_reference_have_no_image_tokens(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = make()
    shown = spy(monkeypatch, adapters.assign, "show")
    options = ReferenceOptions(strength=0.5, blocks=(1.0, 0.0, 2.0), interval=(0.3, 1.0))
    paint(ReferenceGuide(BACKBONE, adapters, [thing()], options), seeds=(1, 2))
    first, tokens, strength = shown[0][0], shown[1][0], shown[1][1]
    assert first is None and tokens.shape == (6, TOKENS, 40)
    assert strength["down"].tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert strength["mid"].tolist() == [0] * 6
    assert strength["up"].tolist() == [0, 0, 1, 1, 1, 1]
    assert shown[-1] == (None,)


def test_a_schedule_changes_both_strengths_from_step_to_step(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = make()
    tokens, banks = (spy(monkeypatch, adapter, "show") for adapter in (adapters.assign, adapters.refine))
    options = ReferenceOptions(strength=0.5, detail_strength=0.8, schedule=(1.0, 0.5, 0.0))
    paint(ReferenceGuide(BACKBONE, adapters, [thing()], options), steps=5, guidance=Guidance(1.0))
    beta = [call[1]["up"].item() for call in tokens if call[0] is not None]
    detail = [call[2].item() for call in banks if call[0] is not None]
    assert beta == pytest.approx([0.5, 0.375, 0.25, 0.125]) and detail == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert len(tokens) == 6 and tokens[4] == (None,)  # the last step's factor is 0: no reference
    steady, plain = ReferenceOptions(schedule=(1.0, 1.0)), ReferenceOptions()
    one, other = (paint(ReferenceGuide(BACKBONE, adapters, [thing()], each)) for each in (steady, plain))
    assert torch.equal(one, other)
    assert ReferenceOptions(schedule=(0.3, 0.9)).factor(0, 1) == pytest.approx(0.3)


def test_stock_adapters_see_a_zero_picture_instead(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = make("zero_picture")
    model = dataclasses.replace(BACKBONE, image_mean=(0.48, 0.46, 0.41), image_std=(0.27, 0.26, 0.28))
    shown = spy(monkeypatch, adapters.assign, "show")
    seen: list[torch.Tensor] = []
    tower = model.image_encoder
    assert tower is not None
    hook = tower.vision_model.embeddings.register_forward_pre_hook(
        lambda _, given, named: seen.append((*given, *named.values())[0]), with_kwargs=True
    )
    guide = ReferenceGuide(model, adapters, [thing(0), thing(1)])
    paint(guide)
    hook.remove()
    assert any(value.abs().max() < 1e-6 for value in seen) and len(seen) == 3
    tokens, strength = shown[0]
    assert tokens.shape == (3, 2 * TOKENS, 40) and strength["up"].tolist() == [1, 1, 1]
    with torch.no_grad():
        features = tower(pixel_values=torch.zeros(1, 3, 32, 32), output_hidden_states=True).hidden_states[-2]
        nothing = adapters.assign.embed(features)
    torch.testing.assert_close(tokens[:1], nothing.repeat(1, 2, 1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(tokens[1], tokens[0], atol=1e-3) and torch.equal(tokens[1], tokens[2])


def test_detail_is_in_all_blocks_or_only_where_the_reference_is(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = make()
    shown = spy(monkeypatch, adapters.refine, "show")
    for everywhere in (True, False):
        options = ReferenceOptions(detail_strength=0.5, refine_unconditional=everywhere)
        paint(ReferenceGuide(BACKBONE, adapters, [thing()], options), steps=1)
    assert shown[0][2].tolist() == [0.5, 0.5, 0.5] and shown[2][2].tolist() == [0.0, 0.5, 0.5]
    # 24 x 6 px, 64 x 16 on a square of 64 px: columns 24 to 39, so cells 3 and 4 of 8
    assert shown[0][1].tolist() == [[[[0, 0, 0, 1, 1, 0, 0, 0]] * 8]]
    assert shown[1] == shown[3] == (None,)


def test_white_padding_never_leaks(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = make()
    real = adapters.refine.bank
    columns: list[int] = []

    def disturbed(*arguments: Any, **named: Any) -> Any:
        bank = real(*arguments, **named)
        for tokens in bank:
            side = int(tokens.shape[1] ** 0.5)
            tokens.unflatten(1, (side, side))[:, :, columns] += 100.0
        return bank

    monkeypatch.setattr(adapters.refine, "bank", disturbed)
    results = []
    for columns[:] in ([], [0, 3], [1]):  # of four at the level that has attention; 1 and 2 hold the thing
        results.append(paint(ReferenceGuide(BACKBONE, adapters, [thing()])))
    assert torch.equal(results[0], results[1]) and not torch.allclose(results[0], results[2], atol=1e-3)


def test_several_references_stand_side_by_side(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = make()
    tokens, banks = (spy(monkeypatch, adapter, "show") for adapter in (adapters.assign, adapters.refine))
    pair = thing(0), thing(1, 6, 24)
    for given in ([pair[0]], [pair[1]], list(pair)):
        paint(ReferenceGuide(BACKBONE, adapters, given, ReferenceOptions(detail_mode="clean")), steps=1)
    one, two, both = (tokens[k][0] for k in (0, 2, 4))
    torch.testing.assert_close(both, torch.cat([one, two], dim=1), atol=1e-5, rtol=1e-5)
    one, two, both = (banks[k][0][-1] for k in (0, 2, 4))
    torch.testing.assert_close(both, torch.cat([one, two], dim=1), atol=1e-4, rtol=1e-4)
    assert torch.equal(banks[4][1], torch.cat([banks[0][1], banks[2][1]], dim=2))
    adapters.refine.config = dataclasses.replace(adapters.refine.config, max_references=1)
    paint(ReferenceGuide(BACKBONE, adapters, list(pair), ReferenceOptions(detail_mode="clean")), steps=1)
    torch.testing.assert_close(banks[6][0][-1], one, atol=1e-4, rtol=1e-4)


def test_everything_is_hidden_after_an_error(make: Callable[..., Any]) -> None:
    adapters = make()

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    guide = ReferenceGuide(BACKBONE, adapters, [thing()])
    with pytest.raises(KeyboardInterrupt):
        paint(guide, callback=stop)
    assert adapters.assign._seen.tokens is None and adapters.refine._seen.tokens is None
    with pytest.raises(ConditioningError, match="not begun"):
        guide.prepare(step=0, steps=1, timestep=torch.tensor(1), scheduler=None, size=(8, 8), present=[True])


def test_adapters_without_refine_show_tokens_alone(make: Callable[..., Any]) -> None:
    adapters = make()
    alone = paint(ReferenceGuide(BACKBONE, SimpleNamespace(assign=adapters.assign, refine=None), [thing()]))  # type: ignore[arg-type]
    off = paint(ReferenceGuide(BACKBONE, adapters, [thing()], ReferenceOptions(detail_strength=0.0)))
    assert torch.equal(alone, off)


def test_what_cannot_be_referred_to(make: Callable[..., Any]) -> None:
    adapters = make()

    def refused(words: str, cutouts: Any = None, model: Any = BACKBONE) -> None:
        with pytest.raises(ConditioningError, match=words):
            ReferenceGuide(model, adapters, [thing()] if cutouts is None else cutouts)

    refused("no reference", ())
    refused("no reference", ((thing(),), ()))
    refused("3 references.*takes 2", [thing()] * 3)
    refused("mixed", [thing(), [thing()]])
    refused("equally many", [[thing()], [thing()] * 2])
    refused("no image encoder", model=dataclasses.replace(BACKBONE, image_encoder=None))
    narrow = SimpleNamespace(config=SimpleNamespace(hidden_size=12, image_size=32))
    refused("12 wide.*read 16", model=dataclasses.replace(BACKBONE, image_encoder=narrow))  # type: ignore[arg-type]
    with pytest.raises(ConditioningError, match="for 2 samples, but 1"):
        paint(ReferenceGuide(BACKBONE, adapters, [[thing()], [thing()]]))
    adapters.refine.eject()
    with pytest.raises(ConditioningError, match="inject"):
        paint(ReferenceGuide(BACKBONE, adapters, [thing()]))
    adapters.refine.inject(BACKBONE.unet)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strength", -0.1),
        ("strength", 2.1),
        ("strength", float("nan")),
        ("blocks", (1.0, 1.0)),
        ("blocks", (1.0, 3.0, 1.0)),
        ("interval", (0.6, 0.5)),
        ("schedule", ()),
        ("schedule", (1.0, 1.5)),
        ("detail_strength", 1.1),
        ("detail_mode", "loud"),
    ],
)
def test_options_outside_their_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ConditioningError, match=option.split("_")[-1]):
        ReferenceOptions(**{option: value})


def test_features_are_all_tokens_of_the_layer_asked_for() -> None:
    tower, seen = BACKBONE.image_encoder, {}
    assert tower is not None
    last = tower.vision_model.encoder.layers[-1]

    def keep(_: Any, given: Any, named: dict[str, Any], out: Any) -> None:
        seen["penultimate"] = (*given, *named.values())[0]
        seen["last"] = out[0] if isinstance(out, tuple) else out

    hook = last.register_forward_hook(keep, with_kwargs=True)
    images = torch.rand(2, 3, 40, 40) * 2 - 1
    with torch.no_grad():
        for layer in ("penultimate", "last"):
            features = BACKBONE.image_features(images, layer)  # type: ignore[arg-type]
            assert features.shape == (2, 1 + 4 * 4, 16) and torch.equal(features, seen[layer])
    hook.remove()
    with pytest.raises(BackboneError, match="first"):
        BACKBONE.image_features(images, "first")  # type: ignore[arg-type]
    with pytest.raises(BackboneError, match="no image encoder"):
        dataclasses.replace(BACKBONE, image_encoder=None).image_features(images, "last")
