"""What can go wrong with a base model, said so that a user can act on it."""

from __future__ import annotations

from intarsia.errors import IntarsiaError


class BackboneError(IntarsiaError):
    """A model folder is incomplete, unreadable or of a kind Intarsia cannot drive."""


class UnknownModelError(BackboneError):
    """A model name that is neither in the catalog nor a folder."""


class MissingWeightsError(BackboneError):
    """A model of the catalog whose weights are not on this machine."""


class FetchError(BackboneError):
    """A model could not be fetched: no network, no room, nothing there, or a file that is not what it must be."""


class DeviceMemoryError(BackboneError):
    """A device ran out of memory."""


class LicenceError(BackboneError):
    """A model whose licence the policy in force does not permit, or a policy that there is not."""
