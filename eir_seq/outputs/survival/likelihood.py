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
    _, group, sizes = time[order].unique_consecutive(return_inverse=True, return_counts=True)
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
        survived: how many intervals a row survived, (rows,).
        failed: the number of the interval of its event, -1 without one, (rows,).

    Example:
        >>> hazard_terms(torch.zeros(2, 3), torch.tensor([1, 3]), torch.tensor([1, -1])).exp()
        tensor([4., 8.])
    """
    number = torch.arange(logits.shape[1], device=logits.device)
    alive = functional.softplus(logits) * (number < survived[:, None])
    event = functional.softplus(-logits) * (number == failed[:, None])
    return (alive + event).sum(dim=1)


def intervals(time: Tensor, event: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """How many intervals each row survived, (rows,), and the number of that of its event, -1 without one, (rows,).

    A censored row survives those that end before it is censored, or then. An event after the last interval is none.

    Args:
        time: of the event or of censoring, (rows,).
        event: whether there was one, (rows,).
        edges: upper ends of the intervals, which they include, (intervals,).
    """
    within = torch.bucketize(time, edges)
    failed = torch.where(event & (within < len(edges)), within, -1)
    return torch.where(event, within, torch.bucketize(time, edges, right=True)), failed


def interval_hazards(time: Tensor, event: Tensor, edges: Tensor) -> Tensor:
    """The share of rows at risk that had an event in each interval (a life table), (intervals,); arguments as above."""
    survived, failed = intervals(time, event, edges)
    number = torch.arange(len(edges))[:, None]
    events, others = (failed == number).sum(dim=1), (survived > number).sum(dim=1)
    return events / (events + others).clamp(min=1)
