"""`accelerate launch` with two processes: each takes its share, gradients are averaged, weights stay equal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

WORKER = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from accelerate import PartialState
state = PartialState(cpu=True)
from intarsia.training.loop import LoopConfig, share, train
class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
line = Line()
drawn = []
def loss(step, generator):
    x = torch.randn(share(8), 3, generator=generator)
    drawn.append(x)
    return ((x @ line.weight) - x.sum(1)).square().mean()
assert train(line, loss, LoopConfig("line", 64, 8, 0.1, 3, warmup=8, ema_half_life=20), Path(sys.argv[1]))
out = {"weight": line.weight.tolist(), "first": drawn[0].tolist()}
Path(sys.argv[1], f"rank{state.process_index}.json").write_text(json.dumps(out))
"""

STAGES = """
def main():
    import json, sys
    from dataclasses import replace
    from pathlib import Path
    from intarsia.training.processes import join
    device = join("cpu")
    from intarsia.training.miniature import Run
    from intarsia.training.recipe import SMOKE
    from intarsia.training.unet import build_unet
    from intarsia.training.zero_shot import build_zero_shot
    import accelerate, torch
    recipe = replace(SMOKE, examples=8, vae=replace(SMOKE.vae, images=16, batch=8))
    run = Run(recipe, Path(sys.argv[1], "run"), device=device)
    cache = run.latents()
    new = build_zero_shot(recipe, build_unet(recipe), "assign", torch.zeros(1, recipe.towers.projection)).assign
    rank = accelerate.PartialState().process_index
    fresh = float(sum(p.double().sum() for p in new.resampler.parameters()))
    out = {"target": float(cache.target.double().sum()), "fresh": fresh}
    Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(out))
# Rendering starts processes of its own, which import this file.
if __name__ == "__main__":
    main()
"""


def launch(code: str, folder: Path) -> list[int]:
    """Exit codes of two processes, started as `accelerate launch --cpu --num_processes 2` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = folder / "worker.py"
    script.write_text(code)
    environment = {
        **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            start_new_session=True,
        )
        for rank in (0, 1)
    ]
    try:
        return [process.wait(timeout=300) for process in running]
    finally:
        # With them go the processes that they started.
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_one_of_two_processes_writes_and_both_go_on_with_the_same(tmp_path: Path) -> None:
    assert launch(STAGES, tmp_path) == [0, 0]
    a, b = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert a == b
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"recipe.json", "vae.final.pt", "latents.pt", "numbers.json"} <= names
    assert not [name for name in names if name.endswith(".part")]


def test_two_processes_share_a_batch_and_end_with_the_same_weights(tmp_path: Path) -> None:
    assert launch(WORKER, tmp_path) == [0, 0]
    a, b = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert len(a["first"]) == len(b["first"]) == 4
    assert a["first"] != b["first"]
    assert a["weight"] == b["weight"]
    rows = [json.loads(line) for line in (tmp_path / "line.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [64]
    # The same steps in one process, on both shares at once.
    weight = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, 0.98), weight_decay=0.01)
    from intarsia.training.loop import LoopConfig, step_generator

    config = LoopConfig("line", 64, 8, 0.1, 3, warmup=8, ema_half_life=20)
    average = weight.detach().clone()
    for step in range(8):
        x = torch.cat([torch.randn(4, 3, generator=step_generator(3, step, rank)) for rank in (0, 1)])
        optimizer.param_groups[0]["lr"] = config.rate(step)
        ((x @ weight) - x.sum(1)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(0.5 ** (8 / 20), (2 + step) / (11 + step))
        average.lerp_(weight.detach(), 1 - decay)
    assert torch.allclose(torch.tensor(a["weight"]), average, atol=1e-5)
