"""What can go wrong with a benchmark, its results or its scores."""

from intarsia.errors import IntarsiaError


class BenchError(IntarsiaError):
    """A benchmark, results or scores that cannot be used, or a method that does not exist."""
