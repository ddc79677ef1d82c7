"""``python -m intarsia.evaluation``: measure the miniature and write the numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from intarsia.errors import IntarsiaError

PARTS = ("vae", "judges", "text", "removal", "learned", "untouched")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def main() -> None:
    """Parse the command line and measure; bad input is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m intarsia.evaluation",
        description="Measure the miniature on held-out Tabletop scenes; each number is written as soon as it is known.",
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/miniature.json"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="which parts to measure (default: all)")
    parser.add_argument("--model", default="miniature", help="catalog name or model folder")
    parser.add_argument("--judges", type=Path, default=None, help="folder of the judges (default: the package's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=_positive, help="at most so many samples a part, for a quick look")
    parser.add_argument("--learn-steps", type=_positive, help="override the steps a subject is learned for")
    parser.add_argument("--card", type=Path, default=None, help="also write this model card (Markdown)")
    arguments = parser.parse_args()
    try:
        _measure(arguments)
    except IntarsiaError as error:
        parser.exit(2, f"error: {error}\n")


def _measure(arguments: argparse.Namespace) -> None:
    from intarsia.editing import Studio
    from intarsia.evaluation.card import write_markdown
    from intarsia.evaluation.judges import Judges
    from intarsia.evaluation.miniature import MiniatureBench
    from intarsia.evaluation.results import Results, ResultsError

    studio = Studio.load(arguments.model, device="cpu")
    described = studio.backbone.path
    if arguments.card is not None and (described is None or not (described / "model_card.json").is_file()):
        raise ResultsError(f"{arguments.model} has no model_card.json to write a card from: leave --card out")
    judges = Judges.load(arguments.judges)
    results = Results.open(arguments.output, studio.backbone.hash, arguments.seed, judges.hash)
    bench = MiniatureBench(studio, judges, results, seed=arguments.seed, say=lambda line: print(line, flush=True))

    def count(usual: int) -> int:
        return usual if arguments.limit is None else min(usual, arguments.limit)

    if "vae" in arguments.only:
        bench.vae(count(256))
    if "judges" in arguments.only:
        bench.judges_on_renders(count(500))
    if "text" in arguments.only:
        bench.text(count(500))
    if "removal" in arguments.only:
        bench.removal(count(200))
    if "learned" in arguments.only:
        bench.learned(count(30), steps=arguments.learn_steps)
    if "untouched" in arguments.only:
        bench.untouched(count(200))
    print(f"numbers written to {arguments.output}", flush=True)
    if arguments.card is not None and described is not None:
        write_markdown(described, arguments.output, arguments.card)
        print(f"model card written to {arguments.card}", flush=True)


if __name__ == "__main__":
    main()
