"""What every encoder offers: it reads the tensors of an input, and gives states or one vector per row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from eir_seq.config.schema import DataConfig
from eir_seq.modalities.encoders.mixing import Mixing, tables
from eir_seq.models.output import TokenStates


class Encoder(nn.Module, ABC):
    """Tensors of a batch to states (batch, length, size) with their mask, and those to a vector (batch, output_size).

    States are of tokens, patches, columns or whatever else the encoder reads one by one; fusions and outputs may read
    either. `VectorEncoder` is the base of those that have no states.
    """

    output_size: int
    """Width of the vector."""
    state_size: int
    """Width of the states."""
    cut_axes: ClassVar[int | None] = None
    """How many of the last axes of the tensors are positions, for `mix`; by the number of axes if None. 0: a cut would
    tear apart what belongs together, such as the tokens of a word, and weighted sums take its place."""

    @classmethod
    def build(cls, fitted: Any, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Self:
        """The encoder that `fitted.config.model` describes, called as ``(model_init_config, fitted)``.

        Args:
            fitted: the fitted input, which knows the shape of what is read.
            data: how rows become batches.
            pretrained: load published weights, where there are any; False where others will be put in their place.
            task: the task whose head an output needs, of architectures of the catalogue.
        """
        del data, pretrained
        assert task is None, "rules keep outputs with a task from other encoders"
        return cls(fitted.config.model.model_init_config, fitted)

    @abstractmethod
    def read(self, **tensors: Tensor) -> TokenStates:
        """States of the tensors that the input's collator makes, each (batch, ...)."""

    @abstractmethod
    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size), from its states."""

    def forward(self, **tensors: Tensor) -> Tensor:
        """The tensors that `read` takes to (batch, output_size)."""
        return self.pool_tokens(self.read(**tensors))

    def penalty(self) -> Tensor | None:
        """What is added to the loss of a training step, such as an L1 penalty on weights; None for nothing."""
        return None

    def mix(self, tensors: dict[str, Tensor], mixing: Mixing) -> tuple[dict[str, Tensor], Tensor]:
        """The tensors that `read` takes with each row mixed with another, and the share of the rows that is left.

        By default numbers become weighted sums, masks are true where one of the rows has them, and integers stay, whose
        vectors (`mixed_embeddings`) are mixed instead; without such vectors they are numbers, too. A cut takes
        positions from every tensor, along the last axes (`cut_axes`).

        Args:
            tensors: by name, each (batch, ...).
            mixing: the rows that are mixed, and how.

        Returns:
            The tensors, and (batch,) the share.
        """
        return mixing.tensors(tensors, self.cut_axes, has_embeddings=bool(self.mixed_embeddings()))

    def mixed_embeddings(self) -> list[nn.Module]:
        """The modules that make vectors (batch, ...) of integers; mixup mixes these vectors."""
        return tables(self)

    def published_models(self) -> dict[str, Any]:
        """Models that others can load, by the folder below that of the input."""
        return {}


class VectorEncoder(Encoder):
    """An encoder that gives one vector per row: its only state.

    Example:
        >>> class Doubled(VectorEncoder):
        ...     output_size = 2
        ...
        ...     def encode(self, values):
        ...         return 2 * values
        >>> Doubled()(values=torch.ones(1, 2)).tolist()
        [[2.0, 2.0]]
        >>> Doubled().read(values=torch.ones(1, 2)).states.shape
        torch.Size([1, 1, 2])
    """

    @property
    def state_size(self) -> int:  # type: ignore[override]
        """Width of the vector."""
        return self.output_size

    @abstractmethod
    def encode(self, **tensors: Tensor) -> Tensor:
        """The vector of each row, (batch, output_size)."""

    def read(self, **tensors: Tensor) -> TokenStates:
        """The vector as the only state, (batch, 1, output_size)."""
        states = self.encode(**tensors)[:, None]
        return TokenStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each row, (batch, output_size)."""
        return tokens.states[:, 0]

    def forward(self, **tensors: Tensor) -> Tensor:
        """The tensors that `encode` takes to (batch, output_size)."""
        return self.encode(**tensors)
