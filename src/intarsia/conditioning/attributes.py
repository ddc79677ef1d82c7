"""Textual attribute substitution: what the subject was learned with gives way to what the prompt asks for
(eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from intarsia.conditioning.embeddings import Conditioning
from intarsia.conditioning.errors import ConditioningError
from intarsia.conditioning.prompts import TowerOutput, as_list, encode_towers, pooled_of, warn_if_cut
from intarsia.conditioning.spans import rows_of_range, spans

if TYPE_CHECKING:
    from torch import Tensor

    from intarsia.backbones import Backbone

PooledMode = Literal["difference", "own", "keep"]
_SLOT = "{attribute}"


def substitute_attributes(
    backbone: Backbone,
    prompt: str | Sequence[str],
    remove: Sequence[str],
    *,
    context: str = "a photo of a {attribute}",
    strength: float = 1.0,
    protect: Sequence[str] = (),
    joint: bool = True,
    restore_norm: bool = False,
    pooled: PooledMode = "difference",
) -> Conditioning:
    """Encode `prompt` with the attributes `remove` projected out of its words  (eq. 9).

    v ← v - strength · Q Qᵀ v for the token row v of each word.
    Q is an orthonormal basis of the attributes' own token rows, encoded in the sentence `context` (text after
    the slot has no effect on them: the towers are causal). Start, end and padding rows are untouched, and so
    are the rows of the words in `protect`. Words of `remove` need not occur in the prompt.

    Args:
        strength: 0 leaves the prompt as it is, 1 removes the attributes' span wholly.
        joint: project the concatenated rows (as the paper's code does), or each tower's rows on their own.
        restore_norm: give every changed row its former length back.
        pooled: how the pooled vector loses the attribute: along "difference", pooled(context with attribute)
            - pooled(context without); along "own", pooled(attribute alone); "keep" leaves it.

    Raises:
        ConditioningError: strength outside [0, 1], a blank attribute, a context without its slot, an unknown
            mode, or `joint` with towers that cut the prompt into different tokens.
    """
    import torch

    prompts = as_list(prompt)
    _check(remove, context, strength, pooled)
    warn_if_cut(backbone, prompts)
    towers = encode_towers(backbone, prompts)
    rows = [
        tower.words & ~_protected(tokenizer, prompts, protect, tower)
        for tower, tokenizer in zip(towers, _tokenizers(backbone), strict=True)
    ]
    second_pooled = pooled_of(towers)
    if not remove or strength == 0:
        return Conditioning(torch.cat([tower.tokens for tower in towers], dim=-1), second_pooled)

    directions = _attribute_rows(backbone, remove, context)
    if joint:
        if not torch.equal(rows[0].cpu(), rows[-1].cpu()) or len(directions[0]) != len(directions[-1]):
            raise ConditioningError("the text towers tokenize this prompt differently: use joint=False")
        tokens = remove_directions(
            torch.cat([tower.tokens for tower in towers], dim=-1),
            orthonormal_basis(torch.cat(directions, dim=-1)),
            rows[0],
            strength=strength,
            restore_norm=restore_norm,
        )
    else:
        tokens = torch.cat(
            [
                remove_directions(
                    tower.tokens, orthonormal_basis(own), mask, strength=strength, restore_norm=restore_norm
                )
                for tower, own, mask in zip(towers, directions, rows, strict=True)
            ],
            dim=-1,
        )
    if pooled != "keep" and second_pooled.shape[-1]:
        basis = orthonormal_basis(_pooled_directions(backbone, remove, context, pooled))
        second_pooled = remove_directions(second_pooled, basis, strength=strength, restore_norm=restore_norm)
    return Conditioning(tokens, second_pooled)


def orthonormal_basis(vectors: Tensor, tolerance: float = 1e-4) -> Tensor:
    """(N, D) -> (K, D) float64 on the CPU, K ≤ N: Qᵀ of a QR decomposition without (nearly) dependent
    directions.

    A vector is dropped when less than `tolerance` of its length points outside the span of those before it.
    """
    import torch

    basis: list[Tensor] = []
    for vector in vectors.detach().cpu().double():
        length = vector.norm()
        if length == 0:
            continue
        rest = vector / length
        for _ in range(2):  # the second pass removes what rounding left of the first
            for known in basis:
                rest = rest - (rest @ known) * known
        if rest.norm() > tolerance:
            basis.append(rest / rest.norm())
    return torch.stack(basis) if basis else vectors.new_zeros(0, vectors.shape[-1]).cpu().double()


def remove_directions(
    values: Tensor,
    basis: Tensor,
    rows: Tensor | None = None,
    *,
    strength: float = 1.0,
    restore_norm: bool = False,
) -> Tensor:
    """v ← v - strength · Q Qᵀ v for the vectors (…, D) chosen by `rows` (…, bool), all by default  (eq. 9).

    `basis` is Qᵀ (K, D). The input is never changed; vectors not chosen come back bit by bit.
    """
    import torch

    if strength == 0 or len(basis) == 0:
        return values.clone()
    exact = values.detach().cpu().double()
    changed = exact - strength * (exact @ basis.T) @ basis
    if restore_norm:
        changed = changed * (
            exact.norm(dim=-1, keepdim=True) / changed.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        )
    result = changed.to(values.device, values.dtype)
    return result if rows is None else torch.where(rows.to(values.device)[..., None], result, values)


def _check(remove: Sequence[str], context: str, strength: float, pooled: str) -> None:
    if isinstance(remove, str):
        raise ConditioningError(
            f"remove must be a list of attributes, not the text {remove!r}: write [{remove!r}]"
        )
    if any(not attribute.strip() for attribute in remove):
        raise ConditioningError(f"remove {list(remove)} holds a blank attribute: leave it out")
    if not 0.0 <= strength <= 1.0:
        raise ConditioningError(f"strength {strength} is outside its range: use a number from 0 to 1")
    if context.count(_SLOT) != 1:
        raise ConditioningError(f"context {context!r} must hold {_SLOT} exactly once")
    if pooled not in get_args(PooledMode):
        raise ConditioningError(f"pooled {pooled!r} is unknown: use one of {get_args(PooledMode)}")


def _tokenizers(backbone: Backbone) -> tuple[object, ...]:
    """One per tower."""
    return tuple(tokenizer for tokenizer in (backbone.tokenizer, backbone.tokenizer_2) if tokenizer is not None)


def _attribute_rows(backbone: Backbone, remove: Sequence[str], context: str) -> tuple[Tensor, ...]:
    """Per tower, the attributes' own token rows (N, D), each in its context sentence."""
    import torch

    before, after = context.split(_SLOT)
    attributes = [text.strip() for text in remove]
    towers = encode_towers(backbone, [before + attribute + after for attribute in attributes])

    def rows(tokenizer: object, tower: TowerOutput) -> Tensor:
        found: list[Tensor] = []
        for index, attribute in enumerate(attributes):
            sentence = before + attribute + after
            own = rows_of_range(tokenizer, sentence, len(before), len(before) + len(attribute))
            if not own:
                raise ConditioningError(
                    f"attribute {attribute!r} does not fit into the context {context!r}: shorten both"
                )
            found.append(tower.tokens[index, own])
        return torch.cat(found)

    return tuple(rows(tokenizer, tower) for tokenizer, tower in zip(_tokenizers(backbone), towers, strict=True))


def _pooled_directions(backbone: Backbone, remove: Sequence[str], context: str, mode: PooledMode) -> Tensor:
    attributes = [text.strip() for text in remove]
    if mode == "own":
        return pooled_of(encode_towers(backbone, attributes))
    sentences = [" ".join(context.replace(_SLOT, text).split()) for text in (*attributes, "")]
    embedded = pooled_of(encode_towers(backbone, sentences))
    return embedded[:-1] - embedded[-1:]


def _protected(
    tokenizer: object, prompts: Sequence[str], protect: Sequence[str], tower: TowerOutput
) -> Tensor:
    import torch

    mask = torch.zeros_like(tower.words)
    for index, text in enumerate(prompts):
        for word in protect:
            for rows in spans(tokenizer, text, word):
                mask[index, rows] = True
    return mask
