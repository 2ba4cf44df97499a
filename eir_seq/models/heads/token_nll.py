"""Cross-entropy over a large vocabulary without the scores of all tokens at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

SCORES = 1 << 22
"""Scores (tokens times vocabulary) that are in memory at once."""


def token_nll(
    states: Tensor,
    labels: Tensor,
    scores: Callable[[Tensor], Tensor],
    *,
    most: int = SCORES,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each label, (tokens,); memory and other arguments are those of `token_nll_and_hits`.

    Args:
        label_smoothing: share of the target that is spread over the vocabulary (https://arxiv.org/abs/1512.00567).
    """
    return _in_chunks(states, labels, scores, most, label_smoothing, hits=False)[0]


def token_nll_and_hits(
    states: Tensor, labels: Tensor, scores: Callable[[Tensor], Tensor], *, most: int = SCORES
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each label, (tokens,), and whether it has the highest score, (tokens,) bool.

    Tokens are scored in chunks of at most `most` scores. With gradients the scores of a chunk are forgotten and
    computed again in the backward pass, unless one chunk takes all tokens.

    Args:
        states: (tokens, hidden).
        labels: (tokens,) ids.
        scores: (n, hidden) -> (n, vocabulary), each token by itself; whatever parameters it has get their gradients.
        most: scores in memory.
    """
    return _in_chunks(states, labels, scores, most, 0.0, hits=True)


def _in_chunks(
    states: Tensor, labels: Tensor, scores: Callable[[Tensor], Tensor], most: int, label_smoothing: float, *, hits: bool
) -> tuple[Tensor, Tensor]:
    """Both for each token; without `hits` the second one is empty."""
    nothing = labels.new_zeros(0, dtype=torch.bool)
    if not len(states):
        return states.sum(dim=-1), nothing  # zero losses, whose gradient is zero

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
        found = [checkpoint(nll, x, y, use_reentrant=False, preserve_rng_state=False) for x, y in parts]
    else:
        found = [nll(x, y) for x, y in parts]
    losses, right = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(right)


def row_sums(values: Tensor, places: Tensor) -> Tensor:
    """The sum of what is in each row, (batch,): `values` (n,) of the True `places` (batch, length), in order."""
    return values.new_zeros(len(places)).index_add(0, places.nonzero()[:, 0], values)
