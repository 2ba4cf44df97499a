"""Texts that a decoder learns to write: their special tokens, and their ids as labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.errors import Fault, UserError
from eir_seq.models.heads.base import IGNORED
from eir_seq.tokenizers.framing import FIRST
from eir_seq.tokenizers.tokenizer import Tokenizer

Text = TypeVar("Text", NDArray[np.int32], list[int])


def encode_targets(tokenizer: Tokenizer, texts: Sequence[str | None], most: int, place: str) -> list[NDArray[np.int32]]:
    """What a decoder learns to write: the beginning of each text that fits, in its special tokens.

    All end with the token that ends a text, those that are cut too, and those that spell it themselves once.

    Args:
        tokenizer: of the texts.
        texts: the targets; None if there is none, which becomes no token.
        most: tokens of a target, special ones included.
        place: config path of the tokenizer.

    Raises:
        UserError: the tokenizer has no token that ends a text.
    """
    before, after = target_frame(tokenizer, place)
    end, room = target_end(tokenizer, place), most - len(before) - len(after)
    return [
        np.array([] if text is None else [*before, *without_end(encoding.ids, end)[:room], *after], np.int32)
        for text, encoding in zip(texts, tokenizer.encode_targets([text or "" for text in texts]), strict=True)
    ]


def padded_labels(targets: Sequence[NDArray[np.int32]]) -> Tensor:
    """Targets as labels, (rows, length), `IGNORED` after their ends."""
    labels = np.full((len(targets), max(1, *map(len, targets))), IGNORED, np.int64)
    for row, ids in enumerate(targets):
        labels[row, : len(ids)] = ids
    return torch.from_numpy(labels)


def target_end(tokenizer: Tokenizer, place: str) -> int:
    """The token that ends a written text; raises `UserError` at `place` if there is none."""
    end = next((i for i in (tokenizer.eos_id, tokenizer.sep_id) if i is not None), None)
    if end is None:
        raise UserError(Fault(place, "has no token that ends a text (eos or sep), which one that is written needs"))
    return end


def target_frame(tokenizer: Tokenizer, place: str) -> tuple[list[int], list[int]]:
    """The special tokens before and after a target; one that ends it is among the latter."""
    try:
        end, parts = target_end(tokenizer, place), [part.token for part in tokenizer.target_framing.single]
    except UserError as error:
        options = f"{place}.options"
        raise UserError(*(fault.under(options) if fault.place != place else fault for fault in error.faults)) from error
    before, after = parts[: parts.index(FIRST)], parts[parts.index(FIRST) + 1 :]
    return before, after if end in after else [*after, end]


def without_end(ids: Text, end: int) -> Text:
    """The ids of a text without end tokens that it spells at its end, where one is set anyway."""
    length = len(ids)
    while length and ids[length - 1] == end:
        length -= 1
    return ids[:length]
