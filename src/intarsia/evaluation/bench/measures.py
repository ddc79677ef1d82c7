"""What the columns of the tables are called, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from intarsia.evaluation.bench.manifest import Task
from intarsia.evaluation.bench.methods import METHODS
from intarsia.evaluation.bench.scores_folder import TRUTH

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
TASKS: tuple[Task, ...] = get_args(Task)
CLASS_ONLY = (
    "a prompt that names the class alone, as those of identity rows do, tells Tabletop's judge little: read CLIP-T, "
    "caption"
)


@dataclass(frozen=True)
class Measure:
    """``rises``: more is better; None where neither is. ``share``: 0 or 1 of each row. ``scale``: of what is shown.

    ``of_set``: of all pictures together, not a mean over them.
    """

    title: str
    what: str
    rises: bool | None = True
    places: int = 3
    scale: float = 1.0
    share: bool = False
    of_set: bool = False

    def write(self, value: float) -> str:
        """As it is shown."""
        text = f"{value * self.scale:.{self.places}f}"
        return text.replace("-", MINUS) if float(text) else text.replace("-", "")

    @property
    def head(self) -> str:
        """The title with its unit and an arrow to where better is."""
        title = f"{self.title}, %" if self.share else self.title
        return title if self.rises is None else f"{title} {'↑' if self.rises else '↓'}"


_CROP, _WHOLE = "in a square around the mask", "of the whole picture"


def _similar(name: str, what: str, where: str) -> Measure:
    return Measure(name, f"{what}, {where}")


def _distances(where: str) -> dict[str, Measure]:
    kernel = "kernel distance to real pictures (cubic polynomial, unbiased; it may be negative), times 1000"
    frechet = "Fréchet distance to real pictures; in these tables from 2,000 pictures on, as it is biased below"
    end = "crop" if where == _CROP else "whole"
    return {
        f"kid_{end}": Measure("KID \N{MULTIPLICATION SIGN}10³", f"{kernel}, {where}", False, 2, 1000.0, of_set=True),
        f"fid_{end}": Measure("FID", f"{frechet}, {where}", False, 1, of_set=True),
    }


def _place(end: str, where: str) -> dict[str, Measure]:
    return {
        f"clip_t_{end}": _similar("CLIP-T", "cosine of picture and prompt", where),
        f"caption_{end}": _similar("CLIP-T, caption", "cosine of picture and the full caption of the truth", where),
        f"clip_i_{end}": _similar("CLIP-I", "mean cosine with the subject's photos by the image tower", where),
        f"dino_{end}": _similar("DINO", "the same by a self-supervised encoder", where),
        f"dinov2_{end}": _similar("DINOv2", "the same by DINOv2", where),
        **_distances(where),
    }


MEASURES: Mapping[str, Measure] = {
    **_place("crop", _CROP),
    "attribute": Measure("attribute right", "a judge sees the value asked for", True, 1, 100.0, share=True),
    "top1": Measure(
        "found among 50",
        "the instance judge finds the subject among 50; in editing rows all 50 have got the same edit",
        True,
        1,
        100.0,
        share=True,
    ),
    **_place("whole", _WHOLE),
    "seam": Measure(
        "seam ΔE",
        "how much steeper colours change (CIEDE2000) across the mask's border than near it; 0 where no seam is to be "
        "seen, but a subject that fills its mask has an edge there by right: compare with true renders",
        None,
        2,
    ),
    "psnr_outside": Measure("PSNR outside", "in dB, outside the mask, against the scene", True, 1),
    "lpips_outside": Measure("LPIPS outside", "outside the mask, against the scene", False, 4),
    "bytes_outside": Measure("bytes outside", "channel values changed outside the mask", False, 1),
}
CROP = (
    "clip_t_crop",
    "caption_crop",
    "clip_i_crop",
    "dino_crop",
    "dinov2_crop",
    "attribute",
    "top1",
    "kid_crop",
    "fid_crop",
)
WHOLE = ("clip_t_whole", "caption_whole", "clip_i_whole", "dino_whole", "dinov2_whole", "kid_whole", "fid_whole")
OUTSIDE = ("seam", "psnr_outside", "lpips_outside", "bytes_outside")

_TRUTH_TITLE = "true render (ceiling)"


def says_little(metric: str, task: str, encoders: str) -> bool:
    """Whether `CLASS_ONLY` holds for it."""
    return encoders == "tabletop" and task == "identity" and metric in ("clip_t", "clip_t_crop", "clip_t_whole")


def measure_of(key: str) -> Measure:
    """Also of scores that nobody named here."""
    return MEASURES.get(key) or Measure(key.replace("_", " "), "", None)


def in_order(methods: set[str]) -> list[str]:
    """Named methods first, in their order, then others, then the ceiling; each with its variants behind it."""
    known = list(METHODS)

    def place(method: str) -> tuple[float, str, bool, list[tuple[str, float, str]]]:
        base, changes = split_variant(method)
        rank = known.index(base) if base in known else len(known) + (base == TRUTH)
        return rank, base, bool(changes), [(name, number_of(value, float("inf")), value) for name, value in changes]

    return sorted(methods, key=place)


def split_variant(method: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """``METHOD@field=value,…`` -> METHOD and its (field, value)."""
    base, _, rest = method.partition("@")
    return base, tuple((name, value) for name, _, value in (part.partition("=") for part in rest.split(",") if part))


def title_of(method: str, titles: Mapping[str, str] | None = None) -> str:
    """Of a method or variant, without marks of Markdown; ``titles`` come before those known here."""
    base, changes = split_variant(method)
    if titles and method in titles:
        return titles[method].replace("`", "")
    usual = METHODS[base].title if base in METHODS else _TRUTH_TITLE if base == TRUTH else base
    name = ((titles or {}).get(base) or usual).replace("`", "")
    return f"{name}, {', '.join(f'{field} {value}' for field, value in changes)}" if changes else name


def number_of(value: object, default: float) -> float:
    """Of text as of numbers; the default where it is none that is finite."""
    try:
        number = float(str(value))
    except ValueError:
        return default
    return number if math.isfinite(number) else default
