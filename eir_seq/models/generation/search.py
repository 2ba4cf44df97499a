"""One token after the other: the most likely, or one that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eir_seq.models.generation.options import GenerationOptions
from eir_seq.models.generation.processors import Processor
from eir_seq.models.generation.steps import Steps
from eir_seq.models.generation.stopping import Stopping

LEAST_ROOM = 64
"""Tokens that texts make room for when they grow."""


@dataclass
class GenerationOutput:
    """What `generate` returns on request, under transformers' names.

    Attributes:
        sequences: (batch * num_return_sequences, length) tokens, those of the prompt first.
        scores, logits: per step (rows, vocabulary), changed and as the model gave them, if requested.
        sequences_scores: (batch * num_return_sequences,) scores of beams, if requested.
        beam_indices: (batch * num_return_sequences, new tokens) rows of `scores` that a text's tokens were taken from,
            -1 after its end; of beam search.
    """

    sequences: Tensor
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    sequences_scores: Tensor | None = None
    beam_indices: Tensor | None = None


@dataclass
class Trace:
    """The scores of every step, as far as they are wanted."""

    options: GenerationOptions
    scores: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def note(self, logits: Tensor, scores: Tensor) -> None:
        """Keep what is wanted of a step."""
        if self.options.output_logits:
            self.logits.append(logits)
        if self.options.output_scores:
            self.scores.append(scores)

    def fields(self) -> tuple[tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """`scores` and `logits` of the output."""
        o = self.options
        return tuple(self.scores) if o.output_scores else None, tuple(self.logits) if o.output_logits else None


def search(
    steps: Steps,
    ids: Tensor,
    processors: list[Processor],
    stopping: Stopping,
    options: GenerationOptions,
    generator: torch.Generator | None,
    trace: Trace,
) -> Iterator[Tensor]:
    """Texts (rows, length) with one more token at each turn; after its end a text is padded.

    The first pass reads each prompt once, however many texts it begins.
    """
    count, padding = options.num_return_sequences, options.padding
    ended = [False] * (len(ids) * count)
    texts: _Texts | None = None
    while not all(ended):
        logits = steps.scores(ids)
        if texts is None:
            if count > 1:
                steps.repeat(count, len(logits))
                ids, logits = (x.repeat_interleave(count, 0) for x in (ids, logits))
            texts = _Texts(ids, stopping.max_length)
        scores = logits
        for process in processors:
            scores = process(ids, scores)
        trace.note(logits, scores)
        if options.do_sample:
            new = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        else:
            new = most_likely(scores)
        tokens: list[int] = new[:, 0].tolist()
        if any(ended):
            tokens = [padding if end else token for end, token in zip(ended, tokens, strict=True)]
            new = new.new_tensor(tokens)[:, None]
        ids = texts.append(new)
        yield ids
        ended = [end or now for end, now in zip(ended, stopping.of_tokens(tokens, ids), strict=True)]


def most_likely(scores: Tensor) -> Tensor:
    """Scores (rows, vocabulary) -> (rows, 1) the first of the highest ones."""
    if scores.device.type == "cpu" and scores.dtype is torch.float32:  # numpy's search takes a tenth of torch's time
        return torch.from_numpy(scores.numpy().argmax(-1, keepdims=True))
    return scores.argmax(-1, keepdim=True)


class _Texts:
    """Tokens (rows, length) that grow in place."""

    def __init__(self, ids: Tensor, longest: int) -> None:
        self.length, self.longest = ids.shape[1], longest
        self.memory = ids

    def append(self, new: Tensor) -> Tensor:
        """Tokens with those of a step (rows, 1) after them."""
        if self.length == self.memory.shape[1]:
            room = min(self.longest, 2 * self.length + LEAST_ROOM)
            memory = self.memory.new_empty(len(self.memory), max(room, self.length + 1))
            memory[:, : self.length] = self.memory
            self.memory = memory
        self.memory[:, self.length : self.length + 1] = new
        self.length += 1
        return self.memory[:, : self.length]
