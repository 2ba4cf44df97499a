"""What attributions of an input of tokens are of: the vectors of its tokens, which are pieces of the row's texts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.modalities.attributable import Attributable, Unit
from eir_seq.modalities.sequence.batches import IDS, PAIR_IDS, SequenceCollator
from eir_seq.modalities.sequence.cells import InputCells
from eir_seq.modalities.sequence.tensors.base import Content
from eir_seq.modalities.sequence.tokens import leading_space
from eir_seq.randomness import Draw
from eir_seq.tokenizers import Tokenizer

FAR = 2**40
"""A number beyond all ids of tokens."""


@dataclass(frozen=True)
class Pieces:
    """All tokens of one text of a row, before any is left out: what each says, and where it is in the cell."""

    column: str
    texts: Sequence[str]
    spans: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True)
class TokenAttribution(Attributable):
    """The tokens of an input, each with the vector that the table of its encoder has.

    Attributes:
        collator: that makes batches of the rows.
        vocabulary: how many tokens there are.
        specials: the ids of those of them that are no part of a text.
        pieces: the columns of one row to its texts, one or a pair.
    """

    collator: SequenceCollator
    vocabulary: int
    specials: Collection[int]
    pieces: Callable[[Mapping[str, Sequence[Any]]], list[Pieces]]

    @torch.no_grad()
    def baselines(self, kind: str, count: int) -> Tensor:
        """The mean vector of all tokens, that of padding, zeros, or those of ordinary tokens.

        The last are evenly spaced in the first half of the vocabulary, which for most tokenizers has the more frequent
        ones: they say less about a text, and their vectors are trained.
        """
        device = next(self.table.parameters()).device
        chosen = list(range(self.vocabulary))
        if kind == "tokens":
            ordinary = [token for token in chosen if token not in self.specials] or chosen
            chosen = [ordinary[(2 * number + 1) * len(ordinary) // (4 * count)] for number in range(count)]
        elif kind == "padding":
            chosen = [self.collator.pad_id]
        vectors: Tensor = self.table(torch.tensor(chosen, device=device))
        if kind in ("tokens", "padding"):
            return vectors
        return vectors.mean(dim=0, keepdim=True) if kind == "mean" else torch.zeros_like(vectors[:1])

    def units(self, rows: Mapping[str, Sequence[Any]], row: int, draw: Draw) -> list[Unit]:
        """The tokens of the texts.

        The collator that truncates and frames them is given numbers in place of the ids of tokens.
        """
        texts = self.pieces(rows)
        numbers = _Numbers([len(text.texts) for text in texts])
        plain = replace(self.collator, words=False, sources=())
        (given,) = plain(numbers, [row], draw)["input_ids"].tolist()
        found = []
        for position, number in enumerate(given):
            if number < FAR:
                continue
            text, place = texts[number // FAR - 1], number % FAR
            start, end = (None, None) if text.spans is None else text.spans[place]
            found.append(Unit(position, text.texts[place], text.column, start, end))
        return found


@dataclass(frozen=True)
class _Numbers:
    """A row whose tokens are numbered, those of the first text from `FAR` on, those of the second from twice that."""

    lengths: Sequence[int]

    @property
    def features(self) -> Collection[str]:
        return (IDS, PAIR_IDS)[: len(self.lengths)]

    def numbers(self, feature: str) -> NDArray[Any]:
        raise AssertionError(f"{feature} is a sequence")

    def arrays(self, feature: str, rows: Sequence[int]) -> NDArray[Any]:
        raise AssertionError(f"{feature} is a sequence, {len(rows)} of them")

    def sequences(self, feature: str, rows: Sequence[int]) -> list[NDArray[Any]]:
        place = (IDS, PAIR_IDS).index(feature)
        return [FAR * (place + 1) + np.arange(self.lengths[place], dtype=np.int64) for _ in rows]


def pieces_of_texts(cells: InputCells, tokenizer: Tokenizer, rows: Mapping[str, Sequence[Any]]) -> list[Pieces]:
    """The tokens of the texts of one row, by their characters."""
    config = cells.config
    found = [_pieces(cells, tokenizer, config.column, cells.content(rows[config.column][0]))]
    if config.pair_column is not None:
        found.append(_pieces(cells, tokenizer, config.pair_column, Content(text=rows[config.pair_column][0])))
    return found


def _pieces(cells: InputCells, tokenizer: Tokenizer, column: str, content: Content) -> Pieces:
    limit = cells.config.max_characters
    if content.words is None:
        text = (content.text or "")[:limit]
        (encoding,) = tokenizer.encode_batch([text], offsets=True)
        spans = list(encoding.offsets or ())
    else:
        ends = accumulate(map(len, content.words))
        words = [word for word, end in zip(content.words, ends, strict=True) if end <= limit]
        space = leading_space(tokenizer, spaced="xpaths" not in cells.sources)
        encodings = tokenizer.encode_batch([space + word for word in words], offsets=True) if words else []
        text, spans, begin = " ".join(words), [], 0
        for word, encoding in zip(words, encodings, strict=True):
            bounds = [(start - len(space), end - len(space)) for start, end in encoding.offsets or ()]
            spans += [(begin + max(0, start), begin + max(0, end)) for start, end in bounds]
            begin += len(word) + 1
    if not spans and tokenizer.num_specials() == 0:
        spans = [(0, 0)]  # the token that means nothing
    return Pieces(column, [text[start:end] for start, end in spans], spans)
