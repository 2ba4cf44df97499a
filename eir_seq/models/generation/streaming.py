"""Tokens and text as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from torch import Tensor

from eir_seq.models.generation.stopping import Decodes

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoders give for the first bytes of a character."""


class Streamer(Protocol):
    """What receives tokens while they are generated."""

    def put(self, value: Tensor, /) -> None:
        """Tokens, on the CPU: first the prompt (batch, length), then (batch,) at each step."""
        ...

    def end(self) -> None:
        """There are no more."""
        ...


def pieces(tokens: Iterable[int], tokenizer: Decodes) -> Iterator[str]:
    """The text of one stream of tokens, piece by piece; a character is held back until all of its bytes are there."""
    ids: list[int] = []
    streamed = ""
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if text.startswith(streamed) and not text.endswith(UNFINISHED):
            if len(text) > len(streamed):
                yield text[len(streamed) :]
            streamed = text
    if ids and (rest := tokenizer.decode(ids, skip_special_tokens=True)[len(streamed) :]):
        yield rest
