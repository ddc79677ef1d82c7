"""LoRAs and references under every memory plan: the same bytes, and where the plain weights are meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.adapters.loras import modules_of, random_lora
from tests.backbones.memory_places import Places
from tests.conftest_tiny import save_tiny, tiny_backbone
from tests.editing.conftest import noise_picture, save_random_reference, thing
from torch import Tensor, nn

from intarsia.adapters import FusedLoras, Lora, Refine, save_lora, write_lora
from intarsia.adapters.fused import before_fusing
from intarsia.backbones import Backbone, MemoryPlan, apply_memory_plan, load_backbone
from intarsia.backbones.offload import Offload, offload_of, tensors_of
from intarsia.editing import Studio

OPTIONS: dict[str, Any] = {"box": "20,16,30,30", "prompt": "a red duck", "steps": 2, "lam": 0.5, "seed": 3}
REFERENCE: dict[str, Any] = {"reference": thing(), "detail_strength": 1.0}
PLANS = [MemoryPlan("full"), MemoryPlan("model"), MemoryPlan("model", unet_stays=True), MemoryPlan("group")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    backbone = tiny_backbone()
    save_tiny(backbone, folder)
    save_random_reference(folder / "reference", load_backbone(folder))
    modules = modules_of(backbone)
    lora = random_lora(modules, every=2, rank=2, alpha=1.0)
    save_lora(folder / "lora.safetensors", *write_lora(lora, "kohya", modules))
    return folder


def painted(backbone: Backbone, folder: Path, **options: Any) -> Any:
    lora = folder / "lora.safetensors"
    return Studio(backbone).insert(noise_picture(), lora=lora, **OPTIONS, **options).picture.sha256


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[bool, str]:
    """Without any places: with a reference, and without."""
    return {shown: painted(load_backbone(folder), folder, **REFERENCE if shown else {}) for shown in (True, False)}


def plain_weights(backbone: Backbone) -> list[Tensor]:
    """Of the U-Net, those that LoRAs have replaced."""
    return [before_fusing(value) for value in backbone.unet.parameters() if before_fusing(value) is not value]


@pytest.mark.parametrize("plan", PLANS, ids=["full", "model", "stays", "group"])
@pytest.mark.parametrize("shown", [True, False])
def test_a_lora_paints_the_same_bytes(
    folder: Path, plain: dict[bool, str], monkeypatch: pytest.MonkeyPatch, plan: MemoryPlan, shown: bool
) -> None:
    places = Places().install(monkeypatch)
    backbone = apply_memory_plan(load_backbone(folder), plan)
    parked, real = [], Offload._park

    def park(self: Offload, key: int) -> None:
        real(self, key)
        if key == id(backbone.unet):
            parked.append(places.waits(plain_weights(backbone)))

    called: list[tuple[int, bool]] = []
    backbone.unet.register_forward_pre_hook(
        lambda *_: called.append((len(plain_weights(backbone)), places.waits(plain_weights(backbone))))
    )
    monkeypatch.setattr(Offload, "_park", park)
    for _ in range(2):  # the second time the U-Net may be there when LoRAs come
        assert painted(backbone, folder, **REFERENCE if shown else {}) == plain[shown]
    assert all(parked) and called and all(count for count, _ in called)
    if not shown or plan.mode == "group":
        assert all(waits for _, waits in called), "nothing needs the plain weights"
    manager, before = offload_of(backbone), load_backbone(folder)
    for name, part in backbone.modules().items():
        if manager is not None:
            manager.use(id(part))
        assert all(not places.waits([t]) or not t.numel() for t in tensors_of(part))
        assert all((a == b).all() for a, b in zip(tensors_of(part), tensors_of(before.modules()[name]), strict=True))


def test_plain_weights_wait_until_a_reference_u_net_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from intarsia.adapters import RefineConfig

    places, backbone = Places().install(monkeypatch), tiny_backbone()
    lora = Lora({"unet": random_lora(modules_of(backbone), rank=1, alpha=1.0).layers["unet"]})

    def refine() -> Refine:
        torch.manual_seed(2)
        return Refine.from_unet(backbone.unet, RefineConfig(feature_width=16), torch.zeros(1, 24))

    def bank(refine: Refine) -> Any:
        with torch.no_grad():
            return refine.bank(torch.ones(1, 4, 8, 8), torch.tensor(3), torch.ones(1, 17, 16), torch.ones(1, 6))

    shared = refine()
    wanted = bank(shared)
    with FusedLoras.fuse(backbone.modules(), [(lora, 1.0)]):
        originals = plain_weights(backbone)
        assert originals and places.waits(originals)
        assert all(torch.equal(one, two) for one, two in zip(bank(shared), wanted, strict=True))
        assert any(not places.waits([value]) for value in originals)
        fused = backbone.unet.conv_out.weight
    assert not any(places.waits([value]) for value in backbone.unet.parameters())
    assert fused.numel() == 0, "it made room for the one that came back"


def test_what_did_not_all_come_goes_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places().install(monkeypatch)
    backbone = apply_memory_plan(load_backbone(folder), MemoryPlan("model"))
    manager, real, count = offload_of(backbone), Places.__call__, 0

    def short(self: Places, values: Tensor, device: Any) -> Tensor:
        nonlocal count
        if not isinstance(device, str):
            count += 1
            if count > 5:
                raise MemoryError
        return real(self, values, device)

    with monkeypatch.context() as patched:
        patched.setattr(Places, "__call__", short)
        with pytest.raises(MemoryError):
            manager.use(id(backbone.unet))  # type: ignore[union-attr]
    assert count == 6 and places.waits(value for value in backbone.unet.parameters() if isinstance(value, nn.Parameter))
    manager.use(id(backbone.unet))  # type: ignore[union-attr]
    assert not any(places.waits([value]) for value in backbone.unet.parameters())
