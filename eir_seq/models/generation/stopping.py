"""When a text ends: a token, a string, its length, or the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

import torch
from torch import Tensor

TOKENS_PER_CHARACTER = 4
"""A character is spelled by at most this many tokens (the bytes of UTF-8)."""
LEEWAY = 8
"""Tokens also read: those without text, and a first one that some vocabularies spell otherwise."""


class Decodes(Protocol):
    """What turns tokens into text."""

    def decode(self, ids: list[int], /, *, skip_special_tokens: bool) -> str:
        """The text of token ids."""
        ...


@dataclass
class Stopping:
    """`ends`: end-of-text tokens; `strings`: texts that end a text, spelled by `tokenizer`; `max_time` in seconds."""

    max_length: int
    ends: list[int]
    strings: tuple[str, ...] = ()
    tokenizer: Decodes | None = None
    max_time: float | None = None
    _began: float = field(default_factory=time.monotonic)

    def __call__(self, ids: Tensor) -> Tensor:
        """Texts (rows, length) -> (rows,) bool: whether each ends with its last token."""
        return torch.tensor(self.of_tokens(ids[:, -1].tolist(), ids), device=ids.device)

    def of_tokens(self, tokens: list[int], ids: Tensor) -> list[bool]:
        """The same with the last tokens as numbers."""
        if ids.shape[1] >= self.max_length or (self.max_time is not None and self._passed() > self.max_time):
            return [True] * len(tokens)
        ended = [token in self.ends for token in tokens]
        if self.strings:
            found = map(self.ends_with_string, ids[:, -self._tail :].tolist())
            ended = [end or now for end, now in zip(ended, found, strict=True)]
        return ended

    @property
    def _tail(self) -> int:
        return TOKENS_PER_CHARACTER * max(map(len, self.strings)) + LEEWAY

    def _passed(self) -> float:
        return time.monotonic() - self._began

    def ends_with_string(self, ids: list[int]) -> bool:
        """Whether the last token completes a stop string, which may span several tokens or end within it."""
        assert self.tokenizer is not None
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        pairs = zip(text, self.tokenizer.decode(ids[:-1], skip_special_tokens=True), strict=False)
        before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return any(stop in text[max(0, before - len(stop) + 1) :] for stop in self.strings)
