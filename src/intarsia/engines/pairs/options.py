"""How pairs are made: everything that decides pixels and scores beside the thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from intarsia.engines.errors import EngineError

Consensus = Literal["l2norm_trace", "raw_perdim_mean"]
Blend = Literal["gaussian", "distance"]
Choice = Literal["multimodal", "agreement"]
Codec = Literal["png", "jpeg"]


@dataclass(frozen=True)
class PairOptions:
    """Lengths are shares of the picture's longer side, so that they mean the same at every size.

    Args:
        candidates: removals of each thing (K).
        dilation: by how much the mask grows, so that nothing of the thing stays to grow from.
        over_dilation: the most that it grows beyond that, drawn evenly: the edit's place no longer fits the thing.
        effects: grow it towards the thing's shadow as well.
        blend, blend_width: profile of the alpha that joins removal and photo, and how far outside the grown mask.
        decoys: the share of pairs with a second place that is painted anew although nothing stood there, in source and
            target alike: what was painted no longer tells where something is missing.
        consensus: how the spread of the candidates' embeddings becomes a number.
        choice: which candidate is taken: the one with the lowest similarity to the class (the paper), or the best mean
            rank by the distance to the other candidates and by strangeness (see `judge`).
        exception_fall: a removal counts as one, however similar to the class the place still is, where the similarity
            fell by so much (another thing of the class stands near).
        empty_words: what a place without things is compared with.
        codec, quality: what source and target are encoded with, both alike.
        gate: whether rows that fall by scores known before the removal are spared it.
    """

    candidates: int = 3
    dilation: float = 0.04
    over_dilation: float = 0.0
    effects: bool = False
    blend: Blend = "gaussian"
    blend_width: float = 0.02
    decoys: float = 0.0
    consensus: Consensus = "l2norm_trace"
    choice: Choice = "multimodal"
    exception_fall: float = 0.05
    empty_words: str = "a photo of an empty place"
    codec: Codec = "png"
    quality: int = 95
    gate: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.candidates <= 16:
            raise EngineError(f"{self.candidates} candidates: use 2 to 16, as consensus compares them")
        for name in ("dilation", "over_dilation", "blend_width"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise EngineError(f"{name} is {getattr(self, name)}: give a share of the picture's side, 0 to 0.5")
        if not 0 <= self.decoys <= 1:
            raise EngineError(f"decoys are {self.decoys}: give the share of pairs that get one, 0 to 1")
        if not 90 <= self.quality <= 100:
            raise EngineError(f"the JPEG quality is {self.quality}: use 90 to 100")
        for name, kind in (("consensus", Consensus), ("blend", Blend), ("choice", Choice), ("codec", Codec)):
            if getattr(self, name) not in get_args(kind):
                raise EngineError(f"{name} is {getattr(self, name)!r}: use {' or '.join(get_args(kind))}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> PairOptions:
        """The options of "paper" or "best", some of them changed. Raises EngineError."""
        if name not in PRESETS:
            raise EngineError(f"there is no preset {name!r}: use {' or '.join(PRESETS)}")
        unknown = set(changes) - {field.name for field in fields(cls)}
        if unknown:
            raise EngineError(f"there is no option {sorted(unknown)[0]!r} of pairs")
        return replace(PRESETS[name], **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PRESETS: Mapping[str, PairOptions] = {
    "paper": PairOptions(),
    "best": PairOptions(
        dilation=0.02,
        over_dilation=0.03,
        effects=True,
        blend="distance",
        decoys=1.0,
        choice="agreement",
        codec="jpeg",
    ),
}
"""``paper``: sections 3.1 and E1 of Wasserman et al. (2024), its unpublished numbers chosen here. ``best``: against
what is known to leak or to fail: shadows left standing, masks that outline the thing, painted places that give the edit
away, two codecs."""
