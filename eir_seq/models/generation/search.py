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
    ended = torch.zeros(len(ids) * options.num_return_sequences, dtype=torch.bool, device=ids.device)
    while not bool(ended.all()):
        logits = steps.scores(ids)
        if len(logits) < len(ended):
            steps.repeat(options.num_return_sequences, len(logits))
            ids, logits = (x.repeat_interleave(options.num_return_sequences, 0) for x in (ids, logits))
        scores = logits
        for process in processors:
            scores = process(ids, scores)
        trace.note(logits, scores)
        if options.do_sample:
            new = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        else:
            new = scores.argmax(-1, keepdim=True)
        ids = torch.cat((ids, new.masked_fill(ended[:, None], options.padding)), 1)
        yield ids
        ended = ended | stopping(ids)
