from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.backbones.hub_server import COMMIT, diffusers_files, fill_cache, serving
from tests.cli.conftest import Run

from intarsia.backbones import FOOOCUS_FILES, catalog

SD15 = catalog["sd15"].location


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.delenv("INTARSIA_MODELS", raising=False)
    monkeypatch.delenv("INTARSIA_LICENSE_POLICY", raising=False)
    return cache


def rows(run: Run) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(run("models", "--json").out)["models"]}


def test_the_list_tells_what_is_there_and_what_is_not(run: Run, cache: Path) -> None:
    fill_cache(cache, SD15, diffusers_files())
    half = fill_cache(cache, catalog["sdxl"].location, diffusers_files(2))
    (half / "vae" / "config.json").unlink()
    found = rows(run)
    assert [found[name]["state"] for name in ("miniature", "sd15", "sdxl", "pipe-add", "sd15-parts")] == [
        "on disk", "on disk", "incomplete", "missing", "on disk",
    ]  # fmt: skip
    assert found["sd15"]["megabytes"] == 1 and found["sd15"]["fetch"] is None
    assert found["sdxl"]["lacks"] == ["vae/config.json"] and found["sdxl"]["folder"] is None
    assert found["sdxl"]["fetch"] == "intarsia models fetch sdxl" and found["sdxl"]["about_megabytes"] == 6950
    assert found["sdxl-parts"]["state"] == "incomplete" and found["sdxl-fooocus"]["state"] == "incomplete"
    assert found["fooocus-inpaint"]["sha256"] == {name: known.sha256 for name, known in FOOOCUS_FILES.items()}
    assert found["clip"]["licence_class"] == "unknown" and found["sdxl"]["time_ids"] == "sdxl"
    text = run("models").out
    lines = {line.split()[0]: line for line in text.splitlines() if line and not line.startswith(" ")}
    assert "on disk" in lines["sd15"] and " 1 MB" in lines["sd15"] and "512 px" in lines["sd15"]
    assert "incomplete" in lines["sdxl"] and "~6950 MB" in lines["sdxl"] and "four-channel" in lines["sdxl"]
    assert text.rstrip().endswith("intarsia models fetch NAME")


@pytest.mark.parametrize("columns", ["80", "40", None])
def test_the_list_can_be_read_where_it_is_narrow(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS")
    text = run("models").out
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    for entry in catalog.values():
        size = "unknown" if entry.megabytes is None else f"~{entry.megabytes} MB"
        words = [entry.licence_class, entry.inpaint, size] if entry.kind == "hub" else [entry.licence_class, " MB"]
        assert all(word in lines[entry.name] for word in words), lines[entry.name]
        assert len(lines[entry.name]) <= 80 and entry.description[:9] not in text
    assert "--json" in text


def test_the_list_says_what_the_policy_refuses(run: Run) -> None:
    listed = json.loads(run("models", "--license-policy", "permissive", "--json").out)["models"]
    found = {row["name"]: row for row in listed}
    assert {name for name, row in found.items() if row["state"] == "refused"} == {
        name for name, entry in catalog.items() if entry.licence_class != "permissive"
    }
    assert found["sdxl"]["fetch"] is None and found["sam2"]["fetch"] == "intarsia models fetch sam2"
    lines = run("models", "--license-policy", "permissive").out.splitlines()
    assert "refused" in next(line for line in lines if line.startswith("sd15 "))
    assert "refused" not in run("models").out and "INTARSIA_LICENSE_POLICY" not in os.environ
    done = run("models", "--license-policy", "permissive", "fetch", "sdxl")
    assert done.code == 2 and "'sdxl' is refused" in done.err
    assert run("models", "--license-policy", "odd").err.startswith("error: there is no licence policy 'odd'")


def test_fetch_says_in_one_line_why_not(run: Run) -> None:
    for arguments, reason in {
        ("sdxl",): "error: 'sdxl' cannot be fetched while HF_HUB_OFFLINE",
        ("nonsense",): "error: 'nonsense' cannot be fetched: use one of sdxl,",
        ("sdxl", "--license-policy", "permissive"): "error: the licence policy is permissive and 'sdxl' is refused",
        ("sdxl", "--license-policy", "odd"): "error: there is no licence policy 'odd'",
    }.items():
        done = run("models", "fetch", *arguments)
        assert done.code == 2 and done.out == "" and done.err.startswith(reason) and done.err.count("\n") == 1
    done = run("models", "fetch", "miniature")
    assert done.code == 0 and "part of the package" in done.out


def test_the_policy_holds_for_one_command(run: Run, folder: Path) -> None:
    arguments = ["remove", folder / "scene.png", "--box", "9,9,9,9", "-o", folder / "out.png", "--model"]
    done = run(*arguments, folder, "--license-policy", "permissive")
    assert done.code == 2 and "its licence is not known" in done.err and not (folder / "out.png").exists()
    done = run(*arguments, "sdxl", "--license-policy", "permissive")
    assert done.code == 2 and "RAIL++-M (responsible-use)" in done.err
    assert "INTARSIA_LICENSE_POLICY" not in os.environ
    done = run(*arguments, "sdxl")
    assert done.code == 2 and "`intarsia models fetch sdxl`" in done.err
    assert "--lambda" in run("insert", "--help").out and "--license-policy" in run("insert", "--help").out


def test_fetching_from_a_hub_leaves_a_model_to_be_found_offline(tmp_path: Path) -> None:
    """The whole command in a process of its own, as a user calls it."""
    with serving() as hub:
        hub.repositories[SD15] = diffusers_files()
        hub.repositories["someone/wrong"] = diffusers_files()
        hub.corrupt.add("vae/diffusion_pytorch_model.fp16.safetensors")
        environment = {name: text for name, text in os.environ.items() if not name.endswith("_OFFLINE")}
        environment |= {"HF_HUB_CACHE": str(tmp_path / "there"), "HF_ENDPOINT": hub.address}
        source = str(Path(__file__).resolve().parents[2] / "src")
        command = [sys.executable, "-m", "intarsia", "models"]

        def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
            env = {**environment, "PYTHONPATH": source, **variables}
            return subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, check=False)

        wrong = call("fetch", "sd15", "--json")
        assert wrong.returncode == 2 and wrong.stdout == ""
        assert "error: what came as vae/" in wrong.stderr.splitlines()[-1] and "Traceback" not in wrong.stderr
        hub.corrupt.clear()
        done = call("fetch", "sd15", "--json")
    assert done.returncode == 0, done.stderr
    (fetched,) = json.loads(done.stdout)["fetched"]
    assert Path(fetched["folder"]) == tmp_path / "there" / f"models--{SD15.replace('/', '--')}" / "snapshots" / COMMIT
    listed = json.loads(call("--json", HF_HUB_OFFLINE="1").stdout)["models"]
    assert [row["folder"] for row in listed if row["name"] == "sd15"] == [fetched["folder"]]
