"""``python -m intarsia.evaluation.speed``: count, measure ratios, print a table and write the numbers."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path
from typing import Any

from intarsia.errors import IntarsiaError
from intarsia.evaluation.results import Results, ResultsError

PARTS = ("counts", "ratios")


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is not {least} or more")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m intarsia.evaluation.speed",
        description="What an edit costs: exact counts, and times as ratios to the stock diffusers pipeline in one run.",
    )
    parser.add_argument(
        "--sdxl", action="store_true", help="SDXL's size with random weights on a CUDA device, end to end"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, help="which of both, without --sdxl (default: both)")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/speed.json or sdxl_speed.json")
    parser.add_argument("--steps", type=_at_least(2), help="of an edit (default: 30; of the ratios 8)")
    parser.add_argument("--pairs", type=_at_least(1), help="of runs per ratio (default: 21, with --sdxl 11)")
    parser.add_argument("--threads", type=_at_least(1), help="how many threads torch takes")
    return parser


def main() -> None:
    """Parse the command line and measure; bad input is one line on stderr and exit code 2."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.sdxl and arguments.only:
        parser.error("--only is of no use with --sdxl: leave it out")
    arguments.only = arguments.only or PARTS
    try:
        _sdxl(arguments) if arguments.sdxl else _speed(arguments)
    except IntarsiaError as error:
        parser.exit(2, f"error: {error}\n")


def _speed(arguments: argparse.Namespace) -> None:
    from intarsia.backbones import load_backbone
    from intarsia.evaluation.speed.counts import call_counts, calls_of_edits, lora_counts, shape_counts
    from intarsia.evaluation.speed.edits import Job
    from intarsia.evaluation.speed.ratios import ratios
    from intarsia.evaluation.speed.report import Report
    from intarsia.evaluation.speed.sdxl_shape import SDXL

    _prepare(arguments)
    backbone = load_backbone("miniature")
    results = _results(arguments.output or Path("benchmarks/results/speed.json"), backbone.hash)
    report = Report(results, _machine("cpu"))
    side, steps = backbone.native_size, arguments.steps or 30
    if "counts" in arguments.only:
        report.heading(f"Counts, exact on every machine; edits of {steps} steps with guidance")
        job = Job(side, steps)
        calls = calls_of_edits(backbone, job)
        report.calls(calls)
        for count in (*call_counts(backbone, calls, job), *lora_counts(backbone)):
            report.count(count)
        for count in shape_counts(SDXL, calls, steps):
            report.count(count)
    if "ratios" in arguments.only:
        job = Job(side, arguments.steps or 8)
        report.heading(f"Ratios of times on this machine ({_machine('cpu')}), {job.steps} steps, {side} px, float32")
        for key, ratio in ratios(backbone, job, pairs=arguments.pairs or 21):
            report.ratio(f"ratio_{key}", ratio, steps=job.steps)
    report.done()


def _sdxl(arguments: argparse.Namespace) -> None:
    from intarsia.evaluation.speed.report import Report
    from intarsia.evaluation.speed.sdxl import Measured, SdxlRun, run_sdxl, why_not

    _prepare(arguments)
    reason = why_not()
    if reason is not None:
        print(f"bench-sdxl skipped: {reason}", flush=True)
        return
    given = {name: getattr(arguments, name) for name in ("steps", "pairs") if getattr(arguments, name)}
    run = SdxlRun(**given)
    path = arguments.output or Path("benchmarks/results/sdxl_speed.json")
    report = Report(_results(path, "random weights of SDXL's shape"), _machine(run.device))
    report.heading(f"SDXL's shape, random weights, {run.dtype}, {run.shape.side} px, on {_machine(run.device)}")
    for found in run_sdxl(run):
        if isinstance(found, Measured):
            report.measured(found)
        else:
            report.ratio(f"ratio_{found[0]}", found[1], seconds=True)
    report.done()


def _results(path: Path, weights: str) -> Results:
    """A results file to go on with; that it can be written is known before anything is measured."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{path.parent} cannot be made ({error.strerror}): write elsewhere") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ResultsError(f"{path} cannot be written: give a file in a folder of your own")
    return Results.open(path, weights, seed=0)


def _prepare(arguments: argparse.Namespace) -> None:
    import diffusers
    import torch
    import transformers

    # What they would say in each run: that a VAE changes its format, that a LoRA is for the U-Net alone.
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)


def _machine(device: str) -> str:
    import diffusers
    import torch

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, {versions}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    used = f"{cores} of {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    return f"{platform.machine()}, {used}, {versions}"


if __name__ == "__main__":
    main()
