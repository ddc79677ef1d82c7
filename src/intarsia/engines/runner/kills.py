"""Measuring what SIGKILL at random moments does to an engine's output: nothing, if all is well."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from intarsia.engines.errors import EngineError
from intarsia.engines.runner.output import INDEX, LOCK, MANIFEST, open_output
from intarsia.engines.runner.samples import read_dead_rows, read_rows


@dataclass(frozen=True)
class KillReport:
    """``kills`` that struck a living process, over ``rounds`` runs from an empty folder to the end. ``lost`` and
    ``doubled`` count rows (kept, rejected or quarantined) against the undisturbed run, summed over the rounds;
    ``different`` names files whose bytes differ or that only one of the folders has."""

    kills: int
    rounds: int
    lost: int
    doubled: int
    different: tuple[str, ...]


def measure_kills(
    engine_command: Callable[[Path], Sequence[str]],
    output: Path,
    reference_output: Path,
    kills: int,
    seed: int = 0,
    *,
    environment: dict[str, str] | None = None,
) -> KillReport:
    """Run the command that ``engine_command`` gives for a folder, kill it at ``kills`` random moments and start it
    again each time; a run that ends before all kills have struck is compared and begun anew in an emptied folder.

    ``reference_output`` is made undisturbed first, if it is not finished yet. Every second kill strikes the whole
    group of processes, the others the first one alone. Raises EngineError where the command itself fails.
    """
    draw = random.Random(seed)
    began = time.monotonic()
    if not (reference_output / MANIFEST).is_file():
        _to_the_end(engine_command(reference_output), environment)
        seconds = time.monotonic() - began
    else:  # only to learn how long a run takes
        _empty(output)
        _to_the_end(engine_command(output), environment)
        seconds = time.monotonic() - began
    expected = row_counts(reference_output)
    struck, rounds, lost, doubled, different = 0, 0, 0, 0, set[str]()
    while struck < kills or rounds == 0:
        _empty(output)
        while True:
            last = struck >= kills
            wait = None if last else draw.uniform(0, seconds)
            if _strike(engine_command(output), environment, wait, group=struck % 2 == 1):
                struck += 1
            else:
                break
        rounds += 1
        found = row_counts(output)
        lost += (expected - found).total()
        doubled += (found - expected).total()
        different |= set(different_files(reference_output, output))
    return KillReport(struck, rounds, lost, doubled, tuple(sorted(different)))


def row_counts(folder: Path) -> Counter[str]:
    """How often each key occurs among the rows and the quarantined rows of an output folder."""
    _, identity = open_output(folder)
    found: Counter[str] = Counter()
    for table, key in ((read_rows(folder), identity["key"]), (read_dead_rows(folder), "key")):
        if key in table.column_names:
            found.update(table[key].to_pylist())
    return found


def different_files(one: Path, other: Path) -> list[str]:
    """Files below two folders, locks and caches aside, that differ or that only one of them has."""
    names = {str(p.relative_to(root)) for root in (one, other) for p in root.rglob("*") if p.is_file()} - {LOCK, INDEX}
    return sorted(name for name in names if _bytes(one / name) != _bytes(other / name))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _empty(folder: Path) -> None:
    if folder.exists() and any(p.name not in (LOCK, INDEX) for p in folder.iterdir()):
        open_output(folder)  # raises for a folder of other things, which is then not emptied
        shutil.rmtree(folder)


def _strike(command: Sequence[str], environment: dict[str, str] | None, wait: float | None, *, group: bool) -> bool:
    """Run the command; True if it was killed after ``wait`` seconds, False if it came to its end before."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise EngineError(f"the engine's command ended with code {process.returncode}: {last[0]}")
    return False


def _to_the_end(command: Sequence[str], environment: dict[str, str] | None) -> None:
    _strike(command, environment, None, group=False)
