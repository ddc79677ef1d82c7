"""Rows and steps: what an engine is made of, and the rules for names, keys and values."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from intarsia.engines.errors import EngineError, RowError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Row: TypeAlias = dict[str, Any]
StepFunction: TypeAlias = Callable[[Row], list[Row]]
BatchFunction: TypeAlias = Callable[[list[Row]], list[list[Row]]]
"""Rows -> for each of them, in their order, the rows that it becomes."""

REJECTED = "rejected"
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_LONGEST_KEY = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MEMBER = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_STEP = re.compile(r"[a-z0-9_-]+")


@dataclass(frozen=True)
class Step:
    """One step of an engine.

    ``make`` is called once per worker and returns the function, so a model is loaded once; it must be picklable (a
    module's function or class, or a ``functools.partial`` of one). The function gets a row and returns the rows that
    it becomes: the same one with more values, or several (`children`). It may set ``row["rejected"] = "reason"`` (a
    kind of reason, not a measurement: the funnel counts equal texts) or raise (the row is quarantined). It must depend
    on the row alone. Rejected rows skip the later steps, except those with ``sees_rejected``.
    ``gpus`` is the share of GPUs that the step asks Ray for; the local runner ignores it.

    With ``batch`` the function gets a list of at most so many rows (`BatchFunction`), all of one shard and, with
    ``group_by``, of one value in that column, such as a size class; rows without it are a group as well. What becomes
    of a row must not depend on the rows beside it: one generator per row, no statistics over the batch. A batch that
    fails is repeated row by row, so only the rows that fail alone are quarantined.
    """

    name: str
    make: Callable[[], StepFunction | BatchFunction]
    sees_rejected: bool = False
    gpus: float = 0.0
    batch: int | None = None
    group_by: str | None = None


def children(row: Row, values: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows that ``row`` splits into: copies of it with ``values`` and the keys "parent/0", "parent/1", ….

    Works for rows whose key is called ``key``.
    """
    return [{**row, **value, "key": f"{row['key']}/{n}"} for n, value in enumerate(values)]


def safe_key(text: str) -> str:
    """A key made from any text, such as a file's path: unsafe characters become "_", and 64 bits of the text's
    hash keep keys apart that would otherwise become equal (names in another alphabet become nothing but "_", so
    this must hold for millions of them). Text that is a good key already stays as it is."""
    if _KEY.fullmatch(text) and len(text) <= _LONGEST_KEY:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    words = re.sub(r"/+", "/", re.sub(r"[^A-Za-z0-9_/-]+", "_", text)).strip("/")
    return f"{words[-100:].strip('/') or 'row'}-{digest}"


def check_key(key: object) -> str:
    """The key, if it can name the members of a tar. Raises RowError."""
    if not isinstance(key, str) or not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY:
        raise RowError(
            f"the key {key!r} cannot name a sample; use at most {_LONGEST_KEY} letters, digits, '_', '-' and "
            "single '/' between them (safe_key makes one of any text)"
        )
    return key


def check_row(row: object, key: str) -> Row:
    """A copy with plain Python values: scalars (None, bool, int, float, text) and bytes. Raises RowError."""
    if not isinstance(row, dict):
        raise RowError(f"a row must be a dict, got {type(row).__name__}")
    if key not in row:
        raise RowError(f"a row lacks its key {key!r}")
    check_key(row[key])
    return {_checked_name(name, value): _plain(name, value) for name, value in row.items()}


def _checked_name(name: object, value: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RowError(f"{name!r} cannot name a value; use letters, digits, '_', '-' and '.'")
    if isinstance(value, bytes) and (not _MEMBER.fullmatch(name) or name == "json" or name == REJECTED):
        raise RowError(f"{name!r} cannot name bytes; use lower-case letters, digits, '_' and '.', such as 'mask.png'")
    if name == REJECTED and value is not None and not isinstance(value, str):
        raise RowError(f"'rejected' must be text or None, got {type(value).__name__}")
    return name


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or type(value) in (bool, bytes):
        return value
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RowError(f"{name!r} holds text that is not valid Unicode") from None
        return value
    if type(value) in (int, float):
        raise RowError(f"{name!r} is {value}; numbers must be finite and fit 64 bits")
    raise RowError(f"{name!r} is a {type(value).__name__}; rows hold None, bool, int, float, text or bytes")


def scalars(row: Row) -> Row:
    return {name: value for name, value in row.items() if not isinstance(value, bytes)}


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    names = [step.name for step in steps]
    for name in names:
        if not _STEP.fullmatch(name) or name == "thresholds":
            raise EngineError(f"{name!r} cannot name a step; use lower-case letters, digits, '_' and '-'")
        if names.count(name) > 1:
            raise EngineError(f"two steps are called {name!r}; give each its own name")
    if not names:
        raise EngineError("an engine needs at least one step; got none")
    for step in steps:
        if step.batch is not None and step.batch < 1:
            raise EngineError(f"the step {step.name!r} has batches of {step.batch} rows; use at least 1, or None")
        if step.group_by is not None and step.batch is None:
            raise EngineError(f"the step {step.name!r} groups by {step.group_by!r} but has no batch; give it one")
    return tuple(steps)


def check_source(source: Sequence[Row], key: str) -> list[Row]:
    """Copies of the rows. Raises EngineError for no rows, a bad row, equal keys, or a key below another one."""
    rows: list[Row] = []
    for number, row in enumerate(source):
        try:
            rows.append(check_row(row, key))
        except RowError as error:
            raise EngineError(f"row {number} of the source: {error}") from error
        if rows[-1].get(REJECTED) is not None:
            raise EngineError(f"row {number} of the source is rejected already; leave it out")
    if not rows:
        raise EngineError("the source holds no rows; give at least one")
    keys = {row[key] for row in rows}
    if len(keys) < len(rows):
        seen: set[str] = set()
        twice = next(row[key] for row in rows if row[key] in seen or seen.add(row[key]))  # type: ignore[func-returns-value]
        raise EngineError(f"the key {twice!r} occurs twice in the source; keys must be unique")
    for name in keys:
        parts = name.split("/")
        above = next(("/".join(parts[:n]) for n in range(1, len(parts)) if "/".join(parts[:n]) in keys), None)
        if above is not None:
            raise EngineError(f"the keys {above!r} and {name!r} clash: what is below {above!r} belongs to its children")
    return rows


def hash_source(rows: Sequence[Row]) -> str:
    """SHA-256 over all rows in their order; bytes enter by their own hash."""
    digest = hashlib.sha256()
    for row in rows:
        whole = {
            name: {"sha256": hashlib.sha256(value).hexdigest()} if isinstance(value, bytes) else value
            for name, value in row.items()
        }
        digest.update(canonical(whole).encode() + b"\n")
    return digest.hexdigest()
