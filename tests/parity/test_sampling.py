"""Drawn tokens have the chances that the reference's cuts leave them: Pearson's test on 20,000 texts of one seed.

A right sampler fails a test of one seed with a chance of `SIGNIFICANCE`; the seed is fixed, so it passes always.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.cases import CASES
from tests.parity.harness import Pair, pair, transformers

TEXTS, SIGNIFICANCE, LEAST_EXPECTED = 20_000, 1e-3, 5.0
PROMPT = torch.tensor([[15, 22, 31, 60]])
CUTS: dict[str, dict[str, Any]] = {
    "all": {"top_k": 0},
    "temperature": {"top_k": 0, "temperature": 0.6},
    "top_k": {"top_k": 7},
    "top_p": {"top_k": 0, "top_p": 0.7},
    "min_p": {"top_k": 0, "min_p": 0.2},
    "typical_p": {"top_k": 0, "typical_p": 0.5},
    "documented default": {},
    "several": {"top_k": 30, "temperature": 1.4, "top_p": 0.9, "repetition_penalty": 1.3},
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.name == "gpt2")
    return pair(case, "causal-lm", tmp_path_factory.mktemp("gpt2"))


@torch.no_grad()
def chances(both: Pair, ids: Tensor, options: dict[str, Any]) -> Tensor:
    """(vocabulary,) by the reference's model and processors."""
    config = transformers.GenerationConfig(do_sample=True, **options)
    processors = both.reference._get_logits_processor(config, ids.shape[1], ids, device="cpu")
    scores: Tensor = processors(ids, both.reference(ids).logits[:, -1].float())
    return scores.softmax(-1)[0]


def p_value(counts: Tensor, expected: Tensor) -> float:
    """The chance of counts at least as far from the expected ones; rare outcomes are put together."""
    rare = expected < LEAST_EXPECTED
    observed = torch.cat((counts[~rare], counts[rare].sum()[None]))
    expected = torch.cat((expected[~rare], expected[rare].sum()[None]))
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = ((observed - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(observed) - 1) / 2), statistic.float() / 2))


def drawn(both: Pair, tokens: int, **options: Any) -> Tensor:
    texts = both.ours.generate(
        PROMPT, do_sample=True, max_new_tokens=tokens, num_return_sequences=TEXTS, seed=5, eos_token_id=[119], **options
    )
    assert isinstance(texts, Tensor)
    return texts[:, PROMPT.shape[1] :]


@pytest.mark.parametrize("name", CUTS)
def test_one_token(name: str, both: Pair) -> None:
    expected = chances(both, PROMPT, CUTS[name])
    counts = drawn(both, 1, **CUTS[name])[:, 0].bincount(minlength=len(expected)).double()
    assert not counts[expected == 0].any()
    assert p_value(counts, expected.double() * TEXTS) > SIGNIFICANCE


def test_the_test_sees_another_temperature(both: Pair) -> None:
    expected = chances(both, PROMPT, {"top_k": 0, "temperature": 1.1})
    counts = drawn(both, 1, top_k=0)[:, 0].bincount(minlength=len(expected)).double()
    assert p_value(counts, expected.double() * TEXTS) < SIGNIFICANCE


def test_two_tokens(both: Pair) -> None:
    """The second one is drawn by what the first one makes of the text: (first, second) together."""
    options = {"top_k": 4}
    first = chances(both, PROMPT, options)
    joint = {}
    for token in first.nonzero()[:, 0].tolist():
        second = chances(both, torch.cat((PROMPT, torch.tensor([[token]])), 1), options)
        joint |= {(token, other): float(first[token] * second[other]) for other in second.nonzero()[:, 0].tolist()}
    counts = Counter(map(tuple, drawn(both, 2, **options).tolist()))
    assert counts.keys() <= joint.keys()
    observed = torch.tensor([float(counts[pair]) for pair in joint])
    assert p_value(observed, torch.tensor(list(joint.values())) * TEXTS) > SIGNIFICANCE


def test_rows_of_a_batch_are_drawn_independently(both: Pair) -> None:
    """Two equal prompts: their tokens together have the product of their chances."""
    options = {"top_k": 3}
    expected = chances(both, PROMPT, options)
    kept = expected.nonzero()[:, 0]
    texts = both.ours.generate(
        PROMPT.repeat(2, 1), do_sample=True, max_new_tokens=1, num_return_sequences=TEXTS // 2, seed=1, **options
    )
    assert isinstance(texts, Tensor)
    one, two = texts[:, -1].chunk(2)
    observed = torch.stack([((one == a) & (two == b)).sum() for a in kept for b in kept]).double()
    product = (expected[kept][:, None] * expected[kept]).flatten().double() * (TEXTS // 2)
    assert p_value(observed, product) > SIGNIFICANCE
