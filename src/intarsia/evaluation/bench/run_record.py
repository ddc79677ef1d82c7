"""What `run.json` says of a run: benchmark, model, budget, and the settings of every method."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import intarsia
from intarsia.evaluation.bench.errors import BenchError
from intarsia.evaluation.bench.manifest import Benchmark
from intarsia.evaluation.bench.methods import Method
from intarsia.evaluation.bench.paste import PASTE_VERSION, require_blending
from intarsia.evaluation.bench.results_folder import RUN, read_results, read_run, write_run

if TYPE_CHECKING:
    from intarsia.evaluation.bench.run import RunOptions

_NAMED_FAULTS = 20


def open_run(benchmark: Benchmark, folder: Path, methods: Sequence[Method], options: RunOptions) -> None:
    """Write `run.json`, or check that the one there belongs to the same benchmark, model, device, budget and settings,
    and add the methods that are new.

    Raises:
        BenchError: it belongs to something else; or a method cannot run here.
    """
    from intarsia.backbones import locate_model

    if any(method.kind == "paste" for method in methods):
        require_blending()
    told = {method.name: _told(method, options) for method in methods}
    run: dict[str, Any] = {
        "benchmark": benchmark.name,
        "manifest_sha256": benchmark.manifest_sha256,
        "subjects_sha256": benchmark.subjects_sha256,
        "model": options.model,
        "model_hash": str(locate_model(options.model).hash),
        "device": options.device_kind if any(method.kind == "studio" for method in methods) else None,
        "dtype": options.dtype,
        "budget": dict(options.budget),
    }
    known: dict[str, Any] = {}
    if (folder / RUN).exists():
        kept = read_run(folder)
        run["device"] = run["device"] or kept.get("device")
        new = {name for name in ("device",) if kept.get(name) is None}
        other = [name for name, value in run.items() if kept.get(name) != value and name not in new]
        if other:
            raise BenchError(
                f"{folder} holds results of another {', '.join(name.replace('_', ' ') for name in other)}: "
                "give another folder for these"
            )
        known = kept.get("methods", {})
        _same_settings(folder, known, told)
    faults = [{"row": fault.row, "reason": fault.reason} for fault in benchmark.faults[:_NAMED_FAULTS]]
    more = {"left_out": benchmark.left_out, "faults": faults, "versions": _versions()}
    write_run(folder, {**run, **more, "methods": {**known, **told}})


def commit() -> str | None:
    """The commit of the checkout that the package runs from, with `+` where it was changed since; None elsewhere."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None or git("ls-files", "--error-unmatch", str(here / "manifest.py")) is None:
        return None
    return head.strip() + ("+" if git("status", "--porcelain", "--", str(here.parents[1])) else "")


def _same_settings(folder: Path, known: dict[str, Any], told: dict[str, Any]) -> None:
    """Raise BenchError where a method has results with other settings."""
    def digest(methods: dict[str, Any], name: str) -> object:
        return methods.get(name, {}).get("settings_sha256")

    changed = [name for name in told if name in known and digest(known, name) != digest(told, name)]
    made = {result.method for result in read_results(folder)} if changed else set()
    for name in changed:
        if name in made:
            raise BenchError(
                f"{folder} holds results of {name!r} with other settings (its presets have changed since): give "
                "another folder, or take its lines out of lines/"
            )


def _told(method: Method, options: RunOptions) -> dict[str, Any]:
    """What `run.json` says of a method; the hash covers every setting, also those that its presets fill in."""
    from intarsia.request import EditRequest

    settings = f"paste {PASTE_VERSION}"
    if method.kind == "studio":
        settings = EditRequest(
            verb="insert", scene="scene", box="0,0,8,8", prompt="words", subject=_stand_in(method), **method.options
        ).to_json()
    learns = method.learning is not None
    key = method.learning_key(**options.budget) if learns else None
    return {
        "title": method.title,
        "learning": method.learning,
        "learn": method.learn_settings(**options.budget) if learns else {},
        "subjects": key,
        "options": dict(method.options),
        "settings_sha256": hashlib.sha256(f"{settings} {key}".encode()).hexdigest(),
    }


def _stand_in(method: Method) -> str | None:
    """A subject's path where there is one: presets may ask."""
    return None if method.learning is None else "subject.safetensors"


def _versions() -> dict[str, str]:
    found = {"intarsia": intarsia.__version__}
    for name in ("torch", "diffusers", "transformers", "peft"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
