"""What can be wrong with annotations."""

from __future__ import annotations

from intarsia.engines.errors import EngineError


class InstanceError(EngineError):
    """An annotation that cannot be used: of no class, without a picture, with a mask of another size."""


class AnnotationsError(EngineError):
    """A file of annotations that is not there, malformed, or of another kind."""
