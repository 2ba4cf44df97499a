"""Cross-entropy fused with the product that makes the scores, which are never computed a second time.

Scores of a chunk of tokens become their own gradient in place, which is multiplied at once: by the weight for the
gradient of the states, by the states for that of the weight. What is kept for the backward pass is as large as those.
The loss of all tokens together decides their factor there; where all have the same, as in any mean, multiplying by it
is all that is left. (Wijmans et al. 2024, arXiv:2411.09009, and Hsu et al. 2024, arXiv:2410.10989, do so on GPUs.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from eir_seq.models.layers.linear import product


class Factors(NamedTuple):
    """What scores are the product of: x W^T + b, of shapes (tokens, in), (vocabulary, in), (vocabulary,)."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None


class _Gradients(NamedTuple):
    x: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


def linear_nll(
    factors: Factors,
    labels: Tensor,
    *,
    chunk: int,
    label_smoothing: float = 0.0,
    hits: bool = False,
    alike: bool = True,
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each label, (tokens,), and with `hits` whether it has the highest score, (tokens,).

    Args:
        factors: of the scores; those that need gradients get them.
        labels: (tokens,) ids.
        chunk: tokens whose scores are in memory at once.
        label_smoothing: share of the target that is spread over the vocabulary.
        hits: whether the second result is wanted; it is empty otherwise.
        alike: whether the losses of all tokens are expected to count alike. Otherwise, or where they turn out not to,
            scores are computed once more in the backward pass.

    >>> x, weight = torch.randn(3, 2), torch.randn(5, 2)
    >>> labels = torch.tensor([0, 4, 2])
    >>> nll, _ = linear_nll(Factors(x, weight, None), labels, chunk=2)
    >>> torch.allclose(nll, F.cross_entropy(x @ weight.t(), labels, reduction="none"))
    True
    """
    device = factors.x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else factors.x.dtype
    nll: Tensor
    at_once = alike and torch.is_grad_enabled()
    nll, right = _LinearNll.apply(*factors, labels, _How(chunk, label_smoothing, hits, at_once, dtype))
    return nll, right


class _How(NamedTuple):
    chunk: int
    label_smoothing: float
    hits: bool
    at_once: bool
    """Whether gradients are computed with the losses."""
    dtype: torch.dtype
    """Of products; gradients are summed up in the number format of their factor."""


class _LinearNll(torch.autograd.Function):
    """See `linear_nll`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, how: _How
    ) -> tuple[Tensor, Tensor]:
        needed: tuple[bool, bool, bool] = ctx.needs_input_grad[:3]
        ctx.how, ctx.gradients = how, None
        ctx.save_for_backward(x, weight, bias, labels)
        with torch.autocast(x.device.type, enabled=False):
            if not (how.at_once and any(needed)):
                pairs = [_losses(scores, y, how) for _, y, scores in _scored(x, weight, bias, labels, how)]
                losses, right = [loss for loss, _ in pairs], [hit for _, hit in pairs]
            else:
                losses, right, ctx.gradients = _with_gradients(x, weight, bias, labels, how, needed, None)
        results = torch.cat(losses), torch.cat(right)
        ctx.mark_non_differentiable(results[1])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found: _Gradients | None = ctx.gradients
        if found is not None and bool((gradient == gradient[0]).all()):
            ctx.gradients = None  # they are changed here; a second pass through the graph computes its own
            return *(None if each is None else each.mul_(gradient[0]) for each in found), None, None
        x, weight, bias, labels = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            found = _with_gradients(x, weight, bias, labels, ctx.how, ctx.needs_input_grad[:3], gradient)[2]
        return *found, None, None


def _scored(
    x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, how: _How
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunk by chunk: places, labels (n, 1), and scores (n, vocabulary) in float32 at least."""
    factor, own = weight.to(how.dtype), None if bias is None else bias.to(how.dtype)
    for start in range(0, len(x), how.chunk):
        places = slice(start, start + how.chunk)
        scores = product(x[places].to(how.dtype), factor, own)
        yield places, labels[places, None], scores if scores.dtype is torch.float64 else scores.float()


def _losses(scores: Tensor, labels: Tensor, how: _How) -> tuple[Tensor, Tensor]:
    right = (scores.argmax(dim=-1) == labels[:, 0]) if how.hits else labels.new_zeros(0, dtype=torch.bool)
    return F.cross_entropy(scores, labels[:, 0], reduction="none", label_smoothing=how.label_smoothing), right


def _with_gradients(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    how: _How,
    needed: tuple[bool, bool, bool],
    factor: Tensor | None,
) -> tuple[list[Tensor], list[Tensor], _Gradients]:
    """Losses, hits, and gradients of the sum of losses, each times its `factor` (tokens,)."""
    losses, hits = [], []
    of_x = torch.empty_like(x) if needed[0] else None
    of_weight = of_bias = None
    smoothing, rows = how.label_smoothing, weight.to(how.dtype)
    for places, labels_, scores in _scored(x, weight, bias, labels, how):
        hits.append((scores.argmax(dim=-1, keepdim=True) == labels_)[:, 0] if how.hits else labels_.new_zeros(0).bool())
        log_p = scores.log_softmax(dim=-1)
        del scores
        loss = -log_p.gather(1, labels_)[:, 0]
        if smoothing:
            loss = (1 - smoothing) * loss - smoothing * log_p.mean(dim=-1)
        losses.append(loss)
        change = log_p.exp_()  # of the loss by the scores: p - target
        change.scatter_add_(1, labels_, change.new_full(labels_.shape, smoothing - 1))
        if smoothing:
            change -= smoothing / len(weight)
        if factor is not None:
            change *= factor[places, None]
        narrow = change.to(how.dtype)
        if of_x is not None:
            of_x[places] = product(narrow, rows.t())
        if needed[1]:
            of_weight = _added(of_weight, narrow, x[places].to(how.dtype), weight.dtype)
        if needed[2]:
            part = change.sum(dim=0).to(weight.dtype)
            of_bias = part if of_bias is None else of_bias.add_(part)
    return losses, hits, _Gradients(of_x, of_weight, of_bias)


def _added(total: Tensor | None, change: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum so far and (n, vocabulary)^T (n, in)."""
    if total is None:
        return product(change.t(), x.t()).to(dtype)
    if change.dtype is total.dtype:
        return total.addmm_(change.t(), x)
    return total.add_(product(change.t(), x.t()))
