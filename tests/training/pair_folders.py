"""Small training pairs on disk: an engine's shards, and PIPE's Parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 56)


def png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def row(number: int, *, mask: bool = True, **changes: Any) -> dict[str, Any]:
    """A grey gradient; with a coloured square in the target, at a place that goes with the number."""
    height, width = SIZE
    source = np.repeat(np.linspace(60, 160, width).astype(np.uint8)[None, :, None], height, 0).repeat(3, 2)
    target, hole = source.copy(), np.zeros(SIZE, np.uint8)
    top, left = (number * 7) % (height - 10), (number * 11) % (width - 10)
    target[top : top + 10, left : left + 10] = (250, number % 250, 10)
    hole[top : top + 10, left : left + 10] = 255
    values: dict[str, Any] = {
        "source_img": png(source),
        "target_img": png(target),
        "Instruction_VLM-LLM": f"add a red square {number}",
        "Instruction_Class": "add a square",
        "Instruction_Ref_Dataset": "",
        "object_location": "the left",
        "img_id": str(number),
    }
    return values | ({"mask": png(hole)} if mask else {}) | changes


def write_tar(path: Path, rows: dict[str, dict[str, Any]], suffix: str = ".png") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, values in rows.items():
            members = {name + suffix: value for name, value in values.items() if isinstance(value, bytes)}
            text = {name: value for name, value in values.items() if not isinstance(value, bytes)}
            for name, data in sorted((members | {"json": json.dumps(text).encode()}).items()):
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def write_shards(folder: Path, sizes: tuple[int, ...], first: int = 0) -> Path:
    """Plain tars of so many samples each; keys are numbers."""
    for shard, size in enumerate(sizes):
        rows = {f"{n:05d}": row(n) for n in range(first, first + size)}
        write_tar(folder / f"{shard:05d}.tar", rows, suffix=".png" if shard % 2 else "")
        first += size
    return folder


def write_table(path: Path, count: int, group: int) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [row(n, mask=False) for n in range(count)]
    for one in rows:
        for name in ("source_img", "target_img"):
            one[name] = {"bytes": one[name], "path": None}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
