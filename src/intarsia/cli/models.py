"""`intarsia models` and `intarsia models fetch`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intarsia.cli.common import Json, LicencePolicy, command, guarded, reporting

if TYPE_CHECKING:
    from intarsia.backbones import CatalogEntry

models = typer.Typer(rich_markup_mode=None)
_NARROWEST = 80
_WIDE = 120
"""Columns from which descriptions are shown."""


@models.callback(invoke_without_command=True)
@guarded
def models_list(context: typer.Context, license_policy: LicencePolicy = None, json: Json = False) -> None:
    """List the models: what is on disk, what is missing, what the licence policy refuses, and under which licence.

    \b
    Examples:
      intarsia models
      intarsia models --json
      intarsia models --license-policy permissive
      intarsia models fetch sdxl
    """
    from intarsia.backbones import catalog, licence_policy_of

    context.with_resource(licence_policy_of(license_policy))
    if context.invoked_subcommand is not None:
        return
    rows = [_row(entry) for entry in catalog.values()]
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"models": rows}, ensure_ascii=False))
    else:
        _print(rows)


@models.command("fetch")
@command
def models_fetch(
    name: Annotated[str, typer.Argument(help="A name of `intarsia models`, or OWNER/NAME on the Hugging Face Hub.")],
    revision: Annotated[
        str | None, typer.Option(help="A commit, tag or branch of the repository instead of the usual one.")
    ] = None,
    json: Json = False,
) -> None:
    """Download a model from the Hugging Face Hub into its cache; no other command downloads anything.

    Stopped, the same command goes on where it was. Files whose sha256 is known are checked, also those that were
    there. Elsewhere than in the cache: copy a model's folder to $INTARSIA_MODELS/NAME.

    \b
    Examples:
      intarsia models fetch sdxl-fooocus
      intarsia models fetch sdxl-parts
      intarsia models fetch OWNER/NAME --revision main
    """
    from intarsia.backbones import catalog, fetch_model

    with reporting(json) as reporter:
        done = fetch_model(name, revision=revision, say=reporter.say, bars=not json and sys.stderr.isatty())
        if revision is not None and name in catalog and done:
            reporter.say(f"this revision is used by --model {catalog[name].location}@{revision}")
        places = ", ".join(
            f"{one.folder} ({one.bytes / 1e6:,.0f} MB in {one.files} files, {one.checked} checked by sha256)"
            for one in done
        )
        reporter.done(
            f"{name} is in {places}" if done else f"{name} is part of the package: there is nothing to fetch",
            {
                "name": name,
                "fetched": [
                    {
                        "name": one.name,
                        "folder": str(one.folder),
                        "files": one.files,
                        "bytes": one.bytes,
                        "checked": one.checked,
                    }
                    for one in done
                ],
            },
        )


def _row(entry: CatalogEntry) -> dict[str, Any]:
    from intarsia.backbones import LicenceError, catalog, check_licence, entry_on_disk, megabytes_of

    found = entry_on_disk(entry)
    state = "missing" if found.folder is None else "incomplete" if found.lacks else "on disk"
    try:
        check_licence(entry.name, entry)
    except LicenceError:
        state = "refused"
    megabytes: int | None = None
    if found.complete and found.folder is not None:
        megabytes = megabytes_of(found.folder, entry.files)
        if entry.inpaint == "four-channel + head":
            parts = [catalog[str(entry.base)], catalog["fooocus-inpaint"]]
            there = [(entry_on_disk(part).folder, part.files) for part in parts]
            megabytes = sum(megabytes_of(Path(folder), patterns) for folder, patterns in there if folder is not None)
    hub = entry.kind == "hub"
    return {
        "name": entry.name,
        "state": state,
        "on_disk": found.complete,
        "folder": str(found.folder) if found.complete else None,
        "lacks": list(found.lacks),
        "megabytes": megabytes,
        "about_megabytes": entry.megabytes,
        "fetch": f"intarsia models fetch {entry.name}" if state in ("missing", "incomplete") and hub else None,
        "native_size": entry.native_size,
        "scheduler": entry.scheduler,
        "time_ids": entry.time_ids,
        "inpaint": entry.inpaint,
        "base": entry.base,
        "licence": entry.licence,
        "licence_class": entry.licence_class,
        "source": entry.kind,
        "location": entry.location,
        "revision": entry.revision,
        "sha256": dict(entry.sha256),
        "description": entry.description,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    # Piped or narrow, lines are long rather than cut.
    console = Console()
    console = Console(width=max(console.width, _NARROWEST))
    titles = ["name", "state", "size", "licence", "paints", "mask"]
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for title in titles:
        table.add_column(title, no_wrap=True)
    if wide:
        table.add_column("what it is", overflow="fold")
    for row in rows:
        about = "unknown" if row["about_megabytes"] is None else f"~{row['about_megabytes']} MB"
        cells = [
            row["name"],
            row["state"],
            about if row["megabytes"] is None else f"{row['megabytes']} MB",
            row["licence_class"],
            "" if row["native_size"] is None else f"{row['native_size']} px",
            row["inpaint"],
        ]
        table.add_row(*cells, *([row["description"]] if wide else []))
    console.print(table)
    if not wide:
        console.print(f"\nWhat they are: --json says it, or {_WIDE} columns.", highlight=False)
    if any(row["fetch"] for row in rows):
        console.print("\nWhat is missing or incomplete is fetched by: intarsia models fetch NAME", highlight=False)
