"""From the vectors of inputs to what is compared: projections, and a temperature that may be learned."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_SCALE = 100.0
"""Largest factor on the cosines that is learned (Radford et al. 2021, arXiv:2103.00020, section 2.5)."""


class SimilarityHead(nn.Module):
    """Vectors ``{input: (batch, size)}`` to raw outputs (batch, inputs * width): of each input the vector of length 1.

    A learned temperature adds a column: the logarithm of the factor on the cosines. A vector of zeros stays one.

    Args:
        sizes: width of the vector of each input.
        owners: for each input the one whose encoder reads it, whose projection is its, too.
        projection: width of the projections; None: there are none.
        temperature: with which a learned one begins; None: none is learned.
    """

    def __init__(
        self, sizes: Mapping[str, int], owners: Mapping[str, str], projection: int | None, temperature: float | None
    ) -> None:
        super().__init__()
        self.owners = {name: _key(owners[name]) for name in sizes}
        wanted = {self.owners[name]: size for name, size in sizes.items()} if projection else {}
        self.projections = nn.ModuleDict(
            {key: nn.Linear(size, projection or size, bias=False) for key, size in wanted.items()}
        )
        self.log_scale = None if temperature is None else nn.Parameter(torch.tensor(-math.log(temperature)))

    def project(self, name: str, vectors: Tensor) -> Tensor:
        """Vectors of an input, (rows, size), in the width in which they are compared."""
        key = self.owners[name]
        projected: Tensor = self.projections[key](vectors) if key in self.projections else vectors
        return projected.float()

    def forward(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs of the vectors of all inputs, (batch, inputs * width)."""
        parts = [functional.normalize(self.project(name, vector), dim=1) for name, vector in vectors.items()]
        if self.log_scale is not None:
            scale = self.log_scale.float().clamp(max=math.log(MOST_SCALE))
            parts.append(scale.expand(len(parts[0]), 1))
        return torch.cat(parts, dim=1)


def _key(name: str) -> str:
    return f"of_{name}"  # ModuleDict refuses the names of its attributes, such as "keys"
