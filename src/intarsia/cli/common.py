"""What all commands share: how they report, how they fail, and the options they have in common."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TextIO

import typer

from intarsia.errors import IntarsiaError, IntarsiaWarning

if TYPE_CHECKING:
    from intarsia.editing import Studio
    from intarsia.learning import LearnProgress

Parameters = ParamSpec("Parameters")

_POLICY = "license_policy"
BAD_INPUT = 2
INTERRUPTED = 130

Model = Annotated[
    str, typer.Option(help="A name (see `intarsia models`), a folder, a .safetensors file, or OWNER/NAME on the Hub.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps …")]
NumberFormat = Annotated[str, typer.Option("--dtype", help="auto, float32, or float16 / bfloat16 on a GPU.")]
Memory = Annotated[
    str, typer.Option("--memory", help="On a GPU: full, model or group (offload: less memory, more time), or auto.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all messages on stderr.")]
LicencePolicy = Annotated[
    str | None,
    typer.Option(
        "--license-policy", help="any, or permissive: refuse other models [env INTARSIA_LICENSE_POLICY]. Default: any."
    ),
]


class Reporter:
    """Messages go to stderr, the outcome to stdout: one line, or with `--json` one JSON object."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.warnings: list[str] = []

    def say(self, message: str) -> None:
        """A message beside the outcome."""
        typer.echo(message, err=True)

    def warn(self, message: str) -> None:
        """A warning, once; it is part of the JSON outcome as well."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.say(f"warning: {message}")

    def done(self, line: str, outcome: dict[str, Any]) -> None:
        """The outcome."""
        typer.echo(json.dumps({**outcome, "warnings": self.warnings}, ensure_ascii=False) if self.as_json else line)


@contextmanager
def reporting(as_json: bool) -> Iterator[Reporter]:
    """A reporter that also gets the library's warnings; those of other packages are left out."""
    reporter = Reporter(as_json)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        reporter.warn(" ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", IntarsiaWarning)
        warnings.showwarning = show
        yield reporter


def guarded(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Bad input, or too little memory, becomes one line on stderr and exit code 2; Ctrl-C exit code 130."""

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (IntarsiaError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except (RuntimeError, MemoryError) as error:
            from intarsia.backbones import memory_error_of

            explained = memory_error_of(error)
            if explained is None:
                raise
            typer.echo(f"error: {explained}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error

    return call


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """A `guarded` command that also takes `--license-policy`, in force while it runs."""

    @functools.wraps(function)
    def under_policy(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        policy = kwargs.pop(_POLICY, None)
        if policy is None:
            return function(*args, **kwargs)
        from intarsia.backbones import licence_policy_of

        with licence_policy_of(str(policy)):
            function(*args, **kwargs)

    # Typer evaluates the annotations of a function, but not those of a signature that is given to it.
    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter(_POLICY, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=LicencePolicy)
    call = guarded(under_policy)
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    call.__annotations__ = {**function.__annotations__, _POLICY: LicencePolicy}
    return call


def hush_libraries() -> None:
    """Import transformers, and with it torch, and tell it and its companions to be quiet."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    # The variables are read when transformers starts, and a cut-out may have started it before.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def open_studio(model: str, device: str, dtype: str, memory: str = "auto") -> Studio:
    """Load the model and say what of it is where, but of a small one on a CPU; only now torch and its companions are
    imported."""
    from intarsia.backbones import check_memory_mode

    check_memory_mode(memory)
    hush_libraries()
    from intarsia.editing import Studio, is_small

    studio = Studio.load(model, device, dtype, memory=memory)
    if studio.memory is not None and not (studio.memory.device == "cpu" and is_small(studio.backbone)):
        typer.echo(studio.memory.describe(), err=True)
    return studio


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr, driven by (done, all, label); nothing is drawn when quiet or when stderr is no
    terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, description=text or label)

        yield advance


_PHASES = {
    "name": "naming its attributes",
    "paint": "painting other ones like it",
    "encode": "encoding pictures",
    "train": "learning",
    "done": "learned",
}


def learning_report(advance: Callable[[int, int, str], None]) -> Callable[[LearnProgress], None]:
    """A learning's reports as a progress bar."""

    def report(progress: LearnProgress) -> None:
        label = _PHASES.get(progress.phase, progress.phase)
        if progress.loss is not None:
            label += f", loss {progress.loss:.3f}"
        advance(progress.step, progress.total, label)

    return report
