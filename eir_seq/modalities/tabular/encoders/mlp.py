"""Encoders that give one vector per row: residual feed-forward blocks, and a linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eir_seq.modalities.encoders.base import VectorEncoder
from eir_seq.modalities.encoders.layers.residual_mlp import ResidualMlp
from eir_seq.modalities.tabular.encoders.columns import CategoryVectors, EmbeddedNumbers, PlainNumbers
from eir_seq.modalities.tabular.encoders.config import TabularLinearOptions, TabularMlpOptions
from eir_seq.modalities.tabular.preprocess import FittedTabular


class MlpEncoder(VectorEncoder):
    """Residual feed-forward blocks on the vectors of all columns side by side."""

    def __init__(self, options: TabularMlpOptions, fitted: FittedTabular) -> None:
        super().__init__()
        self.output_size = options.hidden_size
        self.category_vectors: nn.Module | None = None
        self.numbers: nn.Module | None = None
        width = 0
        if counts := fitted.counts:
            self.category_vectors = CategoryVectors(counts, options.embedding_size)
            width += len(counts) * options.embedding_size
        if fitted.config.continuous and options.numeric_embedding == "linear":
            self.numbers = plain = PlainNumbers(fitted.lacking)
            width += plain.output_size
        elif fitted.config.continuous:
            self.numbers = EmbeddedNumbers(options, fitted, options.numeric_embedding_size)
            width += len(fitted.config.continuous) * options.numeric_embedding_size
        self.blocks = ResidualMlp(
            width,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            dropout=options.dropout,
            stochastic_depth=options.stochastic_depth,
        )

    def encode(self, **tensors: Tensor) -> Tensor:
        """`categories` and `numbers`, (batch, columns) each, to (batch, output_size)."""
        parts = []
        if self.category_vectors is not None:
            parts.append(self.category_vectors(tensors["categories"]).flatten(1))
        if self.numbers is not None:
            parts.append(self.numbers(tensors["numbers"]).flatten(1))
        vector: Tensor = self.blocks(torch.cat(parts, dim=1))
        return vector


class LinearEncoder(VectorEncoder):
    """A linear layer on numbers and one-hot categories."""

    def __init__(self, options: TabularLinearOptions, fitted: FittedTabular) -> None:
        super().__init__()
        self.output_size = options.hidden_size
        columns = len(fitted.counts) + len(fitted.config.continuous)
        self.bias = nn.Parameter(torch.zeros(options.hidden_size))
        self.category_vectors = self.numbers = None
        if counts := fitted.counts:  # the product of a one-hot category with a matrix is a row of it
            self.category_vectors = CategoryVectors(counts, options.hidden_size, columns**-0.5)
        if fitted.config.continuous:
            plain = PlainNumbers(fitted.lacking)
            self.numbers = nn.Sequential(plain, nn.Linear(plain.output_size, options.hidden_size, bias=False))

    def encode(self, **tensors: Tensor) -> Tensor:
        """`categories` and `numbers`, (batch, columns) each, to (batch, output_size)."""
        vector: Tensor = self.bias
        if self.category_vectors is not None:
            vector = vector + self.category_vectors(tensors["categories"]).sum(dim=1)
        if self.numbers is not None:
            vector = vector + self.numbers(tensors["numbers"])
        return vector
