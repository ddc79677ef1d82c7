"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from intarsia import __version__
from intarsia.cli.add import add
from intarsia.cli.bench import bench
from intarsia.cli.convert import convert
from intarsia.cli.data import data
from intarsia.cli.demo import demo
from intarsia.cli.edit import insert, remove
from intarsia.cli.learn import learn
from intarsia.cli.models import models
from intarsia.cli.outpaint import outpaint
from intarsia.cli.replay import replay
from intarsia.cli.train import train

app = typer.Typer(
    name="intarsia",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"intarsia {__version__}")
        raise typer.Exit()


@app.callback()
def intarsia(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Paint things into pictures at a mask: from words, from a photo of them, or learned from a few photos.

    \b
    Start here:
      intarsia demo                                    everything once, into the folder demo/
      intarsia learn photos/ --class duck -o duck.safetensors
      intarsia insert room.png --box 80,90,64,64 --subject duck.safetensors \\
          --prompt "a red duck wearing a hat" -o out.png
      intarsia insert room.png --box 80,90,64,64 --reference mug.jpg -o out.png
      intarsia add room.png "add a red mug at the left" -o out.png
      intarsia remove room.png --mask mask.png -o empty.png
      intarsia outpaint room.png --left 64 --right 64 -o wider.png
      intarsia replay out.png                          make it again, and compare
      intarsia convert duck.safetensors --to kohya -o duck_kohya.safetensors
      intarsia bench tabletop -o first --limit 24      compare methods, with intervals
    """


for _command in (learn, insert, add, remove, outpaint, replay, convert, demo):
    app.command()(_command)
app.add_typer(models, name="models")
app.add_typer(data, name="data")
app.add_typer(train, name="train")
app.add_typer(bench, name="bench")


def main() -> None:
    """The entry point of the `intarsia` command."""
    app()
