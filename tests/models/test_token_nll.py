"""The cross-entropy in chunks: the same values and gradients, without the scores of all tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.token_nll import token_nll
from eir_seq.models.layers.norms.layer_norm import LayerNorm

TOKENS, HIDDEN, VOCABULARY = 37, 16, 101
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "multiplier": {"scale": 0.25},
    "bias": {"bias": True},
    "hidden layer and norm": {"dense": "gelu", "norm": LayerNorm.Config(eps=1e-5), "bias": True},
}


class Largest(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(made) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


def head_of(**options: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModel.Config(predicts="next", hidden_size=HIDDEN, vocab_size=VOCABULARY, tied=False, **options)
    head = config.build()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def states_and_labels(tokens: int = TOKENS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(tokens, HIDDEN, generator=generator, requires_grad=True)
    return states, torch.randint(VOCABULARY, (tokens,), generator=generator)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk", [1, 5, TOKENS, 1000])
def test_values_and_gradients_are_those_of_all_scores_at_once(name: str, chunk: int) -> None:
    weights = torch.linspace(0.5, 2.0, TOKENS)  # each token's loss has its own gradient
    found = []
    for whole in (True, False):
        head, (states, labels) = head_of(**HEADS[name]), states_and_labels()
        if whole:
            nll = F.cross_entropy(head.scores(states), labels, reduction="none")
        else:
            nll = token_nll(states, labels, head.scores, most=chunk * VOCABULARY)
        (nll * weights).sum().backward()
        found.append([nll.detach(), states.grad, *(parameter.grad for parameter in head.parameters())])
    for expected, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, expected, atol=1e-5, rtol=1e-5)


def test_a_table_shared_with_the_embeddings_gets_both_gradients() -> None:
    found = []
    for most in (10**9, 3 * VOCABULARY):
        table = torch.nn.Parameter(torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(2)))
        _, labels = states_and_labels()
        token_nll(table[labels.roll(1)], labels, lambda x, table=table: x @ table.T, most=most).mean().backward()
        found.append(table.grad)
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_the_scores_of_all_tokens_are_never_held(grad: bool) -> None:
    tokens, most = 400, 4 * VOCABULARY
    head, (states, labels) = head_of(bias=True), states_and_labels(tokens)
    with Largest() as largest, torch.set_grad_enabled(grad):
        loss = token_nll(states, labels, head.scores, most=most).mean()
        if grad:
            loss.backward()
    assert largest.elements <= tokens * HIDDEN < tokens * VOCABULARY / 4
    with Largest() as largest:
        F.cross_entropy(head.scores(states), labels)
    assert largest.elements == tokens * VOCABULARY, "the measure sees scores where there are some"


def test_what_backward_needs_is_not_the_scores_either() -> None:
    kept: list[int] = []
    head, (states, labels) = head_of(), states_and_labels(400)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        token_nll(states, labels, head.scores, most=4 * VOCABULARY)
    assert sum(kept) < 400 * VOCABULARY / 4


def test_no_token_at_all() -> None:
    states, labels = states_and_labels(0)
    assert token_nll(states, labels, head_of().scores).shape == (0,)
