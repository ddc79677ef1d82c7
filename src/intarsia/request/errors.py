"""What is wrong with a request, in one line."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from intarsia.errors import IntarsiaError
from intarsia.request.presets import PRESETS


class RequestError(IntarsiaError):
    """A request that contradicts itself, or a value outside its range."""


def one_line(error: ValidationError, fields: Iterable[str]) -> str:
    """The first fault in words: which field, which value, what is allowed."""
    fault = error.errors(include_url=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    name = str(fault["loc"][0]) if fault["loc"] else ""
    reason = str(fault["msg"]).removeprefix("Value error, ")
    if not name:
        return reason + more
    if fault["type"] == "extra_forbidden":
        return f"{name} is no field of a request; use one of {', '.join(fields)}{more}"
    if fault["type"] in ("missing", "too_long") and len(PRESETS["default"].get(name, ())) > 1:
        usual = PRESETS["default"][name]
        return f"{name} {fault['input']!r} is not {len(usual)} numbers; give as many, like {usual}{more}"
    if fault["type"] == "missing":
        return f"{name} is missing; give it{more}"
    return f"{name} {fault['input']!r} cannot be used: {reason[:1].lower()}{reason[1:]}{more}"
