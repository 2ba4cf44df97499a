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
BLOCK, MANY = 128, 2**16
"""Scores of a block of which the maximum is taken first, where there are that many."""


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

    def padded(self, padding: int, length: int) -> Texts:
        """The same texts with `length` places."""
        more = (0, length - self.ids.shape[-1])
        return Texts(F.pad(self.ids, more, value=padding), self.scores, F.pad(self.rows, more, value=-1), self.whole)


def _at(x: Tensor, places: Tensor) -> Tensor:
    index = places.view(*places.shape, *(1,) * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, index)


class Group:
    """Beams that compete with each other: those that run, and the best that have ended.

    `first`: the number of its first beam. `any_ended`: whether some text has come to its end.
    `better`: (batch, 1) bool, whether a running text may still beat an ended one. `over`: whether that is so for none.
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
        self.offsets = torch.arange(len(ids), device=ids.device)[:, None] * options.num_beams
        self.any_ended = self.over = False

    @property
    def finished(self) -> Tensor:
        """(batch, 1) bool: nothing can change any more."""
        return ~self.better | (self.ended.whole.all(-1, keepdim=True) & (self.options.early_stopping is True))

    def advance(self, scores: Tensor, stopping: Stopping, generator: torch.Generator | None) -> Tensor:
        """Scores (batch, beams, vocabulary) of the next token -> (batch, beams) beams that now run on."""
        batch, _, vocabulary = scores.shape
        wanted = min(max(2, 1 + len(self.options.ends)) * self.count, scores[0].numel())
        if self.options.do_sample:
            totals = (scores + self.running.scores[..., None]).flatten(1)
            chosen = torch.multinomial(totals.softmax(-1), wanted, generator=generator)
            best = totals.gather(1, chosen)
        else:
            best, chosen = highest(scores, self.running.scores, wanted)
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        spelled = self.running.ids.gather(1, parents[..., None].expand(-1, -1, self.running.ids.shape[2]))
        ids = torch.cat((spelled, tokens[..., None]), -1)
        ends = stopping.of_tokens(tokens.flatten().tolist(), ids.flatten(0, 1))
        if not any(ends) and not self.options.do_sample and not _tied(best):
            return self._go_on(parents, ids, best)
        return self._decide(parents, ids, best, torch.tensor(ends, device=ids.device).view(batch, wanted))

    def _go_on(self, parents: Tensor, ids: Tensor, best: Tensor) -> Tensor:
        """Where nothing ends, the best run on, which are the first."""
        parents, ids, best = (x[:, : self.count] for x in (parents, ids, best))
        self.running = Texts(ids, best, self._rows(parents), self.running.whole)
        if self.any_ended or not bool((best[:, 0] > LOW).all()):
            self._look_ahead()
            self.over = bool(self.finished.all())
        return parents

    def _rows(self, parents: Tensor) -> Tensor:
        """(batch, n, new tokens) the beams that each text of a step has continued."""
        own = (parents + (self.offsets + self.first))[..., None]
        return torch.cat((_at(self.running.rows, parents), own), -1)

    def _decide(self, parents: Tensor, ids: Tensor, best: Tensor, ends: Tensor) -> Tensor:
        """Of all candidates, ended ones (`ends`) may join those that have ended, and others run on."""
        candidates = Texts(ids, best + ends * LOW, self._rows(parents), ends)
        going = torch.where(ends.all(1, keepdim=True), best, candidates.scores).topk(self.count).indices
        self._end(candidates, best)
        self.any_ended = True
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
        found = self.ended.padded(self.options.padding, candidates.ids.shape[-1]).joined(
            Texts(candidates.ids, scores, candidates.rows, whole)
        )
        self.ended = found.pick(found.scores.topk(self.count).indices)

    def _look_ahead(self) -> None:
        """Whether the best running text could beat the worst ended one, by its length now or by the longest."""
        penalty, length = self.options.length_penalty, self.running.ids.shape[-1]
        if self.options.early_stopping == "never" and penalty > 0:
            length = self.max_length
        best = self.running.scores[:, :1] / (length - self.prompt) ** penalty
        worst = torch.where(self.ended.whole, self.ended.scores.amin(1, keepdim=True), LOW)
        self.better &= (best > worst).any(-1, keepdim=True)


def highest(scores: Tensor, before: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest sums of scores (batch, beams, vocabulary) and those of the beams (batch, beams).

    On a CPU a maximum of many numbers is found faster than their order. So of many scores, the highest ones are looked
    for in the blocks with the highest maxima only, as many as are wanted.

    Returns:
        `count` sums, falling, and their places in (beams * vocabulary), (batch, count) each.
    """
    if scores.device.type == "cpu" and scores.numel() >= MANY and count < scores.shape[2] // BLOCK:
        sums, places = _highest_of_blocks(scores, before, count + 1)
        if not _tied(sums):  # else the order is that of torch, as in the reference implementation
            return sums[:, :count], places[:, :count]
    sums, places = (scores + before[..., None]).flatten(1).topk(count)
    return sums, places


def _tied(falling: Tensor) -> bool:
    return bool((falling[:, 1:] == falling[:, :-1]).any())


def _highest_of_blocks(scores: Tensor, before: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """See `highest`."""
    size, count_of_blocks = scores.shape[2], -(-scores.shape[2] // BLOCK)
    whole = size // BLOCK * BLOCK
    maxima = scores[..., :whole].unflatten(2, (-1, BLOCK)).amax(-1)
    if whole < size:
        maxima = torch.cat((maxima, scores[..., whole:].amax(-1, keepdim=True)), -1)
    blocks = (maxima + before[..., None]).flatten(1).topk(count).indices
    beams, tokens = blocks // count_of_blocks, (blocks % count_of_blocks * BLOCK)[..., None] + torch.arange(BLOCK)
    places = (beams[..., None] * size + tokens.clamp(max=size - 1)).flatten(1)
    sums = scores.flatten(1).gather(1, places).view(tokens.shape) + before.gather(1, beams)[..., None]
    sums, order = sums.masked_fill(tokens >= size, -torch.inf).flatten(1).topk(count)
    return sums, places.gather(1, order)


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
    logits = steps.scores(ids).repeat_interleave(beams, 0)
    steps.repeat(beams, batch, beams=True)
    while True:
        running = _side_by_side([group.running.ids for group in groups])
        probabilities = logits.log_softmax(-1)
        changed: list[Tensor] = []
        parents: list[Tensor] = []
        chosen = torch.zeros(batch, logits.shape[-1], device=logits.device) if len(groups) > 1 else None
        for group in groups:
            own = (slice(None), slice(group.first, group.first + size))
            scores = probabilities.unflatten(0, (batch, beams))[own]
            if parents and chosen is not None:
                scores = scores - options.diversity_penalty * chosen[:, None]
            flat = scores.flatten(0, 1)
            for process in processors:
                flat = process(running[own].flatten(0, 1), flat)
            scores = flat.unflatten(0, (batch, size))
            changed.append(scores)
            finished = group.finished
            parents.append(group.advance(scores, stopping, generator) + group.first)
            if chosen is not None:
                tokens = group.running.ids[..., -1].masked_fill(finished, options.padding)
                chosen.scatter_add_(1, tokens, torch.ones_like(tokens, dtype=chosen.dtype))
        if options.output_scores or options.output_logits:
            trace.note(logits, torch.cat(changed, 1).flatten(0, 1))
        if all(group.over for group in groups):
            break
        steps.reorder((_side_by_side(parents) + groups[0].offsets).flatten())
        logits = steps.scores(_side_by_side([group.running.ids for group in groups]).flatten(0, 1))
    return _output([group.ended for group in groups], ids.shape[1], options, trace)


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors, 1) if len(tensors) > 1 else tensors[0]


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
