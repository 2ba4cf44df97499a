"""What changes the scores of the next token: penalties, bans, forced tokens, and the cuts of sampling.

A processor takes the tokens of the texts so far (rows, length) and the scores of the next one (rows, vocabulary), and
gives new scores; it never writes into those that it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.generation.options import GenerationOptions

Processor = Callable[[Tensor, Tensor], Tensor]
NEVER = -math.inf
PADDING = -1
"""Stands for padding, which is no token of a text."""


def processors_of(
    options: GenerationOptions,
    *,
    source: Tensor | None,
    real: Tensor | None = None,
    prompt_length: int,
    max_length: int,
    own: Sequence[Processor] = (),
) -> list[Processor]:
    """The processors that the options ask for, in the order in which they run.

    Args:
        source: (batch, length) tokens of the encoder, or of the prompt, `marked`; None if they are not known.
        real: (batch, length) mask of the prompt: its padding is no text to repeat. None if all of it is real.
        prompt_length, max_length: of the texts as the processors see them.
        own: processors of the caller, between the penalties and the cuts of sampling.
    """
    o, ends = options, options.ends
    found: list[Processor] = []
    biased = [(run, float(bias)) for run, bias in o.sequence_bias or []]
    biased += [(run, NEVER) for run in o.bad_words_ids or [] if not (len(run) == 1 and run[0] in ends)]
    least = max(o.min_length, prompt_length + (o.min_new_tokens or 0))
    if o.sequence_bias:
        found.append(partial(bias_runs, runs=biased[: len(o.sequence_bias)]))
    if o.encoder_repetition_penalty != 1.0 and source is not None:
        found.append(partial(penalize_tokens, text=source, penalty=1 / o.encoder_repetition_penalty))
    if o.repetition_penalty != 1.0:
        found.append(partial(penalize_tokens, real=real, penalty=o.repetition_penalty))
    if o.no_repeat_ngram_size:
        found.append(partial(ban_ngrams, real=real, size=o.no_repeat_ngram_size))
    if o.encoder_no_repeat_ngram_size and source is not None:
        found.append(partial(ban_ngrams, text=source, size=o.encoder_no_repeat_ngram_size))
    if o.bad_words_ids:
        found.append(partial(bias_runs, runs=biased[len(o.sequence_bias or []) :]))
    if ends and least > prompt_length:
        found.append(lambda ids, scores: ban(scores, ends) if ids.shape[1] < least else scores)
    if (first := o.forced_bos_token_id) is not None:
        found.append(lambda ids, scores: force(scores, [first]) if ids.shape[1] == 1 else scores)
    if o.forced_eos_token_id is not None:
        last = [o.forced_eos_token_id] if isinstance(o.forced_eos_token_id, int) else o.forced_eos_token_id
        found.append(lambda ids, scores: force(scores, last) if ids.shape[1] == max_length - 1 else scores)
    if o.remove_invalid_values:
        found.append(lambda _, scores: torch.nan_to_num(scores, nan=0.0))
    if o.exponential_decay_length_penalty:
        begin, factor = o.exponential_decay_length_penalty
        found.append(partial(favour_end, ends=ends, begin=int(begin) + prompt_length, factor=factor))
    if o.suppress_tokens:
        found.append(lambda _, scores: ban(scores, o.suppress_tokens or []))
    if o.begin_suppress_tokens:
        begin = prompt_length + (prompt_length <= 1 and o.forced_bos_token_id is not None)
        found.append(
            lambda ids, scores: ban(scores, o.begin_suppress_tokens or []) if ids.shape[1] == begin else scores
        )
    found += own
    if o.do_sample:
        found += _cuts(o)
    if o.renormalize_logits:
        found.append(lambda _, scores: scores.log_softmax(-1))
    return found


def _cuts(o: GenerationOptions) -> list[Processor]:
    """What leaves only some tokens to be drawn; beams keep one more than could end them all."""
    keep = max(2, len(o.ends) + 1) if o.num_beams > 1 else 1
    found: list[Processor] = []
    if o.temperature != 1.0:
        found.append(lambda _, scores: scores / o.temperature)
    if o.top_k:
        found.append(partial(keep_top_k, count=o.top_k, keep=keep))
    if o.top_p is not None and o.top_p < 1.0:
        found.append(partial(keep_top_p, mass=o.top_p, keep=keep))
    if o.min_p is not None:
        found.append(partial(keep_min_p, share=o.min_p, keep=keep))
    if o.typical_p is not None and o.typical_p < 1.0:
        found.append(partial(keep_typical, mass=o.typical_p, keep=keep))
    if o.epsilon_cutoff:
        found.append(partial(keep_above, chance=o.epsilon_cutoff, keep=keep))
    if o.eta_cutoff:
        found.append(partial(keep_above, chance=o.eta_cutoff, keep=keep, by_entropy=True))
    return found


# ------------------------------------------------------------------------------------------ bans and penalties


def ban(scores: Tensor, tokens: list[int]) -> Tensor:
    """Scores of which those of `tokens` make them impossible."""
    return scores.index_fill(1, _places(tuple(tokens), scores.device), NEVER)


def force(scores: Tensor, tokens: list[int]) -> Tensor:
    """Scores that leave nothing but `tokens`."""
    return torch.full_like(scores, NEVER).index_fill_(1, _places(tuple(tokens), scores.device), 0.0)


@lru_cache(maxsize=64)
def _places(tokens: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(tokens, device=device)


def penalize_tokens(
    ids: Tensor, scores: Tensor, *, penalty: float, text: Tensor | None = None, real: Tensor | None = None
) -> Tensor:
    """Make tokens of `text` (by default of the text so far) less likely (https://arxiv.org/abs/1909.05858, 4.1)."""
    text = marked(ids, real) if text is None else _for_rows(text, ids)
    wide = F.pad(scores, (0, 1))
    text = torch.where(text == PADDING, scores.shape[1], text)
    found = wide.gather(1, text)
    return wide.scatter(1, text, torch.where(found < 0, found * penalty, found / penalty))[:, :-1]


def ban_ngrams(
    ids: Tensor, scores: Tensor, *, size: int, text: Tensor | None = None, real: Tensor | None = None
) -> Tensor:
    """Ban tokens that would end the text by a run of `size` tokens that `text` (by default itself) holds."""
    text = marked(ids, real) if text is None else _for_rows(text, ids)
    if ids.shape[1] < size - 1 or text.shape[1] < size:
        return scores
    runs = text.unfold(1, size, 1)  # (rows, places, size)
    begun = ids[:, None, ids.shape[1] - size + 1 :]
    banned = (runs[..., :-1] == begun).all(-1) & (runs != PADDING).all(-1)
    found = torch.zeros_like(scores, dtype=torch.int8)
    found.scatter_reduce_(1, runs[..., -1].clamp(min=0), banned.to(torch.int8), "amax")
    return scores.masked_fill(found.bool(), NEVER)


def marked(ids: Tensor, real: Tensor | None) -> Tensor:
    """Tokens (rows, length) with `PADDING` where the mask (batch, length of the prompt) says so."""
    if real is None:
        return ids
    return ids.masked_fill(F.pad(_for_rows(real == 0, ids), (0, ids.shape[1] - real.shape[1])), PADDING)


def _for_rows(x: Tensor, ids: Tensor) -> Tensor:
    """(batch, ...) -> (rows, ...), where each text has several rows side by side."""
    return x.repeat_interleave(len(ids) // len(x), 0)


def bias_runs(ids: Tensor, scores: Tensor, *, runs: list[tuple[list[int], float]]) -> Tensor:
    """Add to the score of a run's last token where the text ends with its other tokens."""
    bias = torch.zeros_like(scores)
    for run, value in runs:
        before = len(run) - 1
        if before <= ids.shape[1]:
            stands = (ids[:, ids.shape[1] - before :] == torch.tensor(run[:-1], device=ids.device)).all(1)
            bias[:, run[-1]] += torch.where(stands, value, 0.0)
    return scores + bias


def favour_end(ids: Tensor, scores: Tensor, *, ends: list[int], begin: int, factor: float) -> Tensor:
    """Raise the scores of `ends`, where they are not banned, by a factor per token after place `begin`."""
    if (beyond := ids.shape[1] - begin) <= 0:
        return scores
    scores = scores.clone()
    end = scores[:, ends]
    scores[:, ends] = torch.where(end == NEVER, end, end + end.abs() * (factor**beyond - 1))
    return scores


# ----------------------------------------------------------------------------------------------------- the cuts


def keep_top_k(_: Tensor, scores: Tensor, *, count: int, keep: int) -> Tensor:
    """The `count` most likely tokens (https://arxiv.org/abs/1805.04833)."""
    least = scores.topk(min(max(count, keep), scores.shape[1])).values[:, -1:]
    return scores.masked_fill(scores < least, NEVER)


def keep_top_p(_: Tensor, scores: Tensor, *, mass: float, keep: int) -> Tensor:
    """The most likely tokens that together have the probability `mass` (https://arxiv.org/abs/1904.09751)."""
    rising, order = scores.sort()
    return _without(scores, order, rising.softmax(-1).cumsum(-1) <= 1 - mass, slice(-keep, None))


def keep_min_p(_: Tensor, scores: Tensor, *, share: float, keep: int) -> Tensor:
    """Tokens with at least this share of the highest probability (https://arxiv.org/abs/2407.01082)."""
    falling, order = scores.sort(descending=True)
    probabilities = falling.softmax(-1)
    return _without(scores, order, probabilities < share * probabilities[:, :1], slice(keep))


def keep_typical(_: Tensor, scores: Tensor, *, mass: float, keep: int) -> Tensor:
    """The tokens nearest to the expected surprise that together have `mass` (https://arxiv.org/abs/2202.00666)."""
    logs = scores.log_softmax(-1)
    expected = -(logs * logs.exp()).nansum(-1, keepdim=True)
    distance, order = (-logs - expected).abs().sort()
    probabilities = scores.gather(1, order).softmax(-1).cumsum(-1)
    last = (probabilities < mass).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    return _without(scores, order, distance > distance.gather(1, last), slice(keep))


def keep_above(_: Tensor, scores: Tensor, *, chance: float, keep: int, by_entropy: bool = False) -> Tensor:
    """Tokens above a probability, or above one that falls with the entropy (https://arxiv.org/abs/2210.15191)."""
    probabilities = scores.softmax(-1)
    least: Tensor | float = chance
    if by_entropy:
        entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
        least = (chance**0.5 * (-entropy).exp()).clamp(max=chance)
    best = scores.topk(min(keep, scores.shape[1])).values[:, -1:]
    return scores.masked_fill((probabilities < least) & (scores < best), NEVER)


def _without(scores: Tensor, order: Tensor, dropped: Tensor, kept: slice) -> Tensor:
    """Scores without the tokens dropped in a sorted `order`, of which those at `kept` places stay."""
    dropped[:, kept] = False
    return scores.masked_fill(dropped.scatter(1, order, dropped), NEVER)
