"""Ctrl-C between two steps rather than in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """`requested` becomes true at the first Ctrl-C; a second one interrupts at once."""

    requested: bool = False


@contextmanager
def watch_for_interruption() -> Iterator[Interruption]:
    """Defer Ctrl-C while the block runs. Elsewhere than in the main thread, or where the program has its
    own handler, nothing is changed.
    """
    state = Interruption()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield state
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        state.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handle)
    try:
        yield state
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
