"""What can go wrong while an engine makes data."""

from __future__ import annotations

from intarsia.errors import IntarsiaError, KnobError


class EngineError(IntarsiaError):
    """An engine cannot start or go on."""


class EngineChangedError(EngineError):
    """The output folder holds the shards of another engine, version, source or settings."""


class EngineBusyError(EngineError):
    """Another process is working in the output folder."""


class MissingExtraError(EngineError):
    """A package of the extra ``engine`` is not installed."""


class ThresholdError(EngineError, KnobError):
    """A file of thresholds is malformed or names no score of the run."""


class RowError(EngineError):
    """A row breaks the runner's rules for names, keys or values; the row is quarantined."""
