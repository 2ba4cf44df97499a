"""What texts are written from, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from eir_seq.tokenizers import Tokenizer

if TYPE_CHECKING:
    from eir_seq.rows import Rows


BETWEEN = " | "
"""Between the inputs of a row, in readable form."""


class WritingNetwork(Protocol):
    """A network, as far as generating needs it."""

    def encoder(self, name: str, /) -> Any:
        """The encoder of an input, whose `backbone` may generate."""

    def head(self, name: str, /) -> Any:
        """The head of an output, whose `backbone` may generate."""

    def features_for(self, output: str, batch: Mapping[str, Any], /) -> Tensor:
        """The fused features that the head of an output reads of a batch, (batch, size)."""

    def values_for(self, output: str, batch: Mapping[str, Any], /) -> Mapping[str, Tensor]:
        """The values at positions that the head of an output reads of a batch, by input."""

    def states_for(self, output: str, batch: Mapping[str, Any], /) -> Mapping[str, Any]:
        """The states that the head of an output reads of a batch, by input."""

    def messages_for(self, output: str, /) -> Mapping[str, Tensor]:
        """What messages bring from other layers into the head of an output, of the batch of `states_for`."""


@dataclass(frozen=True)
class TextSource:
    """What an output writes with.

    Attributes:
        inputs: that it writes from, by name.
        read: a batch to the tensors that texts are written from, each (batch, ...).
        encoder: called with these and labels by its `read`, for scores; its `backbone` generates.
        tokenizer: of what is written.
        before: special tokens before a target.
        after: those after it.
        end: the token that ends it, one of these.
        longest: tokens that a text has at most, where the options of generation do not say.
        column: of the true texts.
        rows: of a validation split for which texts are written at each evaluation.
    """

    inputs: Sequence[str]
    read: Callable[[Mapping[str, Any]], Mapping[str, Tensor]]
    encoder: Any
    tokenizer: Tokenizer
    before: Sequence[int]
    after: Sequence[int]
    end: int
    longest: int
    column: str = ""
    rows: int = 0


def shown(inputs: Mapping[str, Any], names: Sequence[str], rows: Rows) -> list[str]:
    """What is in some inputs, row by row, in readable form; an input that a row lacks is left out."""
    parts: list[list[str]] = [[] for _ in range(rows.num_rows)]
    for name in names:
        fitted = inputs[name]
        there = np.logical_or.reduce([np.asarray(rows.table.column(column).is_valid()) for column in fitted.columns])
        places = np.flatnonzero(there).tolist()
        for place, text in zip(places, fitted.show(rows.select(places)[:]) if places else (), strict=True):
            parts[place].append(text)
    return [BETWEEN.join(found) for found in parts]
