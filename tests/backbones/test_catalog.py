from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.backbones.hub_server import COMMIT, diffusers_files, fill_cache

from intarsia.backbones import (
    FOOOCUS_FILES,
    BackboneError,
    LicenceError,
    MissingWeightsError,
    UnknownModelError,
    catalog,
    check_licence,
    entry_on_disk,
    find_model,
    licence_policy,
    licence_policy_of,
    locate_model,
    locate_part,
    model_hash,
)
from intarsia.sampling import SCHEDULERS

HEAD, PATCH = FOOOCUS_FILES
SDXL, SD15 = catalog["sdxl"].location, catalog["sd15"].location
SDXL_KEY = "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias"
UNET_KEY = "model.diffusion_model.out.2.bias"
INPUT_KEY = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("INTARSIA_MODELS", raising=False)
    monkeypatch.delenv("INTARSIA_LICENSE_POLICY", raising=False)
    return cache


def fill_fooocus(cache: Path) -> Path:
    entry = catalog["fooocus-inpaint"]
    return fill_cache(cache, entry.location, dict.fromkeys(FOOOCUS_FILES, b"x"), str(entry.revision), ref="")


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_safetensors(path: Path, *keys: str) -> Path:
    """One byte for each key, and the first convolution of a four-channel U-Net."""
    header = {key: {"dtype": "U8", "shape": [1], "data_offsets": [place, place + 1]} for place, key in enumerate(keys)}
    if UNET_KEY in keys:
        header[INPUT_KEY] = {"dtype": "U8", "shape": [1, 4, 1, 1], "data_offsets": [len(keys), len(keys) + 4]}
    text = json.dumps(header | {"__metadata__": {"a": "b"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(len(keys) + (4 if UNET_KEY in keys else 0)))
    return path


# What the catalog says


def test_entries_agree_with_one_another() -> None:
    for name, entry in catalog.items():
        assert entry.name == name and (entry.base is None or entry.base in catalog), name
        assert entry.scheduler is None or entry.scheduler in SCHEDULERS
        alone = entry.inpaint != "part"
        assert alone == (entry.native_size is not None) == (entry.time_ids is not None) == (entry.scheduler is not None)
        assert (entry.kind == "hub") == (entry.megabytes is not None)
        assert entry.kind == "package" or entry.files or entry.base, f"{name}: nothing to fetch"
        assert alone or entry.needs
        assert set(entry.sha256) <= set(entry.files)
    assert {catalog[name].inpaint for name in ("miniature", "sdxl-inpaint", "sd15-inpaint")} == {"nine-channel"}
    assert catalog["sdxl-fooocus"].inpaint == "four-channel + head" and catalog["sd15"].inpaint == "four-channel"


def test_the_parts_that_are_bundled_are_whole() -> None:
    for name in ("miniature", "miniature-add"):
        assert entry_on_disk(catalog[name]).complete
        assert find_model(name) == (name, entry_on_disk(catalog[name]).folder)


# Finding, without a network


@pytest.mark.parametrize(("name", "towers"), [("sdxl", 2), ("sdxl-inpaint", 2), ("sd15", 1), ("sd15-inpaint", 1)])
@pytest.mark.parametrize("variant", [".fp16", ""])
def test_models_are_found_in_the_hubs_cache(cache: Path, name: str, towers: int, variant: str) -> None:
    with pytest.raises(MissingWeightsError, match=rf"'{name}' \(.*\) .*not on this machine: .*models fetch {name}`$"):
        locate_model(name)
    folder = fill_cache(cache, catalog[name].location, diffusers_files(towers, variant=variant))
    assert locate_model(name).path == folder and find_model(name) == (name, folder)


@pytest.mark.parametrize("gone", sorted(diffusers_files(2)))
def test_an_interrupted_download_is_told_as_incomplete(cache: Path, gone: str) -> None:
    folder = fill_cache(cache, SDXL, diffusers_files(2))
    (folder / gone).resolve().unlink()  # the link in the snapshot stays, and leads nowhere
    named = gone if gone.endswith((".json", ".txt")) else f"{gone.split('/')[0]}/*.safetensors"
    with pytest.raises(MissingWeightsError, match=r"incomplete, without .*models fetch sdxl`$") as caught:
        locate_model("sdxl")
    assert named in str(caught.value)


def test_shards_are_all_wanted(cache: Path) -> None:
    files = diffusers_files(1, variant="")
    del files["unet/diffusion_pytorch_model.safetensors"]
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    files["unet/diffusion_pytorch_model.safetensors.index.json"] = json.dumps(index).encode()
    fill_cache(cache, SD15, files)
    with pytest.raises(MissingWeightsError, match="incomplete, without unet/"):
        locate_model("sd15")
    fill_cache(cache, SD15, {f"unet/{index['weight_map']['a']}": b"w"})
    assert locate_model("sd15").path.is_dir()


def test_repositories_are_found_by_name_and_revision(cache: Path) -> None:
    folder = fill_cache(cache, "someone/model", diffusers_files(2))
    other = fill_cache(cache, "someone/model", diffusers_files(2), "f" * 40, ref="v2")
    assert locate_model("someone/model").path == locate_model(f"someone/model@{COMMIT}").path == folder
    found = locate_model("someone/model@v2")
    assert (found.name, found.path) == ("someone/model@v2", other)
    with pytest.raises(MissingWeightsError, match=r"someone/model@v3.* are not .*fetch someone/model@v3`"):
        locate_model("someone/model@v3")
    with pytest.raises(MissingWeightsError, match=r"nor is there such a folder"):
        locate_model("folder/that-is-not-there")
    fill_cache(cache, "someone/file", {"big.safetensors": b""})
    single = write_safetensors(cache.parent / "big.safetensors", UNET_KEY).read_bytes()
    folder = fill_cache(cache, "someone/file", {"big.safetensors": single})
    fill_cache(cache, SD15, dict.fromkeys(catalog["sd15-parts"].needs, b"{}"))
    assert locate_model("someone/file").path == folder / "big.safetensors"


@pytest.mark.parametrize(
    "name", ["", "+fooocus", "imaginary", "a/b/c", "../up/there", "a/../b", "/no/such", "none.safetensors", "a/b.ckpt"]
)
def test_what_is_no_model_is_unknown(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModelError, match=r"unknown model .*: use one of miniature, .* a folder") as caught:
        locate_model(name)
    assert "sam2" not in str(caught.value)


def test_parts_are_no_models_but_can_be_located(cache: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"'sam2' is no model alone .*: use one of miniature, sdxl"):
        locate_model("sam2")
    folder = fill_cache(cache, catalog["sam2"].location, {"config.json": b"{}", "model.safetensors": b"w"})
    assert locate_part("sam2") == folder
    with pytest.raises(UnknownModelError, match="unknown part"):
        locate_part("imaginary")


def test_own_folders_come_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("INTARSIA_MODELS", str(own))
    cached = fill_cache(cache, SDXL, diffusers_files(2))
    assert locate_model("sdxl").path == cached
    write_files(own / "sdxl", {"model_index.json": b"{}"})
    assert locate_model("sdxl").path == cached  # what is whole comes before what is not
    write_files(own / "sdxl", diffusers_files(2))
    assert locate_model("sdxl").path == own / "sdxl" == locate_part("sdxl-parts")
    write_files(own / "fooocus-inpaint", {HEAD: b"h", PATCH: b"p"})
    found = locate_model("sdxl-fooocus")
    assert (found.head, found.patch) == (own / "fooocus-inpaint" / HEAD, own / "fooocus-inpaint" / PATCH)
    write_files(own / "mine", diffusers_files(1))
    write_files(own / "someone" / "model", diffusers_files(1))
    write_safetensors(own / "juggernaut.safetensors", UNET_KEY, SDXL_KEY)
    assert locate_model("mine").path == own / "mine"
    assert locate_model("someone/model").path == own / "someone" / "model"
    assert locate_model("juggernaut").path == own / "juggernaut.safetensors"


# Single files


@pytest.mark.parametrize(("keys", "parts"), [((UNET_KEY, SDXL_KEY), "sdxl"), ((UNET_KEY,), "sd15")])
def test_a_single_file_needs_the_parts_of_its_family(
    cache: Path, tmp_path: Path, keys: tuple[str, ...], parts: str
) -> None:
    file = write_safetensors(tmp_path / "juggernaut.safetensors", *keys)
    with pytest.raises(MissingWeightsError, match=rf"not on this machine: .*`intarsia models fetch {parts}-parts`$"):
        locate_model(file)
    folder = fill_cache(cache, catalog[parts].location, dict.fromkeys(catalog[f"{parts}-parts"].needs, b"{}"))
    found = locate_model(file)
    assert (found.name, found.path, found.parts, found.head) == ("juggernaut", file, folder, None)
    with pytest.raises(MissingWeightsError, match="incomplete"):
        locate_model(parts)  # settings alone are no model
    beside = tmp_path / "juggernaut"
    write_files(beside, {"model_index.json": b"{}"})
    assert locate_model(file).parts == beside


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    for suffix in (".ckpt", ".pt", ".bin"):
        (tmp_path / f"model{suffix}").touch()
        with pytest.raises(BackboneError, match=r"is a pickle, which may run code .* \.safetensors file"):
            locate_model(tmp_path / f"model{suffix}")
    whole = write_safetensors(tmp_path / "whole.safetensors", UNET_KEY).read_bytes()
    wrong = (whole[:-1], whole[:20], b"", b"\xff" * 64, b"\x02" + bytes(7) + b"[]", whole + b"x")
    for number, content in enumerate(wrong):
        broken = tmp_path / f"{number}.safetensors"
        broken.write_bytes(content)
        with pytest.raises(BackboneError, match="is not a whole safetensors file"):
            locate_model(broken)
    lora = write_safetensors(tmp_path / "lora.safetensors", "lora_unet_x.lora_down.weight")
    with pytest.raises(BackboneError, match=r"holds no whole checkpoint .* LoRA"):
        locate_model(lora)
    (tmp_path / "picture.png").touch()
    with pytest.raises(UnknownModelError, match=r"picture.png is no model"):
        locate_model(tmp_path / "picture.png")


# Fooocus


def test_fooocus_goes_onto_any_four_channel_sdxl(cache: Path, tmp_path: Path) -> None:
    base = fill_cache(cache, SDXL, diffusers_files(2))
    with pytest.raises(MissingWeightsError, match=r"'fooocus-inpaint' .*`intarsia models fetch fooocus-inpaint`$"):
        locate_model("sdxl-fooocus")
    files = fill_fooocus(cache)
    found = locate_model("sdxl-fooocus")
    assert found == locate_model("sdxl+fooocus")
    assert (found.name, found.path, found.head, found.patch) == ("sdxl-fooocus", base, files / HEAD, files / PATCH)
    mine = write_files(tmp_path / "mine", diffusers_files(2))
    assert locate_model(f"{mine}+fooocus").name == "mine+fooocus"
    file = write_safetensors(tmp_path / "juggernaut.safetensors", UNET_KEY, SDXL_KEY)
    single = locate_model(f"{file}+fooocus")
    assert (single.name, single.path, single.parts, single.head) == ("juggernaut+fooocus", file, base, files / HEAD)
    other = fill_cache(cache, "someone/model", diffusers_files(2))
    assert locate_model("someone/model+fooocus").path == other
    for name in ("sd15", "sdxl-inpaint", "miniature", "pipe-add", "sdxl-fooocus"):
        with pytest.raises(BackboneError, match=f"'{name}' cannot take Fooocus"):
            locate_model(f"{name}+fooocus")


def test_an_incomplete_pair_is_told(cache: Path) -> None:
    fill_cache(cache, SDXL, diffusers_files(2))
    assert entry_on_disk(catalog["sdxl-fooocus"]).lacks == (HEAD, PATCH)
    (fill_fooocus(cache) / PATCH).resolve().unlink()
    (fill_fooocus(cache) / PATCH).unlink()
    assert entry_on_disk(catalog["sdxl-fooocus"]).lacks == (PATCH,)


# Addresses: what a recipe stores


def test_an_address_finds_the_same_files_again(cache: Path, tmp_path: Path) -> None:
    fill_cache(cache, SDXL, diffusers_files(2))
    fill_cache(cache, "someone/model", diffusers_files(2), ref="v2")
    fill_fooocus(cache)
    mine = write_files(tmp_path / "sdxl", diffusers_files(2))
    file = write_safetensors(tmp_path / "jug.safetensors", UNET_KEY, SDXL_KEY)
    for given, address in {
        "miniature": "miniature",
        "sdxl": "sdxl",
        "sdxl+fooocus": "sdxl-fooocus",
        "someone/model@v2": "someone/model@v2",
        "someone/model@v2+fooocus": "someone/model@v2+fooocus",
        str(mine): str(mine),  # bears the name of another model
        f"{mine}+fooocus": f"{mine}+fooocus",
        str(file): str(file),
        f"{file}+fooocus": f"{file}+fooocus",
    }.items():
        found = locate_model(given)
        assert found.address == address
        assert locate_model(address) == found


def test_a_relative_path_is_never_taken_for_a_name(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_fooocus(cache)
    monkeypatch.chdir(tmp_path)
    for name in ("sdxl", "miniature"):
        folder = write_files(tmp_path / name, diffusers_files(2))
        for given in (f"./{name}", f"{name}/"):
            found = locate_model(given)
            assert found.address == f"./{name}" and found.entry is None and found.path.samefile(folder)
            assert locate_model(found.address) == found
    write_safetensors(tmp_path / "sdxl.safetensors", UNET_KEY, SDXL_KEY)
    fooocus = locate_model("sdxl.safetensors+fooocus")
    assert fooocus.address == "./sdxl.safetensors+fooocus" and fooocus.entry is None and fooocus.name == "sdxl+fooocus"


def test_a_path_is_also_looked_for_beside_and_a_name_of_one_s_own_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_files(tmp_path / "pictures" / "mine", diffusers_files(2))
    with pytest.raises(UnknownModelError):
        locate_model("mine")
    assert locate_model("mine", beside=tmp_path / "pictures").address == str(folder)
    monkeypatch.setenv("INTARSIA_MODELS", str(tmp_path / "pictures"))
    assert locate_model("mine").address == "mine"


def test_a_folder_that_only_bears_a_checkpoint_s_name_holds_no_settings_of_it(cache: Path, tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "jug.safetensors", UNET_KEY, SDXL_KEY)
    (tmp_path / "jug").mkdir()
    (tmp_path / "jug" / "sample.png").write_bytes(b"")
    with pytest.raises(MissingWeightsError, match="intarsia models fetch sdxl-parts"):
        locate_model(file)


def test_a_renamed_file_is_the_same_model(tmp_path: Path) -> None:
    file = write_safetensors(tmp_path / "jug.safetensors", UNET_KEY, SDXL_KEY)
    before = model_hash(file)
    assert model_hash(file.rename(tmp_path / "jug_v9.safetensors")) == before


@pytest.mark.parametrize("keys", [(UNET_KEY,), ()])
def test_fooocus_on_another_kind_of_model_is_told_at_once(cache: Path, tmp_path: Path, keys: tuple[str, ...]) -> None:
    fill_fooocus(cache)
    if keys:
        given = write_safetensors(tmp_path / "old.safetensors", *keys)
        write_files(tmp_path / "old", {"model_index.json": b"{}"})
    else:
        given = write_files(tmp_path / "nine", diffusers_files(2))
        (given / "unet" / "config.json").write_text('{"in_channels": 9, "addition_embed_type": "text_time"}')
    with pytest.raises(BackboneError, match="four-channel SDXL") as caught:
        locate_model(f"{given}+fooocus")
    assert len(str(caught.value)) < 400


# Licences


def test_the_permissive_policy_refuses_the_rest_with_a_reason(tmp_path: Path) -> None:
    with licence_policy_of("permissive"):
        assert licence_policy() == "permissive"
        assert locate_model("miniature").name == "miniature"
        check_licence("grounding-dino", catalog["grounding-dino"])
        for name, reason in {
            "sdxl": r"'sdxl' is refused: its licence is CreativeML Open RAIL\+\+-M \(responsible-use\)",
            "sdxl-fooocus": "'sdxl-fooocus' is refused",
            "sd15+fooocus": "cannot take",
            "someone/model": "its licence is not known, as it is not in the catalog",
            str(tmp_path): "its licence is not known",
            SD15: "OpenRAIL-M",
        }.items():
            with pytest.raises(BackboneError, match=reason):
                locate_model(name)
        with pytest.raises(LicenceError, match=r"its licence is not clear \(undeclared"):
            locate_part("clip")
    assert licence_policy() == "any"


def test_the_policy_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTARSIA_LICENSE_POLICY", "permissive")
    with pytest.raises(LicenceError, match="refused"):
        locate_model("sd15")
    with licence_policy_of("any"), pytest.raises(MissingWeightsError):
        locate_model("sd15")
    monkeypatch.setenv("INTARSIA_LICENSE_POLICY", "nonsense")
    with pytest.raises(LicenceError, match="no licence policy 'nonsense': use one of any, permissive"):
        locate_model("miniature")
    with pytest.raises(LicenceError, match="'odd'"), licence_policy_of("odd"):
        pass
    assert os.environ["INTARSIA_LICENSE_POLICY"] == "nonsense"


def test_finding_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom intarsia.backbones import MissingWeightsError, locate_model\nlocate_model('miniature')\n"
        "try:\n    locate_model('someone/model')\nexcept MissingWeightsError:\n    pass\n"
        "print(*[name for name in ('torch', 'diffusers', 'transformers', 'httpx2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
