"""The house's arrows: which room may import which, and what stays light. CONTRIBUTING.md tells why."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SOURCE / "intarsia"
HEAVY = ("torch", "diffusers", "transformers", "pyarrow", "ray", "cv2")
LIGHT = (
    "intarsia",
    "intarsia.errors",
    "intarsia.imaging",
    "intarsia.request",
    "intarsia.result",
    "intarsia.cli",
    "intarsia.tabletop",
    "intarsia.perception",
    "intarsia.engines",
    "intarsia.training.__main__",
    "intarsia.evaluation.__main__",
)

# Direct permissions; what these may import is permitted as well. Everyone may import `errors` and `lazy`.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "lazy": set(),
    "request": set(),
    "result": {"request", "imaging"},
    "imaging": set(),
    "tabletop": set(),
    "backbones": {"imaging"},
    "adapters": {"backbones"},
    "conditioning": {"backbones", "adapters"},
    "sampling": {"backbones", "imaging"},
    "perception": {"imaging", "backbones"},
    # Learning gets its painter as a function, so that Studio can offer `learn` without a circle.
    "learning": {"backbones", "adapters", "conditioning", "sampling", "imaging", "perception"},
    "editing": {"learning", "request", "result", "perception"},
    "engines": {"perception", "editing"},
    "training": {"perception", "tabletop", "adapters", "sampling", "conditioning", "backbones", "imaging"},
    "evaluation": {"editing", "learning", "perception", "tabletop", "training", "engines"},
}
EVERYTHING = {"cli", "__main__"}


def permitted(room: str) -> set[str]:
    """All rooms that a room may import, straight or through others."""
    if room in EVERYTHING:
        return {*ARROWS, *EVERYTHING}
    found, waiting = {room, "errors", "lazy"}, [room]
    while waiting:
        new = ARROWS[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, module, names) of each import of the package's own modules, also inside functions."""
    package = module_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "intarsia":
                    yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            if module.split(".")[0] == "intarsia":
                yield node.lineno, module, tuple(alias.name for alias in node.names)


def public_face(room: str) -> set[str]:
    """The names in `__all__` of a room's `__init__`."""
    path = PACKAGE / room / "__init__.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return set(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return set()


def faults(path: Path) -> Iterator[str]:
    """What a file imports against the rules."""
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":  # the package's own face loads its three names lazily; the light test watches it
        return
    where = path.relative_to(SOURCE)
    if room not in ARROWS and room not in EVERYTHING:
        yield f"{where}: the room {room} is not in the table of arrows"
        return
    for line, module, names in imports(path):
        inner = module.split(".")[1:]
        if inner:
            targets = [(inner[0], inner[1:], names)]
        else:  # `from intarsia import room`, or a name of the package's own face such as __version__
            targets = [(name, [], ()) for name in names if name in ARROWS or name in EVERYTHING]
            if set(names) & {"Studio", "EditRequest", "EditResult"}:
                yield f"{where}:{line}: import from the room itself, not from the package's face"
        for other, rest, wanted in targets:
            if other == room:
                continue
            if other not in permitted(room):
                yield f"{where}:{line}: {room} may not import {other}"
            hidden = [name for name in wanted if is_file_of(other, name) and name not in public_face(other)]
            if rest or hidden:
                yield f"{where}:{line}: reaches into {other}'s inner file {'.'.join(rest) or hidden[0]}"


def is_file_of(room: str, name: str) -> bool:
    return (PACKAGE / room / f"{name}.py").exists() or (PACKAGE / room / name / "__init__.py").exists()


def test_arrows_run_down_and_no_room_reaches_into_another() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert files
    assert [fault for path in files for fault in faults(path)] == []


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import intarsia.editing", "imaging may not import editing"),
        ("from intarsia import cli", "imaging may not import cli"),
        ("def f():\n    from intarsia.backbones import catalog", "imaging may not import backbones"),
        ("from ..learning import Subject", "imaging may not import learning"),
        ("from intarsia.errors import KnobError\nfrom .mask import Mask\nimport numpy", None),
    ],
)
def test_the_check_sees_forbidden_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, complaint: str | None
) -> None:
    room = tmp_path / "intarsia" / "imaging"
    room.mkdir(parents=True)
    (room / "sample.py").write_text(code)
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "intarsia")
    found = list(faults(room / "sample.py"))
    assert found == [] if complaint is None else complaint in found[0]


def test_the_check_sees_inner_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("imaging", "backbones"):
        (tmp_path / "intarsia" / room).mkdir(parents=True)
    imaging = tmp_path / "intarsia" / "imaging"
    (imaging / "__init__.py").write_text('__all__ = ["Mask"]')
    (imaging / "mask.py").write_text("")
    user = tmp_path / "intarsia" / "backbones" / "sample.py"
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "intarsia")
    for code, count in (
        ("from intarsia.imaging import Mask", 0),
        ("from intarsia.imaging.mask import Mask", 1),
        ("from intarsia.imaging import mask", 1),
        ("import intarsia.imaging.mask", 1),
    ):
        user.write_text(code)
        assert len(list(faults(user))) == count, code


def exists(module: str) -> bool:
    path = SOURCE.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    if not exists(module):
        pytest.skip(f"{module} does not exist yet")
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_packages_face_is_lazy_and_complete() -> None:
    import intarsia

    assert intarsia.__version__ == "0.1.0"
    assert {"Studio", "EditRequest", "EditResult"} <= set(dir(intarsia))
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = intarsia.nothing_here
