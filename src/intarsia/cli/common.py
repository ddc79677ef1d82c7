"""What all commands share: how they report, how they fail, and the options they have in common."""

from __future__ import annotations

import functools
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

BAD_INPUT = 2
INTERRUPTED = 130

Model = Annotated[str, typer.Option(help="A model's name (see `intarsia models`) or a model folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps …")]
NumberFormat = Annotated[str, typer.Option("--dtype", help="float32, or float16 / bfloat16 on a GPU.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all messages on stderr.")]


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


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Bad input becomes one line on stderr and exit code 2; Ctrl-C exit code 130."""

    @functools.wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (IntarsiaError, OSError) as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error

    return guarded


def hush_libraries() -> None:
    """Import transformers, and with it torch, and tell it and its companions to be quiet."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def open_studio(model: str, device: str, dtype: str) -> Studio:
    """Load the model; only now torch and its companions are imported."""
    hush_libraries()
    from intarsia.editing import Studio

    return Studio.load(model, device, dtype)


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
