"""The methods that are compared, each a named preset of learning and painting; and variants of them.

`paper` is DreamMix as published; `dreambooth`, `dif` and `tas` are the steps of its ablation (Table 3), from the
baseline on. All that learn have the same budget (`BUDGET`); only where the paper says how does `paper`'s family differ
from `default`. The weighted loss (eq. 7, 8) belongs to all four, since the ablation does not take it apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from intarsia.evaluation.bench.errors import BenchError
from intarsia.request import PRESETS

BUDGET = ("steps", "batch", "learning_rate", "warmup", "regular_batch", "regular_images", "rank", "alpha", "targets")
"""Settings of learning that are alike for all methods, those of `LearnConfig`'s default."""
_PAPER_WAY = (
    "regular_prompts_with_token",
    "templates",
    "mask_shapes",
    "zoom",
    "stratified_timesteps",
    "windows_per_photo",
    "refresh",
)
"""What `paper` says about how to learn, beside the budget."""
LEARN_PREFIX = "learn_"
_NAME = re.compile(r"[\w@=,.+-]+")


@dataclass(frozen=True)
class Method:
    """How a row is painted.

    ``kind``: "studio" edits with the model, "paste" copies the subject's photo in. ``learning``: the preset whose way
    the subject is learned in, None without. ``learn``: settings of learning that differ from it. ``options``: fields of
    `EditRequest`.
    """

    name: str
    title: str
    kind: Literal["studio", "paste"] = "studio"
    learning: Literal["paper", "default"] | None = None
    learn: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def learn_settings(self, **budget: Any) -> dict[str, Any]:
        """Fields of `LearnConfig` (its `default` preset) that this method learns with; `budget` changes them for all.

        Raises:
            BenchError: a method that does not learn.
        """
        from intarsia.learning import PRESETS as LEARN_PRESETS

        if self.learning is None:
            raise BenchError(f"method {self.name!r} does not learn")
        way = LEARN_PRESETS[self.learning]
        return {**{name: way[name] for name in _PAPER_WAY if name in way}, **budget, **self.learn}

    def learning_key(self, **budget: Any) -> str:
        """Names all settings that it learns with: methods that share them share their subjects."""
        from intarsia.learning import LearnConfig

        config = LearnConfig.preset("default", **self.learn_settings(**budget))
        told = f"{config.fingerprint} {config.steps} {config.regular_prompts}"
        return f"{self.learning}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


_GLOBAL: dict[str, Any] = {"preset": "paper", "lam": 0.0, "remove_attributes": "none"}
_CLASS_PRIOR = {"regular_prompts": "class", "regular_prompts_with_token": False}

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("cut_and_paste", "cut-and-paste, Poisson blending", kind="paste"),
            Method("text_only", "text-only inpainting", options=_GLOBAL),
            Method(
                "dreambooth", "DreamBooth on the inpainting base", learning="paper", learn=_CLASS_PRIOR,
                options=_GLOBAL,
            ),
            Method(
                "dif", "+ DIF", learning="paper", learn=_CLASS_PRIOR,
                options={"preset": "paper", "remove_attributes": "none"},
            ),
            Method("tas", "+ TAS", learning="paper", learn=_CLASS_PRIOR, options={"preset": "paper"}),
            Method("paper", "+ ADM = DreamMix (`paper`)", learning="paper", options={"preset": "paper"}),
            Method("default", "ours (`default`)", learning="default", options={"preset": "default"}),
        )
    }
)  # fmt: skip
ABLATION = ("dreambooth", "dif", "tas", "paper")
LAMBDAS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
"""λ of Fig. 5: 0 is the global stage alone, 1 the local one."""


STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.25)
CHECKPOINTS = (30, 60, 240)
"""Steps of learning beside the run's own number."""


def sweep_methods() -> list[Method]:
    """The variants of the curves: λ of `paper`; strength of the LoRA and steps of learning of `default`. Each method's
    own value (λ 0.7, strength 1, all steps) is the method itself.
    """
    own = PRESETS["paper"]["lam"]
    names = [f"paper@lam={value:g}" for value in LAMBDAS if value != own]
    names += [f"default@subject_strength={value:g}" for value in STRENGTHS]
    names += [f"default@learn_steps={value}" for value in CHECKPOINTS]
    return [method_of(name) for name in names]


def method_of(name: str) -> Method:
    """A method, or a variant of it: `paper@lam=0.3`, `default@subject_strength=0.5,learn_steps=60`.

    Fields named `learn_…` change how the subject is learned, all others the request.

    Raises:
        BenchError: an unknown method or field, or a value that the field does not take.
    """
    base, _, changes = name.partition("@")
    if base not in METHODS:
        raise BenchError(f"unknown method {base!r}: use one of {', '.join(METHODS)}, or METHOD@field=value")
    method = METHODS[base]
    if not changes:
        if "@" in name:
            raise BenchError(f"method {name!r} changes nothing: write METHOD@field=value, or {base}")
        return method
    if not _NAME.fullmatch(name):
        raise BenchError(f"method {name!r} cannot name a folder: use letters, digits and _ . , = + - in its values")
    options, learn = dict(method.options), dict(method.learn)
    for change in changes.split(","):
        key, found, value = change.partition("=")
        if not found or not key or not value:
            raise BenchError(f"{change!r} in method {name!r} is no change: write field=value")
        if key.startswith(LEARN_PREFIX):
            learn[key.removeprefix(LEARN_PREFIX)] = _value(value)
        else:
            options[key] = _value(value)
    if method.kind == "paste":
        raise BenchError(f"method {base!r} has no settings to change: use it as it is")
    if learn != dict(method.learn) and method.learning is None:
        raise BenchError(f"method {base!r} does not learn, so {name!r} changes nothing: leave {LEARN_PREFIX}… out")
    changed = replace(
        method, name=name, title=f"{method.title}, {changes.replace(',', ', ')}", options=options, learn=learn
    )
    check_method(changed)
    return changed


def check_method(method: Method) -> None:
    """That its fields exist and take their values, before anything is painted.

    Raises:
        BenchError: one does not.
    """
    from intarsia.errors import IntarsiaError
    from intarsia.learning import LearnConfig
    from intarsia.request import EditRequest

    if method.kind == "paste":
        return
    try:
        if method.learning is not None:
            LearnConfig.preset("default", **method.learn_settings())
        EditRequest(verb="insert", scene="scene.png", box="0,0,8,8", prompt="a mug", **method.options)
    except IntarsiaError as error:
        raise BenchError(f"method {method.name!r}: {error}") from error
    except TypeError as error:
        raise BenchError(f"method {method.name!r}: {error}; use fields of a request") from error


def _value(text: str) -> Any:
    """A number, a truth value, or words."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)
