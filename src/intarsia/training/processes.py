"""The processes of an `accelerate launch`: they train together, and one of them writes for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

PATIENCE = timedelta(hours=6)
"""How long the others wait while the first one renders or encodes."""


def join(device: str) -> str:
    """Join the processes that were launched together; returns this one's own device. A lone process is a launch of
    one."""
    import os

    import torch
    from accelerate import PartialState

    on_cpu = torch.device(device).type == "cpu"
    if "LOCAL_RANK" not in os.environ:
        PartialState(cpu=on_cpu)
        return device
    # Towers and judges train on the CPU, the other stages on the device.
    several = {} if on_cpu or not torch.cuda.is_available() else {"backend": "cuda:nccl,cpu:gloo"}
    state = PartialState(cpu=on_cpu, timeout=PATIENCE, **several)
    return device if on_cpu or state.num_processes == 1 else str(state.device)


def is_main() -> bool:
    """Whether this is the process that writes."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block before the others do: what it leaves on disk they find. Nothing in the
    block may train."""
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield


def is_there(path: Path) -> bool:
    """Whether a file exists, as the main process sees it now: the same answer for all, who must all ask."""
    from accelerate.utils import broadcast_object_list

    answer = [path.exists()]
    broadcast_object_list(answer)
    return answer[0]


def wait() -> None:
    """Until all processes are here."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()
