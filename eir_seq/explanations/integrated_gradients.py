"""Integrated gradients (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from eir_seq.explanations.config import IntegratedGradientsConfig
from eir_seq.explanations.method import Explained, Scores

PARTS, NODES = 4, 4
"""Parts of the path at first, and gradients in each part: Gauss-Legendre, exact for polynomials of degree 7."""
FLOOR = 1e-5
"""Share of a score below which errors of single precision hide what adds to it."""


@dataclass(frozen=True)
class _Part:
    """A part of the path: where it begins and ends, the scores there, and the integral, (targets, positions)."""

    start: float
    end: float
    first: Tensor
    last: Tensor
    integral: Tensor

    @property
    def error(self) -> Tensor:
        """By how much the integral misses the difference of the scores at both ends, (targets,)."""
        return (self.integral.sum(dim=1) - (self.last - self.first)).abs()


def explain(config: IntegratedGradientsConfig, scores: Scores, given: Tensor, baseline: Tensor) -> Explained:
    """The gradient along the straight path from the baseline to the row, times their difference.

    The integral over a part of the path has to be the difference of the scores at its ends, so the error of each part
    is known. Parts with most of it are halved until `tolerance` is reached, or `max_steps` gradients are taken. So a
    path is followed closely where a score changes fast, as it does near zeros that a norm scales up; where it jumps
    (experts that are chosen by rank), what the jump adds is missing, and is `Explained.gap`.

    Args:
        config: see there.
        scores: of versions of the row, (versions, positions, size) to (versions, targets).
        given: (positions, size).
        baseline: (positions, size).

    Example:
        >>> given = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> product = lambda x: (x[:, 0, 1] * x[:, 1, 0])[:, None]
        >>> found = explain(IntegratedGradientsConfig(), product, given, torch.zeros(2, 2))
        >>> [round(value, 3) for value in found.values[0].tolist()], found.score.tolist()
        ([3.0, 3.0], [6.0])
    """
    path = _Path(scores, given, baseline, config.batch_size)
    ends = torch.linspace(0, 1, PARTS + 1).tolist()
    parts = path.parts(ends, path.values(ends))
    while True:
        total = torch.stack([part.integral for part in parts]).sum(dim=0)
        errors = torch.stack([part.error for part in parts])
        size = torch.maximum(total.abs().sum(dim=1), FLOOR * (parts[0].first.abs() + parts[-1].last.abs()))
        shares = (errors / size.clamp(min=torch.finfo(size.dtype).tiny)).amax(dim=1)
        left = (config.max_steps - path.gradients) // (2 * NODES)
        if float(shares.sum()) <= config.tolerance or left < 1:
            return Explained(total, score=parts[-1].last, baseline=parts[0].first)
        order = shares.argsort(descending=True)
        rest = shares.sum() - shares[order].cumsum(dim=0)  # what is left without the first, the first two ...
        count = min(left, int((rest > config.tolerance / 2).sum()) + 1)
        halved = set(order[:count].tolist())
        middles = [(parts[index].start + parts[index].end) / 2 for index in sorted(halved)]
        found = iter(zip(middles, path.values(middles), strict=True))
        refined: list[_Part] = []
        for index, part in enumerate(parts):
            if index in halved:
                middle, value = next(found)
                ends = [part.start, middle, part.end]
                refined += path.parts(ends, torch.stack([part.first, value, part.last]))
            else:
                refined.append(part)
        parts = refined


class _Path:
    """The scores along the path, and their gradients in its direction."""

    def __init__(self, scores: Scores, given: Tensor, baseline: Tensor, batch_size: int) -> None:
        self.scores, self.baseline, self.direction = scores, baseline, given - baseline
        self.batch_size = batch_size
        self.gradients = 0
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        self._nodes, self._weights = (nodes + 1) / 2, weights / 2

    def values(self, places: Sequence[float]) -> Tensor:
        """The scores at places from 0 to 1, (places, targets), in double precision."""
        with torch.no_grad():
            return torch.cat([self.scores(points).cpu().double() for points in self._points(places)])

    def parts(self, ends: Sequence[float], values: Tensor) -> list[_Part]:
        """The parts between neighbouring `ends`, at which the scores are `values`, (ends, targets)."""
        bounds = list(pairwise(ends))
        places = [start + (end - start) * node for start, end in bounds for node in self._nodes.tolist()]
        slopes = torch.cat([self._slopes(points) for points in self._points(places)])
        self.gradients += len(places)
        weights = torch.from_numpy(self._weights)
        found = []
        for number, (start, end) in enumerate(bounds):
            own = slopes[number * NODES : (number + 1) * NODES]
            integral = torch.einsum("n,ntp->tp", weights, own) * (end - start)
            found.append(_Part(start, end, values[number], values[number + 1], integral))
        return found

    def _points(self, places: Sequence[float]) -> Iterator[Tensor]:
        """Points of the path, a batch at a time, each (places, positions, size)."""
        at = torch.tensor(places, dtype=self.direction.dtype, device=self.direction.device)
        for some in torch.split(at, self.batch_size):
            yield self.baseline + some[:, None, None] * self.direction

    def _slopes(self, points: Tensor) -> Tensor:
        """Gradients times the direction, of each position, (places, targets, positions), in double precision."""
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            scores = self.scores(points)
            assert scores.dim() == 2, "scores are (versions, targets)"
            if not scores.requires_grad:  # the output does not read this input
                return torch.zeros(*scores.shape, points.shape[1], dtype=torch.float64)
            found = []
            for target in range(scores.shape[1]):
                keep = target + 1 < scores.shape[1]
                (gradient,) = torch.autograd.grad(scores[:, target].sum(), points, retain_graph=keep)
                found.append((gradient * self.direction).sum(dim=-1).cpu().double())
        return torch.stack(found, dim=1)
