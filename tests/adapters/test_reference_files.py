from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.adapters.tiny_unets import FEATURES, WIDTH, fingerprint, randomised, run, sd15_like, sdxl_like

import intarsia.adapters.reference_files as reference_files
from intarsia.adapters import (
    AdapterError,
    AdapterFileError,
    Assign,
    AssignConfig,
    Refine,
    RefineConfig,
    load_reference,
    max_references_of,
    save_reference,
)
from intarsia.errors import DiskFullError, OutputError

BASE = "c0ffee" * 10 + "0123"


def adapters_for(unet: Any, trains: Any = "attention", seed: int = 0) -> tuple[Assign, Refine]:
    """Small random numbers that half precision holds exactly."""
    config = AssignConfig(FEATURES, WIDTH, tokens=3, width=8, heads=1, head_width=8, max_references=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        assign = randomised(Assign.from_unet(unet, config), seed)
        refine = Refine.from_unet(unet, RefineConfig(FEATURES, trains), torch.randn(1, 24))
        with torch.no_grad():
            for value in (*assign.parameters(), *refine.own_parameters(), refine.null_pooled):
                value.copy_((value + 0.05 * torch.randn_like(value)).half())  # type: ignore[arg-type,operator]
    return assign, refine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_reference(tmp_path / "reference", *adapters_for(sdxl_like()), BASE)
    return tmp_path / "reference"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(str(path), framework="pt") as stream:
        return dict(stream.metadata())


@pytest.mark.parametrize("trains", ["cross_attention", "attention", "all"])
@pytest.mark.parametrize("make", [sdxl_like, sd15_like])
def test_round_trip_is_exact(make: Any, trains: Any, tmp_path: Path) -> None:
    unet = make()
    assign, refine = adapters_for(unet, trains)
    save_reference(tmp_path / "r", assign, refine, BASE)
    other = make()
    before, plain = fingerprint(other), run(other)
    draws = torch.random.get_rng_state()
    loaded = load_reference(tmp_path / "r", other, BASE)
    assert torch.equal(torch.random.get_rng_state(), draws)
    assert loaded.refine is not None and len(loaded.hash) == 64
    assert loaded.assign.config == assign.config and loaded.refine.config == refine.config
    for mine, theirs in (
        (assign.state_dict(), loaded.assign.state_dict()),
        (refine.own_state(), loaded.refine.own_state()),
    ):
        assert list(mine) == list(theirs) and all(torch.equal(value, theirs[key]) for key, value in mine.items())
    assert fingerprint(other) == before and torch.equal(run(other), plain)
    assert not loaded.assign.injected and not loaded.refine.injected
    for module in (loaded.assign, loaded.refine):
        assert not any(p.requires_grad for p in module.parameters()) and not any(m.training for m in module.modules())
    tokens, features = torch.ones(2, 3, WIDTH), torch.ones(2, 17, FEATURES)
    outputs = []
    for one, a, r in ((unet, assign, refine), (other, loaded.assign, loaded.refine)):
        a.inject(one).show(tokens)
        bank = r.bank(torch.ones(2, 4, 8, 8), torch.tensor(9), features, torch.ones(2, 6))
        r.inject(one).show(bank)
        outputs.append(run(one))
    assert torch.equal(*outputs) and not torch.allclose(outputs[1], plain, atol=1e-3)


def test_the_same_weights_are_the_same_bytes_in_half_precision(folder: Path, tmp_path: Path) -> None:
    save_reference(tmp_path / "again", *adapters_for(sdxl_like()), BASE)
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["assign.safetensors", "refine.safetensors"]
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        assert {value.dtype for value in load_file(folder / name).values()} == {torch.float16}
        found = metadata_of(folder / name)
        assert found["base"] == BASE and found["format_version"] == "1" and found["kind"] == name.split(".")[0]
        assert json.loads(found["config"])["feature_width"] == FEATURES


def test_the_hash_follows_the_contents_alone(folder: Path, tmp_path: Path) -> None:
    unet = sdxl_like()
    assign, refine = adapters_for(unet)
    first = load_reference(folder, unet, BASE).hash
    assert load_reference(folder.rename(tmp_path / "moved"), sdxl_like()).hash == first
    save_reference(tmp_path / "alone", assign, None, BASE)
    alone = load_reference(tmp_path / "alone", unet, BASE)
    assert alone.refine is None and alone.hash != first
    with torch.no_grad():
        assign.resampler.latents[0, 0, 0] += 1
    save_reference(tmp_path / "changed", assign, refine, BASE)
    assert load_reference(tmp_path / "changed", unet, BASE).hash not in (first, alone.hash)


def test_large_files_are_numbered_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = sdxl_like()
    whole = load_reference(folder, unet, BASE)
    assert reference_files.SHARD_BYTES < 15e6
    monkeypatch.setattr(reference_files, "SHARD_BYTES", 20_000)
    save_reference(folder, *adapters_for(sdxl_like()), BASE)
    parts = sorted(folder.glob("refine*"))
    count = len(parts)
    assert count > 2 and not (folder / "refine.safetensors").exists()
    assert [part.name for part in parts] == [f"refine-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    keys = [sorted(load_file(part)) for part in parts]
    assert all(a[-1] < b[0] for a, b in pairwise(keys))
    for part in parts:
        assert len(keys[parts.index(part)]) == 1 or sum(v.nbytes for v in load_file(part).values()) <= 20_000
    assert load_reference(folder, unet, BASE).hash == whole.hash and max_references_of(folder) == 2
    (folder / parts[1].name).rename(tmp_path / "elsewhere")
    with pytest.raises(AdapterFileError, match=rf"do not fit together \(refine-00002-of-{count:05d}"):
        load_reference(folder, unet, BASE)
    monkeypatch.undo()
    save_reference(folder, *adapters_for(sdxl_like()), BASE)
    assert sorted(file.name for file in folder.iterdir()) == ["assign.safetensors", "refine.safetensors"]
    save_file(load_file(folder / "refine.safetensors"), folder / "refine-00001-of-00002.safetensors")
    with pytest.raises(AdapterFileError, match="do not fit together"):
        load_reference(folder, unet, BASE)


def test_parts_of_two_savings_are_not_mixed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_files, "SHARD_BYTES", 20_000)
    for name, base in (("a", BASE), ("b", "other")):
        save_reference(tmp_path / name, *adapters_for(sdxl_like()), base)
    part = sorted(file.name for file in (tmp_path / "a").glob("assign*"))[-1]
    (tmp_path / "b" / part).replace(tmp_path / "a" / part)
    with pytest.raises(AdapterFileError, match="belongs to another saving"):
        load_reference(tmp_path / "a", sdxl_like(), BASE)


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    with pytest.raises(AdapterFileError, match=r"another model \(weights c0ffeec0ffee…, not beefbeefbeef…\)"):
        load_reference(folder, sdxl_like(), "beef" * 16)
    other = sd15_like()
    before = fingerprint(other)
    with pytest.raises(AdapterError, match=r"Assign weights do not fit.*layers\.5") as caught:
        load_reference(folder, other)
    assert "\n" not in str(caught.value) and fingerprint(other) == before


def rewrite(change: Callable[[dict[str, Any], dict[str, str]], None], name: str = "assign") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / f"{name}.safetensors"
        state, metadata = load_file(path), metadata_of(path)
        change(state, metadata)
        save_file(state, path, metadata=metadata)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "assign.safetensors").unlink(), "has no assign.safetensors"),
        (lambda f: (f / "assign.safetensors").rename(f / "assign.bin"), "assign.bin is a pickle.*safetensors twin"),
        (lambda f: (f / "assign.safetensors").write_bytes(b"\x08broken"), r"assign\.safetensors is corrupt"),
        (lambda f: (f / "refine.safetensors").write_bytes(b""), r"refine\.safetensors is corrupt"),
        (lambda f: os.truncate(f / "refine.safetensors", 20_000), r"refine\.safetensors is corrupt"),
        (lambda f: (f / "refine.safetensors").replace(f / "assign.safetensors"), "is of kind 'refine'"),
        (rewrite(lambda s, m: m.update(format_version="7")), "version '7', not 'assign', '1'"),
        (rewrite(lambda s, m: m.pop("config")), "settings that cannot be read"),
        (rewrite(lambda s, m: m.update(config="{")), "settings that cannot be read"),
        (rewrite(lambda s, m: m.update(config="[1]")), "settings that cannot be read"),
        (rewrite(lambda s, m: m.update(config='{"colour": 1}')), "settings that cannot be read"),
        (
            rewrite(lambda s, m: m.update(config=m["config"].replace('"tokens": 3', '"tokens": 0'))),
            r"settings that cannot be read \(tokens 0 is not a size",
        ),
        (
            rewrite(lambda s, m: m.update(config=m["config"].replace('"tokens": 3', '"tokens": 4'))),
            r"do not fit.*resampler\.latents is \(1, 3, 8\) instead of \(1, 4, 8\)",
        ),
        (rewrite(lambda s, m: s["layers.0.to_k.weight"].fill_(float("nan"))), "not finite in layers.0.to_k.weight"),
        (rewrite(lambda s, m: s.__delitem__("layers.0.to_k.weight")), "1 missing: layers.0.to_k.weight"),
        (rewrite(lambda s, m: s.__delitem__("null_pooled"), "refine"), "1 missing: null_pooled"),
        (
            rewrite(lambda s, m: m.update(config='{"feature_width": 16, "trains": "x"}'), "refine"),
            "trains 'x' is unknown",
        ),
    ],
)  # fmt: skip
def test_damaged_folders_give_one_clear_line(folder: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(folder)
    unet = sdxl_like()
    before = fingerprint(unet)
    with pytest.raises(AdapterError, match=words) as caught:
        load_reference(folder, unet, BASE)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert fingerprint(unet) == before


def test_wrong_paths_give_one_clear_line(folder: Path, tmp_path: Path) -> None:
    unet = sdxl_like()
    with pytest.raises(AdapterFileError, match="nowhere does not exist"):
        load_reference(tmp_path / "nowhere", unet)
    (tmp_path / "ip-adapter-plus_sdxl_vit-h.bin").write_bytes(b"pickle")
    with pytest.raises(AdapterFileError, match=r"is a pickle.*take its \.safetensors twin"):
        load_reference(tmp_path / "ip-adapter-plus_sdxl_vit-h.bin", unet)
    with pytest.raises(AdapterFileError, match="give the folder that it is in"):
        load_reference(folder / "assign.safetensors", unet)
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(AdapterFileError, match="corrupt or not a safetensors file"):
        load_reference(tmp_path / "note.txt", unet)


def test_saving_keeps_strangers_and_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assign, refine = adapters_for(sdxl_like(), seed=1)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    calls: list[Path] = []
    write = reference_files.write_file_atomically

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise DiskFullError("no space left")
        write(path, data)

    monkeypatch.setattr(reference_files, "write_file_atomically", full)
    with pytest.raises(DiskFullError):
        save_reference(folder, assign, refine, BASE)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert list(folder.parent.iterdir()) == [folder]
    with torch.no_grad():
        assign.layers[0].to_k.weight[0, 0] = 1e6  # type: ignore[union-attr,index,operator]
    with pytest.raises(AdapterFileError, match=r"not finite in half precision in layers\.0\.to_k\.weight"):
        save_reference(folder, assign, refine, BASE)
    (folder / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"holds other files \(holiday\.jpg\)"):
        save_reference(folder, *adapters_for(sdxl_like()), BASE)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before | {"holiday.jpg": b"mine"}
    with pytest.raises(OutputError, match="is not a folder"):
        save_reference(folder / "holiday.jpg", *adapters_for(sdxl_like()), BASE)


def test_the_count_of_references_is_read_without_torch(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from intarsia.adapters import max_references_of as peek; "
        f"print(peek({str(folder)!r}), peek({str(tmp_path / 'nowhere')!r}), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["2", "None", "False"]
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    assert max_references_of(tmp_path / "bad.safetensors") is None and max_references_of(tmp_path) is None
