"""Before any test module is imported: no network, and few threads, so that runs are alike everywhere."""

from __future__ import annotations

import os
import signal

for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[_name] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: what it inherits was meant for one alone
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))

import torch  # noqa: E402  (after the variables it reads)

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


# Programs started in the background of a shell inherit an ignored SIGINT, and Python then installs no handler;
# the tests of Ctrl-C need the usual one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
