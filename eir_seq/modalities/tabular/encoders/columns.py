"""From the cells of a row to vectors: categories by tables of vectors, numbers as they are or embedded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from eir_seq.modalities.tabular.codes import MISSING, UNSEEN
from eir_seq.modalities.tabular.encoders.config import NumericOptions
from eir_seq.modalities.tabular.preprocess import FittedTabular


class CategoryVectors(nn.Module):
    """A vector for each category of each column: ids (batch, columns) to (batch, columns, size).

    Those of missing and of unseen categories begin at zero, so that they are neutral where training rows have none.

    Args:
        counts: ids of each column, missing and unseen ones included.
        size: of a vector.
        deviation: standard deviation of the first vectors.
    """

    first: Tensor

    def __init__(self, counts: list[int], size: int, deviation: float = 1.0) -> None:
        super().__init__()
        offsets = torch.tensor([0, *counts]).cumsum(0)
        self.register_buffer("first", offsets[:-1], persistent=False)
        self.table = nn.Embedding(int(offsets[-1]), size)
        nn.init.normal_(self.table.weight, std=deviation)
        with torch.no_grad():
            for neutral in (MISSING, UNSEEN):
                self.table.weight[self.first + neutral] = 0.0

    def forward(self, categories: Tensor) -> Tensor:
        """(batch, columns) ids to (batch, columns, size)."""
        vectors: Tensor = self.table(categories + self.first)
        return vectors


class PlainNumbers(nn.Module):
    """Numbers (batch, columns), NaN where they are missing, to numbers with a learned value there, and indicators.

    An indicator says that the number is missing; columns that lack it in some training row have one.

    Args:
        lacking: of each column, whether training rows lack it.
    """

    lacking: Tensor

    def __init__(self, lacking: list[bool]) -> None:
        super().__init__()
        self.register_buffer("lacking", torch.tensor(lacking).nonzero().squeeze(1), persistent=False)
        self.missing = nn.Parameter(torch.zeros(len(lacking)))
        self.output_size = len(lacking) + sum(lacking)

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, columns) to (batch, output_size)."""
        missing = numbers.isnan()
        filled = torch.where(missing, self.missing, numbers.nan_to_num())
        return torch.cat((filled, missing[:, self.lacking].to(filled.dtype)), dim=1)


class EmbeddedNumbers(nn.Module):
    """Numbers (batch, columns), NaN where they are missing, to vectors (batch, columns, size).

    A number is first described by features (itself, its place among bins, or periodic functions of it); a linear layer
    per column follows, and a ReLU but for `linear`. A missing number has a learned vector.

    Args:
        options: which features.
        fitted: the fitted input, which has the edges of bins.
        size: of a vector.
    """

    def __init__(self, options: NumericOptions, fitted: FittedTabular, size: int) -> None:
        super().__init__()
        columns = len(fitted.config.continuous)
        self.features: nn.Module | None = None
        width = 1
        if options.numeric_embedding == "piecewise-linear":
            self.features = PiecewiseLinear(fitted.edges)
            width = self.features.width
        elif options.numeric_embedding == "periodic":
            self.features = Periodic(columns, options.frequencies, options.frequency_scale)
            width = 2 * options.frequencies
        bound = (width if self.features is not None else size) ** -0.5
        self.weight = nn.Parameter(torch.empty(columns, width, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, size).uniform_(-bound, bound))
        self.missing = nn.Parameter(torch.zeros(columns, size))

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, columns) to (batch, columns, size)."""
        missing, numbers = numbers.isnan()[..., None], numbers.nan_to_num()
        described = numbers[..., None] if self.features is None else self.features(numbers)
        vectors = torch.einsum("bcf,cfs->bcs", described, self.weight) + self.bias
        if self.features is not None:
            vectors = vectors.relu()
        return torch.where(missing, self.missing, vectors)


class PiecewiseLinear(nn.Module):
    """Which part of each bin of its column a number fills (Gorishniy et al. 2022, arXiv:2203.05556, section 3.2).

    Bins below the one of the number are 1, those above 0; the first and the last continue beyond their ends.

    Args:
        edges: of each column, ascending; columns may have different numbers of bins.
    """

    start: Tensor
    step: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: list[list[float]]) -> None:
        super().__init__()
        self.width = max(len(column) for column in edges) - 1
        start, step = torch.zeros(len(edges), self.width), torch.full((len(edges), self.width), math.inf)
        low, high = torch.zeros(len(edges), self.width), torch.ones(len(edges), self.width)
        for number, column in enumerate(edges):
            values, bins = torch.tensor(column, dtype=torch.float64), len(column) - 1
            start[number, :bins] = values[:-1].float()
            step[number, :bins] = values.diff().float()
            low[number, 0], high[number, bins - 1] = -math.inf, math.inf
        for name, values in {"start": start, "step": step, "low": low, "high": high}.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, columns) to (batch, columns, bins); what a column has not is 0."""
        return ((numbers[..., None] - self.start) / self.step).clamp(self.low, self.high)


class Periodic(nn.Module):
    """Sines and cosines of a number at learned frequencies (Gorishniy et al. 2022, arXiv:2203.05556, section 3.3)."""

    def __init__(self, columns: int, frequencies: int, scale: float) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(columns, frequencies) * scale)

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, columns) to (batch, columns, 2 * frequencies)."""
        phases = 2 * math.pi * self.frequencies * numbers[..., None]
        return torch.cat((phases.sin(), phases.cos()), dim=-1)
