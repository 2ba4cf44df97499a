"""From encoded rows of a sequence input to the tensors of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eir_seq.modalities.base import RowSource
from eir_seq.modalities.sequence.tensors import Places, TensorSource
from eir_seq.modalities.sequence.truncation import Numbers, Strategy, cut, shares, window
from eir_seq.randomness import Draw
from eir_seq.tokenizers.framing import FIRST, SECOND, Part

IDS, PAIR_IDS, WORDS, WORD_COUNT = "ids", "pair_ids", "words", "word_count"
"""Encoded columns: token ids of the text and of its pair, the number of each token's word, how many words there are."""


@dataclass(frozen=True)
class SequenceCollator:
    """Ids of some rows to padded tensors.

    `parts` are the special tokens and the places of the texts, `room` the tokens that are left for texts. `words`: the
    rows know their words; `sources` make further tensors.
    """

    name: str
    parts: tuple[Part, ...]
    room: int
    strategy: Strategy
    pad_id: int
    words: bool = False
    sources: tuple[TensorSource, ...] = ()

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, and `token_type_ids` where the format has types; ``(batch, length)``.

        Rows are padded on the right to the longest of the batch. The mask is True at tokens of the text. Where rows
        know their words, `word_ids` are the numbers of the tokens' words, -1 if there is none, and `word_counts`
        (batch,) say how many there are, those included that truncation leaves out.
        """
        first = encoded.sequences(IDS, rows)
        pair = any(part.token == SECOND for part in self.parts)
        second = encoded.sequences(PAIR_IDS, rows) if pair else [np.empty(0, np.int32)] * len(rows)
        pieces = [self._kept(row, len(a), len(b), draw) for row, a, b in zip(rows, first, second, strict=True)]
        specials = sum(part.token >= 0 for part in self.parts)
        lengths = [len(a) + len(b) + specials for a, b in pieces]
        input_ids = np.full((len(rows), max(lengths)), self.pad_id, np.int64)
        token_type_ids, origin = np.zeros_like(input_ids), np.full_like(input_ids, -1)
        in_pair = np.zeros(input_ids.shape, np.bool_)
        for index, (kept, pair_kept) in enumerate(pieces):
            position = 0
            for token, type_id in self.parts:
                piece: Any = (token,)
                if token == FIRST:
                    piece = first[index][kept]
                    origin[index, position : position + len(kept)] = kept
                elif token == SECOND:
                    piece = second[index][pair_kept]
                end = position + len(piece)
                in_pair[index, position:end] = token == SECOND
                input_ids[index, position:end] = piece
                token_type_ids[index, position:end] = type_id
                position = end
        mask = np.arange(input_ids.shape[1]) < np.asarray(lengths)[:, None]
        tensors = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}
        if any(part.type_id for part in self.parts):
            tensors["token_type_ids"] = torch.from_numpy(token_type_ids)
        if not self.words and not self.sources:
            return tensors
        word = np.full_like(origin, -1)
        if self.words:
            for index, words in enumerate(encoded.sequences(WORDS, rows)):
                known = origin[index] >= 0
                word[index, known] = words[origin[index, known]]
            tensors["word_ids"] = torch.from_numpy(word)
            tensors["word_counts"] = torch.from_numpy(
                np.concatenate(encoded.sequences(WORD_COUNT, rows)).astype(np.int64)
            )
        places = Places(input_ids, mask, origin, word, in_pair)
        for source in self.sources:
            tensors |= source.collate(encoded, rows, places)
        return tensors

    def _kept(self, row: int, length: int, pair_length: int, draw: Draw) -> tuple[Numbers, Numbers]:
        """The numbers of the tokens that stay of a text and of its pair."""
        keep, pair_keep = shares(length, pair_length, self.room)
        return self._part(row, length, keep, FIRST, draw), self._part(row, pair_length, pair_keep, SECOND, draw)

    def _part(self, row: int, length: int, keep: int, which: int, draw: Draw) -> Numbers:
        numbers: Numbers = np.arange(length, dtype=np.int64)
        if length <= keep:
            return numbers
        if self.strategy == "uniform" or (self.strategy == "random" and draw.epoch is not None):
            return window(numbers, keep, draw.below(length - keep + 1, self.name, row, which))
        return cut(numbers, keep, self.strategy)
