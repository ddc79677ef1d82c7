"""Counted bytes against real runs, and offload: the same pictures, bit for bit, with weights that come and go."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.backbones.memory_places import Places
from tests.conftest_tiny import save_tiny, tiny_backbone, tiny_instruct
from tests.editing.conftest import noise_picture, save_random_reference

from intarsia.backbones import (
    Backbone,
    BackboneError,
    MemoryPlan,
    apply_memory_plan,
    bytes_of,
    count_unet_bytes,
    count_vae_bytes,
    free_memory,
    load_backbone,
    memory_needs,
    parameter_count,
    plan_for,
    share_memory_plan,
    whole_unet,
)
from intarsia.backbones.memory import TOWER, _host_memory, _reference_bytes
from intarsia.backbones.offload import Offload, offload_of, tensors_of, unet_groups
from intarsia.cli.common import open_studio
from intarsia.editing import EditingError, Studio, devices
from intarsia.editing.devices import choose_dtype

BOX = "20,16,30,30"
OPTIONS: dict[str, Any] = {"box": BOX, "prompt": "a red duck", "steps": 4, "lam": 0.5, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny(tiny_backbone(), folder)
    save_random_reference(folder / "reference", load_backbone(folder))
    return folder


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`+part` and `-part` in order, with the weights of what waits scrambled."""
    found: list[str] = []
    Places().install(monkeypatch)

    def spy(sign: str, name: str) -> None:
        real = getattr(Offload, name)

        def spied(self: Offload, key: int) -> None:
            found.append(sign + type(self._parts[key]).__name__)
            real(self, key)

        monkeypatch.setattr(Offload, name, spied)

    spy("+", "_bring")
    spy("-", "_park")
    return found


def offloaded(folder: Path, mode: Any, **options: Any) -> Backbone:
    return apply_memory_plan(load_backbone(folder), MemoryPlan(mode, **options))


def painted(backbone: Backbone, **options: Any) -> Any:
    result = Studio(backbone).insert(noise_picture(72, 160), **OPTIONS, **options)
    assert len(result.recipe.stages) == 2
    return result.picture.sha256


@pytest.mark.parametrize("mode", ["model", "group"])
@pytest.mark.parametrize("options", [{}, {"reference": noise_picture(40, 40), "detail_strength": 1.0}])
def test_offload_paints_the_same_bytes(folder: Path, moves: list[str], mode: Any, options: dict[str, Any]) -> None:
    plain, backbone = load_backbone(folder), offloaded(folder, mode)
    before = {name: [t.clone() for t in tensors_of(part)] for name, part in plain.modules().items()}
    objects = {name: [id(t) for t in tensors_of(part)] for name, part in backbone.modules().items()}
    assert not torch.equal(backbone.unet.conv_in.weight, plain.unet.conv_in.weight), "nothing waits elsewhere"
    assert backbone.device == torch.device("cpu") and backbone.execution_device is not None
    assert painted(backbone, **options) == painted(plain, **options)
    manager = offload_of(backbone)
    assert manager is not None and offload_of(plain) is None
    assert not manager._visits
    for name, part in backbone.modules().items():
        manager.use(id(part))
        assert [id(tensor) for tensor in tensors_of(part)] == objects[name]
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(part), before[name], strict=True))


def test_the_unet_moves_only_where_the_vae_must_have_its_place(folder: Path, moves: list[str]) -> None:
    backbone = offloaded(folder, "model")
    del moves[:]
    painted(backbone)
    assert moves[:3] == ["+CLIPTextModel", "-CLIPTextModel", "+CLIPTextModelWithProjection"]
    unet = [move for move in moves if move.endswith("UNet2DConditionModel")]
    assert unet == ["+UNet2DConditionModel", "-UNet2DConditionModel"] * 2, "two stages, two moves each"
    there: set[str] = set()
    for move in moves:
        there ^= {move[1:]}
        assert len(there) <= 1

    stays = offloaded(folder, "model", unet_stays=True)
    painted(stays)
    del moves[:]
    painted(stays)
    unet = [move for move in moves if move.endswith("UNet2DConditionModel")]
    assert unet == ["-UNet2DConditionModel", "+UNet2DConditionModel"], "only the words send it away"


def test_group_offload_has_one_group_at_a_time(folder: Path, moves: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    most, real = 0, Offload._leave

    def leave(self: Offload, called: Any) -> None:
        nonlocal most
        most = max(most, sum(t.numel() * t.element_size() for visit in self._visits.values() for t, _ in visit))
        real(self, called)

    monkeypatch.setattr(Offload, "_leave", leave)
    backbone = offloaded(folder, "group")
    assert sum(bytes_of(group) for group in unet_groups(backbone.unet)) == bytes_of(backbone.unet)
    painted(backbone)
    assert most == memory_needs(load_backbone(folder)).largest_group < bytes_of(backbone.unet) / 2


def test_a_call_that_fails_leaves_the_weights_waiting(folder: Path, moves: list[str]) -> None:
    backbone = offloaded(folder, "group")
    manager, conv = offload_of(backbone), backbone.unet.conv_in.weight
    waiting = conv.data_ptr()
    conditions = backbone.size_conditioning(torch.zeros(1, 24), torch.zeros(1, 6))
    words = torch.zeros(1, 4, 39)
    with pytest.raises(RuntimeError, match="shapes"):
        backbone.unet(torch.zeros(1, 9, 8, 8), 0, encoder_hidden_states=words, added_cond_kwargs=conditions)
    assert manager is not None and not manager._visits and conv.data_ptr() == waiting


def test_the_whole_unet_is_there_for_training_and_a_copy_has_no_hooks(folder: Path, moves: list[str]) -> None:
    plain = load_backbone(folder).unet.state_dict()
    for mode in ("model", "group"):
        backbone = offloaded(folder, mode)
        with whole_unet(backbone):
            assert all(torch.equal(value, plain[name]) for name, value in backbone.unet.state_dict().items())
            copied = copy.deepcopy(backbone.unet)
            del moves[:]
            copied.conv_in(torch.zeros(1, 9, 8, 8))
            assert moves == [] and offload_of(backbone) is not None
        assert mode == "model" or not torch.equal(backbone.unet.conv_in.weight, plain["conv_in.weight"])


def test_two_backbones_under_one_plan_take_turns(folder: Path, moves: list[str]) -> None:
    backbone = offloaded(folder, "model")
    other = share_memory_plan(backbone, tiny_instruct(1))
    assert other.execution_device == backbone.execution_device
    del moves[:]
    for net, channels in ((backbone, 9), (other, 8), (backbone, 9)):
        with torch.no_grad():
            net.unet(
                torch.zeros(1, channels, 8, 8),
                0,
                encoder_hidden_states=torch.zeros(1, 4, 40),
                added_cond_kwargs=net.size_conditioning(torch.zeros(1, 24), torch.zeros(1, 6)),
            )
    unet = "UNet2DConditionModel"
    assert moves == [f"+{unet}", f"-{unet}", f"+{unet}", f"-{unet}", f"+{unet}"]
    plain = tiny_instruct(1)
    assert share_memory_plan(tiny_backbone(), plain) is plain


def test_tiles_change_nothing_below_their_size_and_little_above() -> None:
    plain, tiled = (load_backbone("miniature") for _ in range(2))
    tiled = apply_memory_plan(tiled, MemoryPlan("full", tile_side=64))
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing="ij")
    picture = 0.8 * torch.stack([(x / 40).sin(), (y / 30).cos(), ((x + y) / 50).sin()])[None]
    with torch.no_grad():
        small = picture[..., :64, :64]
        latents = plain.encode(small)
        assert torch.equal(latents, tiled.encode(small)) and torch.equal(plain.decode(latents), tiled.decode(latents))
        latents = plain.encode(picture)
        whole, tiles = (each.decode(latents).clamp(-1, 1) / 2 for each in (plain, tiled))
    difference = (tiles - whole).abs()
    # Measured: 0.017 and 0.075 of the range of values; the tones of a tile depend on what is in it.
    assert tiles.shape == whole.shape and 0 < float(difference.mean()) < 0.03 and float(difference.max()) < 0.15


def test_a_batch_goes_through_the_vae_one_by_one_where_two_have_no_room() -> None:
    sliced = apply_memory_plan(tiny_backbone(), MemoryPlan("full", tile_side=64, one_by_one=True))
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen: list[int] = []
    sliced.vae.encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    with torch.no_grad():
        both, alone = sliced.encode(pictures), [tiny_backbone().encode(picture[None]) for picture in pictures]
    assert seen == [1, 1] and torch.equal(both, torch.cat(alone))


def sdxl_unet() -> Any:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=128,
            in_channels=9,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def test_sdxl_needs_what_is_written_of_it() -> None:
    from diffusers import AutoencoderKL
    from tests.backbones.test_memory_plan import SDXL

    unet = sdxl_unet()
    assert bytes_of(unet) // 2 == SDXL.weights["unet"]
    assert max(bytes_of(group) for group in unet_groups(unet)) // 2 == SDXL.largest_group
    assert count_unet_bytes(unet, 2, 128, 128, torch.bfloat16).peak == SDXL.unet_work
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    torch.nn.Module.to(vae, torch.bfloat16)
    assert bytes_of(vae) == SDXL.weights["vae"]
    assert count_vae_bytes(vae, 1024, 1024) == SDXL.vae_work


def test_room_for_references_is_what_ip_adapter_plus_takes() -> None:
    from tests.backbones.test_memory_plan import SHOWN
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from intarsia.adapters import Assign, AssignConfig

    unet = sdxl_unet().to(torch.bfloat16)
    needs = dataclasses.replace(tiny_backbone(), unet=unet, image_encoder=None)
    counted, tower = _reference_bytes(needs), TOWER * 2
    assert (counted, tower) == (SHOWN.adapters, SHOWN.tower)
    config = AssignConfig(1280, 2048, tokens=16, width=1280, depth=4, heads=20, head_width=64)
    with torch.device("meta"):
        assign = Assign.from_unet(unet, config)
        vit = CLIPVisionConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
            patch_size=14, image_size=224, projection_dim=1024,
        )  # fmt: skip
        image_tower = CLIPVisionModelWithProjection(vit)
    assert counted == pytest.approx(2 * sum(p.numel() for p in assign.parameters()), rel=0.01)
    assert tower == pytest.approx(2 * sum(p.numel() for p in image_tower.parameters()), rel=0.01)
    small = memory_needs(dataclasses.replace(tiny_backbone(), image_encoder=None))
    assert small.tower == 4 * TOWER and memory_needs(tiny_backbone()).tower == 0


def test_the_count_grows_with_the_picture_and_leaves_the_model_alone() -> None:
    backbone = tiny_backbone()
    before = backbone.hash
    small, large = (count_vae_bytes(backbone.vae, side, side) for side in (64, 128))
    assert 3.9 * small < large < 4.1 * small
    assert small >= 8 * 64 * 64 * 4 * 2, "an activation at full size, twice"
    one, two = (count_unet_bytes(backbone.unet, batch, 8, 8, torch.float32) for batch in (1, 2))
    assert one.saved == 0 and 1.8 * one.peak < two.peak <= 2 * one.peak
    assert tiny_backbone().hash == before and next(backbone.unet.parameters()).device.type == "cpu"


def test_parameters_are_counted_from_the_headers(folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone(folder)
    assert parameter_count(folder) == sum(p.numel() for m in backbone.modules().values() for p in m.parameters())


def test_the_number_format_follows_device_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    able = True
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: able)

    def chosen(device: str, parameters: int) -> torch.dtype:
        return choose_dtype("auto", device, lambda: parameters)

    assert chosen("cuda:1", 2 * 10**9) is torch.bfloat16 and chosen("cuda", 10**8) is torch.float32
    assert chosen("mps", 2 * 10**9) is torch.float16 and chosen("cpu", 2 * 10**9) is torch.float32
    able = False
    assert chosen("cuda", 2 * 10**9) is torch.float16 and choose_dtype("bfloat16") is torch.bfloat16


def test_a_studio_on_the_cpu_says_its_plan(folder: Path) -> None:
    studio = Studio.load(folder, "cpu")
    assert studio.memory is not None and studio.memory.mode == "full" and studio.memory.weights > 0
    assert studio.memory.weights == plan_for(studio.backbone, "cpu").weights
    assert studio.backbone.execution_device is None and studio.backbone.dtype is torch.float32


def test_the_command_line_says_the_plan_and_refuses_a_mode_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loaded(*given: Any, **options: Any) -> Studio:
        studio = Studio(tiny_backbone())
        studio.memory = MemoryPlan(options["memory"], device="cuda", weights=7 * 10**9)
        return studio

    monkeypatch.setattr(Studio, "load", loaded)
    open_studio("sdxl", "cuda", "auto", "group")
    said = capsys.readouterr()
    assert said.out == "" and said.err == "memory: group offload on cuda, float32, 7.0 GB of weights\n"

    def on_cpu(*given: Any, **options: Any) -> Studio:
        studio = Studio(tiny_backbone())
        studio.memory = MemoryPlan("full", weights=7 * 10**9, free=8 * 10**9)
        return studio

    monkeypatch.setattr(Studio, "load", on_cpu)
    open_studio("sdxl", "cpu", "auto")
    assert capsys.readouterr().err == "", "a small model has nothing to choose"
    monkeypatch.setattr(devices, "SMALL_MODEL", 1000)
    open_studio("sdxl", "cpu", "auto")
    assert capsys.readouterr().err == "memory: full on cpu, float32, 7.0 GB of weights, 8.0 GB free\n"
    with pytest.raises(BackboneError, match="memory mode 'most' is unknown"):
        open_studio("no such model", "cuda", "auto", "most")


def test_bad_memory_options_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="gains nothing on cpu"):
        Studio.load(folder, "cpu", memory="group")
    with pytest.raises(EditingError, match="use auto, float32"):
        Studio.load(folder, "cpu", "float8")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no header")
    with pytest.raises(BackboneError, match="not a whole safetensors file"):
        parameter_count(broken)


def test_free_memory_is_read_off_the_system(tmp_path: Path) -> None:
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    4000 kB\nHugePages_Total:       0\n")
    assert _host_memory(info) == (4000 * 1024, 16000 * 1024)
    info.write_text("MemTotal: many\n")
    assert _host_memory(info).free is None
    has = free_memory("cpu")
    assert has.free is None or 0 < has.free <= (has.total or 0)
    assert np.isfinite(has.total or 0)
