"""What can go wrong with a base model, said so that a user can act on it."""

from __future__ import annotations

from intarsia.errors import IntarsiaError


class BackboneError(IntarsiaError):
    """A model folder is incomplete, unreadable or of a kind Intarsia cannot drive."""


class UnknownModelError(BackboneError):
    """A model name that is neither in the catalog nor a folder."""


class MissingWeightsError(BackboneError):
    """A model of the catalog whose weights are not on this machine."""
