"""``python -m intarsia.evaluation``: measure the miniature and write the numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("vae", "judges", "text", "removal", "learned", "untouched")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m intarsia.evaluation",
        description="Measure the miniature on held-out Tabletop scenes; each number is written as soon as it is known.",
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/miniature.json"))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="which parts to measure (default: all)")
    parser.add_argument("--model", default="miniature", help="catalog name or model folder")
    parser.add_argument("--judges", type=Path, default=None, help="folder of the judges (default: the package's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=None, help="at most so many samples a part, for a quick look")
    parser.add_argument("--learn-steps", type=int, default=None, help="override the steps a subject is learned for")
    parser.add_argument("--card", type=Path, default=None, help="also write this model card (Markdown)")
    arguments = parser.parse_args()

    from intarsia.editing import Studio
    from intarsia.evaluation.card import write_markdown
    from intarsia.evaluation.judges import Judges
    from intarsia.evaluation.miniature import MiniatureBench
    from intarsia.evaluation.results import Results

    studio = Studio.load(arguments.model, device="cpu")
    judges = Judges.load(arguments.judges)
    results = Results.open(arguments.output, studio.backbone.hash, arguments.seed)
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
    if arguments.card is not None and studio.backbone.path is not None:
        write_markdown(studio.backbone.path, arguments.output, arguments.card)
        print(f"model card written to {arguments.card}", flush=True)


if __name__ == "__main__":
    main()
