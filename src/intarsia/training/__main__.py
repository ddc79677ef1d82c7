"""``python -m intarsia.training``: train the miniature, or continue to."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from intarsia.errors import IntarsiaError
from intarsia.training.instruct_recipe import INSTRUCT_PRESETS, instruct_recipe
from intarsia.training.recipe import SCALES, recipe

STAGES = (
    *("examples", "vae", "towers", "vision", "judges"),
    *("latents", "unet", "references", "assign", "refine", "export"),
)
INSTRUCT = "instruct"
"""Trained from pairs that an engine made with the finished miniature, so it is no part of "all"."""


def main() -> None:
    """Parse the command line and train; bad input is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m intarsia.training",
        description="Train the miniature stage by stage. The same command continues a run that was stopped.",
    )
    parser.add_argument(
        "--scale", choices=list(SCALES), default="cpu", help="smoke: minutes; cpu: hours on two cores; gpu"
    )
    parser.add_argument("--run", type=Path, default=None, help="folder of the run (default: runs/SCALE)")
    stages = (*STAGES, "all", INSTRUCT)
    parser.add_argument("--stage", choices=stages, default="all", help="one stage, or all that are left")
    parser.add_argument("--minutes", type=float, default=None, help="stop (resumably) after so many minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16, where the machine is faster with it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights", type=Path, default=None, help="where export writes (default: RUN/weights)")
    parser.add_argument(
        "--unfinished", action="store_true", help="export the U-Net's running average before it is finished"
    )
    group = parser.add_argument_group("the instruction model (--stage instruct; --scale says nothing to it)")
    group.add_argument("--pairs", type=Path, nargs="+", metavar="FOLDER", help="outputs of the pairs engine, or PIPE's")
    group.add_argument("--pair-weights", type=float, nargs="+", help="how often each is drawn (default: by size)")
    group.add_argument("--preset", choices=list(INSTRUCT_PRESETS), default="miniature")
    group.add_argument("--images", type=int, default=None, help="train on so many images instead of the preset's")
    group.add_argument("--base", default="miniature", help="catalog name or model folder to start from")
    group.add_argument("--stream", action="store_true", help="encode pairs as they come, for sets too large to cache")
    arguments = parser.parse_args()

    try:
        _train(arguments)
    except IntarsiaError as error:
        parser.exit(2, f"error: {error}\n")


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from intarsia.training.miniature import Run
    from intarsia.training.processes import is_main, join

    torch.set_num_threads(arguments.threads)
    device = join(arguments.device)
    if arguments.stage == INSTRUCT:
        _train_instruct(arguments, device)
        return
    chosen = recipe(arguments.scale)
    folder = arguments.run or Path("runs") / chosen.scale
    run = Run(
        chosen,
        folder,
        device=device,
        minutes=arguments.minutes,
        say=lambda line: print(line, flush=True),
    )
    stage = arguments.stage
    if stage in ("examples", "all"):
        run.examples("train")
        run.examples("validation")
    if stage in ("vae", "all"):
        run.vae()
    if stage in ("towers", "all"):
        run.towers()
    if stage in ("vision", "all"):
        run.vision()
    if stage in ("judges", "all"):
        run.judges()
        run.text_judge()
    if stage in ("latents", "all"):
        run.latents()
    if stage in ("unet", "all"):
        run.unet(bf16=arguments.bf16)
    if stage == "references":
        run.references()
    if stage in ("assign", "all") and not chosen.reference.joint:
        run.zero_shot("assign", bf16=arguments.bf16)
    if stage in ("refine", "all"):
        run.zero_shot("joint" if chosen.reference.joint else "refine", bf16=arguments.bf16)
    if stage in ("export", "all"):
        done = run.export(arguments.weights or folder / "weights", unfinished=arguments.unfinished)
        if is_main():
            print("exported" if done else "not finished yet: run the same command again", flush=True)


def _train_instruct(arguments: argparse.Namespace, device: str) -> None:
    from intarsia.training.instruct_stage import run_instruct
    from intarsia.training.processes import is_main

    if not arguments.pairs:
        raise IntarsiaError("--stage instruct needs training pairs: give their folders with --pairs")
    chosen = instruct_recipe(arguments.preset)
    if arguments.images is not None:
        chosen = replace(chosen, images=arguments.images)
    folder = arguments.run or Path("runs") / f"instruct-{chosen.name}"
    done = run_instruct(
        chosen,
        arguments.pairs,
        folder,
        (arguments.weights or folder / "weights") / "miniature_add",
        base=arguments.base,
        weights=arguments.pair_weights,
        stream=arguments.stream,
        device=device,
        minutes=arguments.minutes,
        bf16=arguments.bf16,
        say=lambda line: print(line, flush=True),
    )
    if is_main():
        print("exported" if done else "not finished yet: run the same command again", flush=True)


if __name__ == "__main__":
    main()
