"""``python -m intarsia.evaluation``: measure the miniature and write the numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from intarsia.errors import IntarsiaError

if TYPE_CHECKING:
    from intarsia.editing import Studio
    from intarsia.evaluation.add import AddBench
    from intarsia.evaluation.case_values import CaseValues
    from intarsia.evaluation.miniature import MiniatureBench
    from intarsia.evaluation.zero_shot import ZeroShotBench

# Parts of each bench, with what is counted and how many of it by default.
PARTS = {
    "miniature": {"vae": 256, "judges": 500, "text": 500, "removal": 200, "learned": 30, "untouched": 200},
    "zero_shot": {"reference": 200, "both": 200, "beta": 40, "chain": 5, "quadruplets": 2_000, "kills": 30},
    "add": {
        **{"add": 300, "finishes": 60},
        **{"removal_success": 1_000, "engine_same": 6, "kills": 30, "edit_detection": 300},
    },
}
_SHOWING = {"reference", "both", "beta", "chain"}
"""Parts that need the weights that show references."""
_ADDING = {"add", "finishes"}
"""Parts that need the instruction model."""
_ONLY_FOR = {
    "learn_steps": ("miniature",),
    "part": ("zero_shot", "add"),
    "resume": ("zero_shot", "add"),
    "reference_model": ("zero_shot",),
    "sheet": ("zero_shot",),
    "plot": ("zero_shot",),
    "add_model": ("add",),
    "engine_folder": ("add",),
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part: write 1/2 and 2/2")
    return int(number), int(of)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m intarsia.evaluation",
        description="Measure the miniature on held-out Tabletop scenes; each number is written as soon as it is known.",
    )
    parts = list(dict.fromkeys(name for named in PARTS.values() for name in named))
    told = "; ".join(f"{bench}: {', '.join(named)}" for bench, named in PARTS.items())
    parser.add_argument("--bench", choices=PARTS, default="miniature", help="which numbers (default: miniature)")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/BENCH.json")
    parser.add_argument(
        "--only", nargs="+", choices=parts, metavar="PART", help=f"which parts to measure (default: all). {told}"
    )
    parser.add_argument("--model", default="miniature", help="catalog name or model folder")
    parser.add_argument("--judges", type=Path, default=None, help="folder of the judges (default: the package's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=_positive, help="at most so many samples a part, for a quick look")
    parser.add_argument("--threads", type=_positive, help="how many threads torch takes")
    parser.add_argument("--card", type=Path, default=None, help="also write this model card (Markdown)")
    learned = parser.add_argument_group("of miniature")
    learned.add_argument("--learn-steps", type=_positive, help="override the steps a subject is learned for")
    cases = parser.add_argument_group("of zero_shot and add")
    cases.add_argument(
        "--part", type=_part, metavar="K/N", help="only every N-th case, kept beside the output; then --resume"
    )
    cases.add_argument(
        "--resume", action="store_true", help="go on with the cases that were kept beside the output, of all parts"
    )
    shown = parser.add_argument_group("of zero_shot")
    shown.add_argument("--reference-model", help="folder or file of the weights that show references")
    shown.add_argument("--sheet", type=Path, help="draw five cases side by side; measures only what --only says")
    shown.add_argument("--plot", type=Path, help="draw the beta sweep of the output; measures only what --only says")
    added = parser.add_argument_group("of add")
    added.add_argument("--add-model", help="catalog name or folder of the instruction model")
    added.add_argument("--engine-folder", type=Path, help="keep the engine's runs here and go on with them")
    return parser


def main() -> None:
    """Parse the command line and measure; bad input is one line on stderr and exit code 2."""
    parser = _parser()
    arguments = parser.parse_args()
    for name, benches in _ONLY_FOR.items():
        if getattr(arguments, name) and arguments.bench not in benches:
            parser.error(f"--{name.replace('_', '-')} is for --bench {' or '.join(benches)}")
    mine = PARTS[arguments.bench]
    other = [name for name in arguments.only or () if name not in mine]
    if other:
        parser.error(f"{other[0]!r} is no part of --bench {arguments.bench}: choose from {', '.join(mine)}")
    if arguments.only is None:
        arguments.only = () if arguments.sheet or arguments.plot else tuple(mine)
    if arguments.output is None:
        arguments.output = Path("benchmarks/results") / f"{arguments.bench}.json"
    try:
        _measure(arguments)
    except IntarsiaError as error:
        parser.exit(2, f"error: {error}\n")


def _measure(arguments: argparse.Namespace) -> None:
    from intarsia.editing import Studio
    from intarsia.evaluation.card import write_markdown
    from intarsia.evaluation.results import ResultsError
    from intarsia.evaluation.zero_shot import ZeroShotBench

    if arguments.threads is not None:
        import torch

        torch.set_num_threads(arguments.threads)
    studio = Studio.load(arguments.model, device="cpu")
    described = studio.backbone.path
    if arguments.card is not None and (described is None or not (described / "model_card.json").is_file()):
        raise ResultsError(f"{arguments.model} has no model_card.json to write a card from: leave --card out")
    makers: dict[str, Callable[[argparse.Namespace, Studio], MiniatureBench | ZeroShotBench | AddBench]]
    makers = {"miniature": _miniature, "zero_shot": _zero_shot, "add": _add}
    bench = makers[arguments.bench](arguments, studio)
    methods = {"judges": "judges_on_renders"}
    for name, usual in PARTS[arguments.bench].items():
        if name in arguments.only:
            options = {"steps": arguments.learn_steps} if name == "learned" else {}
            count = usual if arguments.limit is None else min(usual, arguments.limit)
            getattr(bench, methods.get(name, name))(count, **options)
    if arguments.only:
        print(f"numbers written to {arguments.output}", flush=True)
    if isinstance(bench, ZeroShotBench):
        _draw(arguments, bench)
    if arguments.card is not None and described is not None:
        files = [arguments.output.with_name(f"{name}.json") for name in PARTS]
        files[list(PARTS).index(arguments.bench)] = arguments.output
        write_markdown(described, files[0], arguments.card, *files[1:])
        print(f"model card written to {arguments.card}", flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _miniature(arguments: argparse.Namespace, studio: Studio) -> MiniatureBench:
    from intarsia.evaluation.judges import Judges
    from intarsia.evaluation.miniature import MiniatureBench
    from intarsia.evaluation.results import Results

    judges = Judges.load(arguments.judges)
    results = Results.open(arguments.output, studio.backbone.hash, arguments.seed, judges.hash)
    return MiniatureBench(studio, judges, results, seed=arguments.seed, say=_say)


def _zero_shot(arguments: argparse.Namespace, studio: Studio) -> ZeroShotBench:
    from intarsia.editing import ReferenceModelError
    from intarsia.evaluation.identity import adapters_hash, settings_hash
    from intarsia.evaluation.judges import Judges
    from intarsia.evaluation.results import Results
    from intarsia.evaluation.zero_shot import ZeroShotBench

    judges = Judges.load(arguments.judges)
    options = {} if arguments.reference_model is None else {"reference_model": arguments.reference_model}
    adapters = ""
    try:
        if arguments.sheet or arguments.only:
            adapters = adapters_hash(studio, **options)
    except ReferenceModelError:
        if arguments.sheet or _SHOWING & set(arguments.only):
            raise
    results = Results.open(arguments.output, studio.backbone.hash, arguments.seed, judges.hash, adapters)
    identity: dict[str, object] = {
        "weights": studio.backbone.hash,
        "adapters": adapters,
        "judges": judges.hash,
        "seed": arguments.seed,
        "settings": settings_hash(),
    }
    if arguments.only:
        identity["image judge"] = judges.image.hash
    values = _case_values(arguments, identity)
    return ZeroShotBench(studio, judges, results, seed=arguments.seed, say=_say, values=values, **options)


def _add(arguments: argparse.Namespace, studio: Studio) -> AddBench:
    from intarsia.evaluation.add import AddBench
    from intarsia.evaluation.identity import add_model_hash, add_settings_hash
    from intarsia.evaluation.judges import Judges
    from intarsia.evaluation.results import Results

    judges = Judges.load(arguments.judges)
    options = {} if arguments.add_model is None else {"add_model": arguments.add_model}
    adding = add_model_hash(arguments.add_model or "miniature-add") if _ADDING & set(arguments.only) else ""
    results = Results.open(arguments.output, studio.backbone.hash, arguments.seed, judges.hash, adding)
    identity: dict[str, object] = {
        "weights": studio.backbone.hash,
        "instruction model": adding,
        "judges": judges.hash,
        "seed": arguments.seed,
        "settings": add_settings_hash(),
    }
    values = _case_values(arguments, identity)
    return AddBench(
        studio,
        judges,
        results,
        seed=arguments.seed,
        say=_say,
        values=values,
        folder=arguments.engine_folder,
        **options,
    )


def _case_values(arguments: argparse.Namespace, identity: dict[str, object]) -> CaseValues | None:
    from intarsia.evaluation.case_values import CaseValues

    if not arguments.only:
        return None
    return CaseValues.beside(arguments.output, identity, arguments.part or (1, 1), resume=arguments.resume)


def _draw(arguments: argparse.Namespace, bench: ZeroShotBench) -> None:
    if not (arguments.sheet or arguments.plot):
        return
    from intarsia.evaluation.card import read_metrics
    from intarsia.evaluation.zero_shot_pictures import draw_sheet, draw_sweep, sheet_rows

    if arguments.plot:
        draw_sweep(read_metrics(arguments.output)).save(arguments.plot, overwrite=True)
        print(f"curves drawn to {arguments.plot}", flush=True)
    if arguments.sheet:
        rows = sheet_rows(bench, min(5, arguments.limit or 5))
        draw_sheet(rows).save(arguments.sheet, overwrite=True)
        print(f"sheet drawn to {arguments.sheet}", flush=True)


if __name__ == "__main__":
    main()
