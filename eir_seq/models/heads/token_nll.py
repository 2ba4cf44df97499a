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
    """Negative log-likelihood of each label, (tokens,).

    Tokens are scored in chunks of at most `most` scores. With gradients the scores of a chunk are forgotten and
    computed again in the backward pass, unless one chunk takes all tokens.

    Args:
        states: (tokens, hidden).
        labels: (tokens,) ids.
        scores: (n, hidden) -> (n, vocabulary), each token by itself; whatever parameters it has get their gradients.
        most: scores in memory.
        label_smoothing: share of the target that is spread over the vocabulary (https://arxiv.org/abs/1512.00567).
    """
    if not len(states):
        return states.new_zeros(0)

    def nll(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(scores(x).float(), y, reduction="none", label_smoothing=label_smoothing)

    with torch.no_grad():
        vocabulary = scores(states[:1]).shape[-1]
    chunk = max(1, most // vocabulary)
    if len(states) <= chunk:
        return nll(states, labels)
    parts = zip(states.split(chunk), labels.split(chunk), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([nll(x, y) for x, y in parts])
    # scoring draws no random numbers, so none need be kept for the second time
    return torch.cat([checkpoint(nll, x, y, use_reentrant=False, preserve_rng_state=False) for x, y in parts])
