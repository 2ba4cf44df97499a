"""Beam search, also in groups that are kept apart (https://arxiv.org/abs/1610.02424)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.generation.options import GenerationOptions
from eir_seq.models.generation.processors import Processor
from eir_seq.models.generation.search import GenerationOutput, Trace
from eir_seq.models.generation.steps import Steps
from eir_seq.models.generation.stopping import Stopping

LOW = -1.0e9
"""Score of what must not be chosen while there is anything else."""


@dataclass
class Texts:
    """Several texts for each prompt: `ids` (batch, texts, length), their `scores` (batch, texts), and `rows`.

    `rows`: (batch, texts, new tokens) the beam that each token continued, -1 after the end. `whole`: (batch, texts)
    bool, which of them have come to their end.
    """

    ids: Tensor
    scores: Tensor
    rows: Tensor
    whole: Tensor

    def pick(self, places: Tensor) -> Texts:
        """The texts at `places` (batch, n)."""
        return Texts(*(_at(x, places) for x in (self.ids, self.scores, self.rows, self.whole)))

    def joined(self, others: Texts) -> Texts:
        """These and others, of the same length."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Texts(*(torch.cat(pair, 1) for pair in pairs))

    def padded(self, padding: int) -> Texts:
        """The same, one place longer."""
        return Texts(
            F.pad(self.ids, (0, 1), value=padding), self.scores, F.pad(self.rows, (0, 1), value=-1), self.whole
        )


def _at(x: Tensor, places: Tensor) -> Tensor:
    index = places.view(*places.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


class Group:
    """Beams that compete with each other: those that run, and the best that have ended.

    `first`: the number of its first beam. `better`: (batch, 1) bool, whether a running text may still beat an ended
    one. `over`: whether that is so for none.
    """

    def __init__(self, ids: Tensor, first: int, max_length: int, options: GenerationOptions) -> None:
        self.options, self.first, self.prompt, self.max_length = options, first, ids.shape[1], max_length
        self.count = options.num_beams // options.num_beam_groups
        beams = ids[:, None].expand(-1, self.count, -1)
        low = torch.full(beams.shape[:2], LOW, device=ids.device)
        nothing = torch.zeros_like(low, dtype=torch.bool)
        self.ended = Texts(beams, low, beams[..., :0], nothing)
        self.running = Texts(
            beams, low.index_fill(1, torch.tensor([0], device=ids.device), 0.0), beams[..., :0], nothing
        )
        self.better = torch.ones(len(ids), 1, dtype=torch.bool, device=ids.device)
        self.over = False

    @property
    def finished(self) -> Tensor:
        """(batch, 1) bool: nothing can change any more."""
        return ~self.better | (self.ended.whole.all(-1, keepdim=True) & (self.options.early_stopping is True))

    def advance(self, scores: Tensor, stopping: Stopping, generator: torch.Generator | None) -> Tensor:
        """Scores (batch, beams, vocabulary) of the next token -> (batch, beams) beams that now run on."""
        batch, _, vocabulary = scores.shape
        totals = (scores + self.running.scores[..., None]).flatten(1)
        wanted = min(max(2, 1 + len(self.options.ends)) * self.count, totals.shape[1])
        if self.options.do_sample:
            chosen = torch.multinomial(totals.softmax(-1), wanted, generator=generator)
            best = totals.gather(1, chosen)
        else:
            best, chosen = totals.topk(wanted)
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        rows = parents + self.first + torch.arange(batch, device=parents.device)[:, None] * self.options.num_beams
        before = self.running.pick(parents)
        ids = torch.cat((before.ids, tokens[..., None]), -1)
        ends = stopping(ids.flatten(0, 1)).view(batch, wanted)
        candidates = Texts(ids, best + ends * LOW, torch.cat((before.rows, rows[..., None]), -1), ends)

        going = torch.where(ends.all(1, keepdim=True), best, candidates.scores).topk(self.count).indices
        self._end(candidates, best)
        self.running = candidates.pick(going)
        self._look_ahead()
        self.over = bool(ends.all() | self.finished.all())
        return parents.gather(1, going)

    def _end(self, candidates: Texts, best: Tensor) -> None:
        """Texts that end among the best, as many as there are beams, beat the worst that have ended before."""
        length = candidates.ids.shape[-1] - self.prompt
        among_best = torch.arange(best.shape[1], device=best.device) < self.count
        whole = candidates.whole & among_best & ~self.finished
        scores = (best / length**self.options.length_penalty).masked_fill(~whole, LOW)
        found = self.ended.padded(self.options.padding).joined(Texts(candidates.ids, scores, candidates.rows, whole))
        self.ended = found.pick(found.scores.topk(self.count).indices)

    def _look_ahead(self) -> None:
        """Whether the best running text could beat the worst ended one, by its length now or by the longest."""
        penalty, length = self.options.length_penalty, self.running.ids.shape[-1]
        if self.options.early_stopping == "never" and penalty > 0:
            length = self.max_length
        best = self.running.scores[:, :1] / (length - self.prompt) ** penalty
        worst = torch.where(self.ended.whole, self.ended.scores.amin(1, keepdim=True), LOW)
        self.better &= (best > worst).any(-1, keepdim=True)


def beam_search(
    steps: Steps,
    ids: Tensor,
    processors: list[Processor],
    stopping: Stopping,
    options: GenerationOptions,
    generator: torch.Generator | None,
    trace: Trace,
) -> GenerationOutput:
    """The best continuations of texts (batch, length).

    The first pass reads each prompt once; beams diverge after it.
    """
    beams, batch = options.num_beams, len(ids)
    size = beams // options.num_beam_groups
    groups = [Group(ids, first, stopping.max_length, options) for first in range(0, beams, size)]
    offsets = torch.arange(batch, device=ids.device)[:, None] * beams
    logits = steps.scores(ids).repeat_interleave(beams, 0)
    steps.repeat(beams, batch, beams=True)
    while True:
        running = torch.cat([group.running.ids for group in groups], 1)
        probabilities = logits.log_softmax(-1)
        changed = probabilities.clone()
        parents: list[Tensor] = []
        chosen = torch.zeros(batch, logits.shape[-1], device=logits.device)
        for group in groups:
            own = (slice(None), slice(group.first, group.first + size))
            scores = probabilities.unflatten(0, (batch, beams))[own]
            if parents:
                scores = scores - options.diversity_penalty * chosen[:, None]
            flat = scores.flatten(0, 1)
            for process in processors:
                flat = process(running[own].flatten(0, 1), flat)
            scores = flat.unflatten(0, (batch, size))
            changed.unflatten(0, (batch, beams))[own] = scores
            finished = group.finished
            parents.append(group.advance(scores, stopping, generator) + group.first)
            tokens = group.running.ids[..., -1].masked_fill(finished, options.padding)
            chosen.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=chosen.dtype))
        trace.note(logits, changed)
        if all(group.over for group in groups):
            break
        steps.reorder((torch.cat(parents, 1) + offsets).flatten())
        logits = steps.scores(torch.cat([group.running.ids for group in groups], 1).flatten(0, 1))
    return _output([group.ended for group in groups], ids.shape[1], options, trace)


def _output(groups: list[Texts], prompt: int, options: GenerationOptions, trace: Trace) -> GenerationOutput:
    found = groups[0]
    for group in groups[1:]:
        found = found.joined(group)
    found = found.pick(found.scores.topk(options.num_return_sequences).indices)
    longest = int((found.rows >= 0).sum(-1).max())
    return GenerationOutput(
        found.ids[..., : prompt + longest].flatten(0, 1),
        *trace.fields(),
        sequences_scores=found.scores.flatten() if options.output_scores else None,
        beam_indices=found.rows[..., :longest].flatten(0, 1),
    )
