"""The stage that makes an instruction model: pairs -> latents -> trained U-Net -> a folder of what differs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from intarsia.backbones import load_instruct_base, save_instruct_model, start_instructions
from intarsia.perception import place_of
from intarsia.training.instruct import freeze, train_instruct
from intarsia.training.instruct_recipe import InstructRecipe
from intarsia.training.pair_cache import CachedPairs, PairBatches, PairCache, StreamedPairs, cache_pairs
from intarsia.training.pair_stream import ShardStream
from intarsia.training.processes import is_main, is_there, main_first, wait
from intarsia.training.run import OtherRecipeError, Say

_TOLD = 1024
"""Views between two lines about them."""


def run_instruct(
    recipe: InstructRecipe,
    pairs: Sequence[str | Path],
    folder: Path,
    out: Path,
    *,
    base: str | Path = "miniature",
    weights: Sequence[float] | None = None,
    stream: bool = False,
    device: str = "cpu",
    minutes: float | None = None,
    bf16: bool = False,
    say: Say = print,
) -> bool:
    """Train on the pairs of some folders and write the model to ``out``; False when the minutes ran out, and the same
    call continues.

    Args:
        pairs: outputs of the pairs engine, folders of tars, or of PIPE's Parquet files. weights: how often each is
            drawn, by default in proportion to their sizes.
        folder: keeps the cached latents, checkpoints and the log.
        base: what the model starts from, by name in the catalog or as a folder.
        stream: encode pairs as they come instead of caching the latents of all of them first.

    Raises:
        PairError: pairs that cannot be used. OtherRecipeError: the folder was begun with other settings.
        BackboneError: a base that cannot be used.
    """
    backbone = load_instruct_base(base, device)
    source = ShardStream(pairs, weights, recipe.seed)
    claim: dict[str, Any] = {"recipe": asdict(recipe), "base_hash": backbone.hash, "pairs": source.state()}
    claim |= {"stream": stream, "bf16": bf16}
    folder.mkdir(parents=True, exist_ok=True)
    with main_first():
        _claim(folder / "instruct_recipe.json", json.dumps(claim, indent=1))

    def tell(line: str) -> None:
        if is_main():
            say(line)

    batches: PairBatches
    if stream:
        batches = StreamedPairs(backbone, source, recipe, place_of=place_of)
    else:
        cache = _cache(folder / "pairs.pt", lambda: cache_pairs(
            backbone, source.once(), recipe, place_of=place_of,
            report=lambda done: None if done % _TOLD else tell(f"pairs: {done} views"),
        ))  # fmt: skip
        by_name = None if weights is None else dict(zip(source.names, weights, strict=True))
        batches = CachedPairs(backbone, cache, recipe, by_name)
    unet = start_instructions(
        copy.deepcopy(backbone.unet), recipe.start, scaling_factor=float(backbone.vae.config.scaling_factor)
    )
    final = folder / "instruct.final.pt"
    if is_there(final):
        unet.load_state_dict(torch.load(final, map_location=device, weights_only=True))
    else:
        finished = train_instruct(
            recipe, unet, batches, backbone, folder, minutes=minutes, bf16=bf16, report=_reporter(tell)
        )
        if not finished:
            return False
        if is_main():
            part = final.with_suffix(".part")
            torch.save(unet.state_dict(), part)
            part.replace(final)
    if is_main():
        log = json.loads((folder / "instruct.jsonl").read_text().splitlines()[-1])
        card = {
            "name": out.name,
            "license": backbone.licence or "that of the base model",
            "base": backbone.name,
            "native_size": recipe.side or backbone.native_size,
            "recipe_hash": recipe.hash,
            "recipe": asdict(recipe),
            "pairs": dict(zip(source.names, source.sizes, strict=True)),
            "stages": {"instruct": {key: log[key] for key in ("images", "loss", "seconds")}},
        }
        save_instruct_model(out, unet, backbone, freeze(unet, recipe), card)
    wait()
    return True


def _claim(path: Path, mine: str) -> None:
    """A folder belongs to one recipe, base and set of pairs."""
    if not path.exists():
        path.write_text(mine)
    elif path.read_text() != mine:
        raise OtherRecipeError(
            f"{path.parent} holds a run of another recipe, base model or set of pairs; give another folder with --run, "
            "or undo the change"
        )


def _cache(path: Path, make: Callable[[], PairCache]) -> PairCache:
    if is_there(path):
        return PairCache.load(path)
    with main_first():
        if path.exists():
            return PairCache.load(path)
        cache = make()
        cache.save(path)
    return cache


def _reporter(tell: Say) -> Callable[[dict[str, Any]], None]:
    def show(row: dict[str, Any]) -> None:
        rate = row["images"] / max(row["seconds"], 1e-6)
        tell(f"instruct: {row['images']:.0f} images, loss {row['loss']:.4f}, {rate:.1f} images/s")

    return show
