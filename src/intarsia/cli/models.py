"""`intarsia models`."""

from __future__ import annotations

from pathlib import Path

import typer

from intarsia.cli.common import Json, command


@command
def models(json: Json = False) -> None:
    """List the models, their licences, what is on disk.

    \b
    Examples:
      intarsia models
      intarsia models --json
    """
    from intarsia.backbones import MissingWeightsError, catalog, find_model

    rows = []
    for entry in catalog.values():
        folder: Path | None = None
        try:
            folder = find_model(entry.name)[1]
        except MissingWeightsError:
            folder = None
        rows.append(
            {
                "name": entry.name,
                "on_disk": folder is not None,
                "folder": None if folder is None else str(folder),
                "megabytes": None if folder is None else _megabytes(folder),
                "native_size": entry.native_size,
                "licence": entry.licence,
                "licence_class": entry.licence_class,
                "source": entry.kind,
                "location": entry.location,
                "description": entry.description,
            }
        )
    if json:
        import json as encoder

        typer.echo(encoder.dumps({"models": rows}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "on disk", "size", "licence", "what it is", box=None, pad_edge=False)
    for row in rows:
        on_disk = f"{row['megabytes']} MB" if row["on_disk"] else "no"
        table.add_row(
            str(row["name"]),
            on_disk,
            f"{row['native_size']} px",
            str(row["licence"]),
            str(row["description"]),
        )
    Console().print(table)


def _megabytes(folder: Path) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 1e6)
