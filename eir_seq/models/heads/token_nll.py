"""Cross-entropy over a large vocabulary without the scores of all tokens at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from eir_seq.models.heads.linear_nll import Factors, linear_nll

Factored = Callable[[Tensor], Factors | None]

SCORES = 1 << 22
"""Scores (tokens times vocabulary) that are in memory at once."""


def token_nll(
    states: Tensor,
    labels: Tensor,
    scores: Callable[[Tensor], Tensor],
    *,
    factors: Factored | None = None,
    most: int = SCORES,
    label_smoothing: float = 0.0,
    alike: bool = True,
) -> Tensor:
    """Negative log-likelihood of each label, (tokens,); memory and other arguments are those of `token_nll_and_hits`.

    Args:
        label_smoothing: share of the target that is spread over the vocabulary (https://arxiv.org/abs/1512.00567).
        alike: whether the losses of all tokens are going to count alike, see `linear_nll`.
    """
    return _in_chunks(states, labels, scores, factors, most, label_smoothing, hits=False, alike=alike)[0]


def token_nll_and_hits(
    states: Tensor,
    labels: Tensor,
    scores: Callable[[Tensor], Tensor],
    *,
    factors: Factored | None = None,
    most: int = SCORES,
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each label, (tokens,), and whether it has the highest score, (tokens,) bool.

    Tokens are scored in chunks of at most `most` scores. Scores that are a product get their gradients at once, see
    `linear_nll`. Others are forgotten and computed again in the backward pass, unless one chunk takes all tokens.

    Args:
        states: (tokens, hidden).
        labels: (tokens,) ids.
        scores: (n, hidden) -> (n, vocabulary), each token by itself; whatever parameters it has get their gradients.
        factors: (n, hidden) -> what these scores are the product of, or None (see `Head.factors`).
        most: scores in memory.
    """
    return _in_chunks(states, labels, scores, factors, most, 0.0, hits=True, alike=True)


def _in_chunks(
    states: Tensor,
    labels: Tensor,
    scores: Callable[[Tensor], Tensor],
    factors: Factored | None,
    most: int,
    label_smoothing: float,
    *,
    hits: bool,
    alike: bool,
) -> tuple[Tensor, Tensor]:
    """Both for each token; without `hits` the second one is empty."""
    nothing = labels.new_zeros(0, dtype=torch.bool)
    if not len(states):
        return states.sum(dim=-1), nothing  # zero losses, whose gradient is zero
    if factors is not None and _fuses(states) and (found := factors(states)) is not None:
        chunk = max(1, most // len(found.weight))
        return linear_nll(found, labels, chunk=chunk, label_smoothing=label_smoothing, hits=hits, alike=alike)

    def nll(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scored = scores(x).float()
        loss = F.cross_entropy(scored, y, reduction="none", label_smoothing=label_smoothing)
        return loss, scored.argmax(dim=-1) == y if hits else nothing

    with torch.no_grad():
        vocabulary = scores(states[:1]).shape[-1]
    chunk = max(1, most // vocabulary)
    if len(states) <= chunk:
        return nll(states, labels)
    parts = zip(states.split(chunk), labels.split(chunk), strict=True)
    if torch.is_grad_enabled():
        # scoring draws no random numbers, so none need be kept for the second time
        found_parts = [checkpoint(nll, x, y, use_reentrant=False, preserve_rng_state=False) for x, y in parts]
    else:
        found_parts = [nll(x, y) for x, y in parts]
    losses, right = zip(*found_parts, strict=True)
    return torch.cat(losses), torch.cat(right)


def _fuses(states: Tensor) -> bool:
    """Whether gradients may be computed with the scores: not in a graph, whose size is unknown, nor in float16, where
    small ones would be lost before the loss is scaled."""
    device = states.device.type
    half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    return not torch.compiler.is_compiling() and half is not torch.float16


def row_sums(values: Tensor, places: Tensor) -> Tensor:
    """The sum of what is in each row, (batch,): `values` (n,) of the True `places` (batch, length), in order."""
    return values.new_zeros(len(places)).index_add(0, places.nonzero()[:, 0], values)
