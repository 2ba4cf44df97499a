"""Losses of survival models, row by row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cox_terms(log_hazard: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """What each row adds to the negative log partial likelihood of these rows (Cox 1972), (rows,); 0 without an event.

    Ties are treated as by Efron (1977): of m events at one time, the r-th (from 0) is compared with the rows at risk
    less the share r / m of the events of that time.

    Args:
        log_hazard: relative to the baseline, (rows,).
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).

    Example:
        >>> time, event = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False])
        >>> cox_terms(torch.zeros(3), time, event).exp()
        tensor([3., 2., 1.])
    """
    order = time.argsort(descending=True, stable=True)
    x, happened = log_hazard[order], event[order]
    _, group, sizes = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    last = sizes.cumsum(0) - 1
    # rows at risk are those up to the last one of the same time
    at_risk = x.logcumsumexp(0)[last][group]
    count = happened.long()
    before = count.cumsum(0) - count
    first = last - sizes + 1
    rank = (before - before[first][group]).to(x.dtype)
    zeros = x.new_zeros(len(sizes))
    events = zeros.index_add(0, group, count.to(x.dtype))[group]
    # of what is at risk, the share that has an event now
    share = zeros.index_add(0, group, (x - at_risk).exp() * count)[group]
    tied = torch.log1p(-(rank / events.clamp(min=1)) * share)
    terms = torch.where(happened, at_risk - x + tied, 0.0)
    return torch.zeros_like(terms).index_copy(0, order, terms)


def hazard_terms(logits: Tensor, survived: Tensor, failed: Tensor) -> Tensor:
    """The negative log likelihood of each row under discrete hazards (Gensheimer & Narasimhan 2019), (rows,).

    Args:
        logits: of the hazard of each interval, (rows, intervals).
        survived: the share of each interval that a row survived, (rows, intervals).
        failed: the number of the interval of its event, -1 without one, (rows,).

    Example:
        >>> survived = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.5]])
        >>> hazard_terms(torch.zeros(2, 3), survived, torch.tensor([1, -1])).exp()
        tensor([4.0000, 5.6569])
    """
    number = torch.arange(logits.shape[1], device=logits.device)
    event = functional.softplus(-logits) * (number == failed[:, None])
    return (survived * functional.softplus(logits) + event).sum(dim=1)


def intervals(time: Tensor, event: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each interval that a row survived, (rows, intervals), and that of its event, -1 without, (rows,).

    A row with an event survives the intervals before. One that is censored within an interval survives it in part: at a
    constant hazard, an interval survived to the share s has the probability (1 - hazard) ** s. Without that, the rows
    censored in an interval would count as if they had left before it, and hazards would be too high. An event after the
    last interval is none.

    Args:
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).
        edges: upper ends of the intervals, which they include, (intervals,).

    Example:
        >>> time, event = torch.tensor([1.5, 3.0]), torch.tensor([True, False])
        >>> intervals(time, event, torch.tensor([1.0, 2.0, 6.0]))
        (tensor([[1.0000, 0.0000, 0.0000],
                [1.0000, 1.0000, 0.2500]]), tensor([ 1, -1]))
    """
    within = torch.bucketize(time, edges)
    starts = torch.cat([edges.new_zeros(1), edges[:-1]])
    survived = ((time[:, None] - starts) / (edges - starts)).clamp(0, 1)
    before = torch.arange(len(edges), device=time.device) < within[:, None]
    return (
        torch.where(event[:, None], before.to(survived.dtype), survived),
        torch.where(event & (within < len(edges)), within, -1),
    )


def interval_hazards(time: Tensor, event: Tensor, edges: Tensor) -> Tensor:
    """The hazard of each interval, (intervals,), at which rows are most likely; arguments as of `intervals`."""
    survived, failed = intervals(time, event, edges)
    events = (failed == torch.arange(len(edges))[:, None]).sum(dim=1)
    return events / (events + survived.sum(dim=0)).clamp(min=1)
