from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from huggingface_hub import constants
from tests.backbones.hub_server import COMMIT, Hub, diffusers_files, fill_cache, serving

from intarsia.backbones import (
    FOOOCUS_FILES,
    BackboneError,
    FetchError,
    LicenceError,
    catalog,
    entry_on_disk,
    fetch_model,
    fetching,
    known_models,
    locate_model,
    locate_part,
)

SD15 = catalog["sd15"].location
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("INTARSIA_MODELS", raising=False)
    return cache


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        hub.repositories[SD15] = diffusers_files()
        yield hub


def test_what_is_fetched_is_found_offline(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    useless = {
        "unet/diffusion_pytorch_model.safetensors": b"single precision",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"for training",
        "unet/diffusion_pytorch_model.safetensors.index.json": b'{"weight_map": {"a": "of-the-plain-ones"}}',
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "v1-5-pruned.safetensors": b"all in one file",
        "safety_checker/model.fp16.safetensors": b"not used",
    }
    hub.repositories[SD15] |= useless
    said: list[str] = []
    (done,) = fetch_model("sd15", say=said.append)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate_model("sd15").path == done.folder == cache / f"models--{SD15.replace('/', '--')}/snapshots/{COMMIT}"
    assert done.checked == 3 and done.files == len(diffusers_files())
    for name, content in diffusers_files().items():
        assert (done.folder / name).read_bytes() == content
    assert not any((done.folder / name).exists() for name in useless)
    assert said[0].startswith("fetching sd15: 1.0 MB of 1.0 MB from ") and "the same command goes on" in said[0]

    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    said.clear()
    assert fetch_model("sd15", say=said.append) == (done,)
    assert said == ["checking 1.0 MB on disk"] and hub.ranges(UNET) == []


def test_a_stopped_download_goes_on_where_it_was(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what comes is written in pieces of 10 MB
    content = hub.repositories[SD15][UNET]
    hub.cut[UNET] = 100_001
    with pytest.raises(FetchError, match=r"answered 500 for .* it goes on"):
        fetch_model("sd15")
    assert not entry_on_disk(catalog["sd15"]).complete
    hub.cut.clear()
    hub.asked.clear()
    hub.sent.clear()
    said: list[str] = []
    (done,) = fetch_model("sd15", say=said.append)
    assert (done.folder / UNET).read_bytes() == content
    assert hub.ranges(UNET) == ["bytes=100000-"] and hub.sent[UNET] == len(content) - 100_000
    assert "fetching sd15: 0.9 MB of 1.0 MB" in said[0]
    assert not list(cache.rglob("*.incomplete"))


def test_what_is_corrupt_is_not_kept(hub: Hub, cache: Path) -> None:
    hub.corrupt.add(UNET)
    with pytest.raises(FetchError, match=r"unet/.* is corrupt .* deleted"):
        fetch_model("sd15")
    assert not list(cache.rglob("*.incomplete")) and not entry_on_disk(catalog["sd15"]).complete
    hub.corrupt.clear()
    (done,) = fetch_model("sd15")

    blob = (done.folder / UNET).resolve()
    blob.write_bytes(b"!" + blob.read_bytes()[1:])
    said: list[str] = []
    fetch_model("sd15", say=said.append)
    assert any(UNET in line and "corrupt" in line for line in said)
    assert (done.folder / UNET).read_bytes() == hub.repositories[SD15][UNET]


def test_a_begun_file_that_is_too_long_is_begun_anew(hub: Hub, cache: Path) -> None:
    content = hub.repositories[SD15][UNET]
    sha = hashlib.sha256(content).hexdigest()
    begun = cache / f"models--{SD15.replace('/', '--')}" / "blobs" / f"{sha}.intarsia.incomplete"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(bytes(len(content) + 7))
    (done,) = fetch_model("sd15")
    assert (done.folder / UNET).read_bytes() == content


def test_the_known_hashes_are_those_of_the_files(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog["fooocus-inpaint"]
    files = {name: name.encode() * 999 for name in FOOOCUS_FILES}
    hub.repositories[entry.location] = files
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in entry.sha256}

    def use(sha256: dict[str, str]) -> None:
        changed = replace(entry, sha256=MappingProxyType(sha256), revision=COMMIT)
        for module in (fetching, known_models):
            monkeypatch.setattr(module, "catalog", {**catalog, entry.name: changed})

    use(dict(entry.sha256))
    with pytest.raises(FetchError, match=r"another fooocus_inpaint_head.pth .* nothing was fetched"):
        fetch_model("fooocus-inpaint")
    assert fetch_model("fooocus-inpaint", revision="main")[0].checked == 2  # another revision is the user's own choice
    use(hashes)
    (done,) = fetch_model("fooocus-inpaint")
    assert done.checked == 2 and locate_part("fooocus-inpaint") == done.folder


def test_a_model_with_fooocus_is_fetched_in_its_parts(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories[catalog["sdxl"].location] = diffusers_files(2)
    part = catalog["fooocus-inpaint"]
    fill_cache(Path(constants.HF_HUB_CACHE), part.location, dict.fromkeys(FOOOCUS_FILES, b"x"), str(part.revision))
    monkeypatch.setattr(fetching, "_fetch", lambda source, say: asked.append(source))
    asked: list[object] = []
    for name in ("sdxl-fooocus", "sdxl+fooocus", "someone/else@v2+fooocus"):
        fetch_model(name)
    assert [getattr(one, "name", "") for one in asked] == [
        *("sdxl", "fooocus-inpaint") * 2, "someone/else@v2", "fooocus-inpaint",
    ]  # fmt: skip
    assert getattr(asked[4], "revision", "") == "v2" and getattr(asked[4], "repository", "") == "someone/else"


def test_any_repository_can_be_fetched_by_its_name(hub: Hub) -> None:
    hub.repositories["someone/plain"] = diffusers_files(variant="")
    (done,) = fetch_model(f"someone/plain@{COMMIT}")
    assert locate_model(f"someone/plain@{COMMIT}").path == done.folder
    hub.repositories["someone/helper"] = {"config.json": b"{}", "model.safetensors": b"w", "pytorch_model.bin": b"p"}
    (helper,) = fetch_model("someone/helper")
    assert helper.files == 2
    talk = {"chat_template.jinja": b"{{ messages }}", "tokenizer.model": b"pieces", "own.py": b"", "optimizer.pt": b""}
    hub.repositories["someone/talker"] = {"config.json": b"{}", "model.safetensors": b"w", **talk}
    (talker,) = fetch_model("someone/talker")
    assert talker.files == 4 and {path.name for path in talker.folder.iterdir()} >= {*list(talk)[:2]}
    hub.repositories["someone/file"] = {"README.md": b"", "picture_xl.fp16.safetensors": b"w" * 8}
    assert fetch_model("someone/file")[0].files == 1


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("someone/missing", None, "no someone/missing is on the Hub, or it is private"),
        ("someone/many", {"a.safetensors": b"", "b.safetensors": b""}, "holds 2 checkpoints"),
        ("someone/pickles", {"model_index.json": b"{}", "unet/model.bin": b""}, "no safetensors weights"),
        ("someone/half", {k: v for k, v in diffusers_files().items() if "vae" not in k}, "incomplete at 'main'"),
        ("sd15@nonsense", None, "cannot be fetched: use one of sdxl,"),
        ("nonsense", None, "cannot be fetched: use one of sdxl,"),
        ("", None, "cannot be fetched: use one of sdxl,"),
        ("sd15+fooocus", None, "'sd15' cannot take Fooocus"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(
    hub: Hub, name: str, files: dict[str, bytes] | None, reason: str
) -> None:
    if files is not None:
        hub.repositories[name] = files
    with pytest.raises(BackboneError) as caught:
        fetch_model(name)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_revisions_terms_and_room_are_said_in_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="has no revision 'v9'"):
        fetch_model("sd15", revision="v9")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=900_000))
    with pytest.raises(FetchError, match=r"'sd15' needs 1.0 MB more under .*hub, where 0.9 MB are free: make room"):
        fetch_model("sd15")
    hub.gated = True
    with pytest.raises(FetchError, match="wants its terms accepted"):
        fetch_model("sd15")


def test_without_a_network_it_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match=r"while HF_HUB_OFFLINE .* is set: .* \$INTARSIA_MODELS/sdxl$"):
        fetch_model("sdxl-fooocus")
    assert fetch_model("miniature") == ()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"could not be fetched \(ConnectError.*check the network"):
        fetch_model("sd15")


def test_the_licence_policy_holds_for_fetching(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTARSIA_LICENSE_POLICY", "permissive")
    for name in ("sd15", "sdxl-fooocus", "clip", "someone/else"):
        with pytest.raises(LicenceError, match="policy is permissive and '"):
            fetch_model(name)
    assert hub.asked == []


def test_download_may_be_asked_for_by_the_library(hub: Hub) -> None:
    assert locate_model("sd15", download=True).path.is_dir()
    hub.repositories["someone/plain"] = diffusers_files()
    assert locate_model("someone/plain", download=True).name == "someone/plain"
