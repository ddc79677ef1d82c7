"""What can go wrong with an adapter or its file."""

from __future__ import annotations

from intarsia.errors import IntarsiaError


class AdapterError(IntarsiaError):
    """An adapter cannot be injected, ejected or set up as asked."""


class AdapterKeyError(AdapterError):
    """The keys or shapes of a state dict are not those the adapter needs; all of them are listed."""


class AdapterFileError(AdapterError):
    """A file of adapter weights is missing, corrupt or of another kind."""
