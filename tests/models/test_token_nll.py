"""The cross-entropy in chunks: the same values and gradients, without the scores of all tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eir_seq.models.catalogue import CATALOGUE
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.linear_nll import Factors, linear_nll
from eir_seq.models.heads.token_nll import token_nll, token_nll_and_hits
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from tests.models.tiny import noisy, tiny

TOKENS, HIDDEN, VOCABULARY = 37, 16, 101
TASKS = ("seq2seq-lm", "masked-lm", "causal-lm")
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


ALIKE, DIFFERENT = torch.full((TOKENS,), 0.3), torch.linspace(0.5, 2.0, TOKENS)
"""Gradients of the losses of tokens: those of a mean, and of losses that do not count alike."""


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk", [1, 5, TOKENS, 1000])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("weights", [ALIKE, DIFFERENT], ids=["alike", "different"])
def test_values_and_gradients_are_those_of_all_scores_at_once(
    name: str, chunk: int, fused: bool, weights: Tensor
) -> None:
    found = []
    for whole in (True, False):
        head, (states, labels) = head_of(**HEADS[name]), states_and_labels()
        if whole:
            nll = F.cross_entropy(head.scores(states), labels, reduction="none")
        else:
            factors = head.factors if fused else None
            nll = token_nll(states, labels, head.scores, factors=factors, most=chunk * VOCABULARY)
        (nll * weights).sum().backward()
        found.append([nll.detach(), states.grad, *(parameter.grad for parameter in head.parameters())])
    for expected, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, expected, atol=1e-5, rtol=1e-5)


def test_a_table_shared_with_the_embeddings_gets_both_gradients() -> None:
    found = []
    for most in (10**9, 3 * VOCABULARY):
        table = torch.nn.Parameter(torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(2)))
        _, labels = states_and_labels()
        for factors in (None, lambda x, table=table: Factors(x, table, None)):
            table.grad = None
            states = table[labels.roll(1)]
            nll = token_nll(states, labels, lambda x, table=table: x @ table.T, factors=factors, most=most)
            nll.mean().backward()
            found.append(table.grad)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_the_scores_of_all_tokens_are_never_held(grad: bool, fused: bool) -> None:
    tokens, most = 400, 4 * VOCABULARY
    head, (states, labels) = head_of(bias=True), states_and_labels(tokens)
    with Largest() as largest, torch.set_grad_enabled(grad):
        factors = head.factors if fused else None
        loss = token_nll(states, labels, head.scores, factors=factors, most=most).mean()
        if grad:
            loss.backward()
    assert largest.elements <= tokens * HIDDEN < tokens * VOCABULARY / 4
    with Largest() as largest:
        F.cross_entropy(head.scores(states), labels)
    assert largest.elements == tokens * VOCABULARY, "the measure sees scores where there are some"


@pytest.mark.parametrize("fused", [True, False])
def test_what_backward_needs_is_not_the_scores_either(fused: bool) -> None:
    kept: list[int] = []
    head, (states, labels) = head_of(), states_and_labels(400)
    factors = head.factors if fused else None
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        token_nll(states, labels, head.scores, factors=factors, most=4 * VOCABULARY)
    assert sum(kept) < 400 * VOCABULARY / 4


def test_no_token_at_all() -> None:
    states, labels = states_and_labels(0)
    assert token_nll(states, labels, head_of().scores).shape == (0,)


@pytest.mark.parametrize("weights", [ALIKE, DIFFERENT], ids=["alike", "different"])
def test_smoothed_labels(weights: Tensor) -> None:
    found = []
    for fused in (True, False):
        head, (states, labels) = head_of(bias=True), states_and_labels()
        factors = head.factors if fused else None
        nll = token_nll(states, labels, head.scores, factors=factors, label_smoothing=0.2, most=5 * VOCABULARY)
        (nll * weights).sum().backward()
        found.append([nll.detach(), states.grad, *(parameter.grad for parameter in head.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_hits() -> None:
    head, (states, labels) = head_of(), states_and_labels()
    best = head.scores(states).argmax(dim=-1)
    labels = torch.where(torch.arange(TOKENS) % 3 == 0, best, labels)
    for factors in (None, head.factors):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                _, right = token_nll_and_hits(states, labels, head.scores, factors=factors, most=5 * VOCABULARY)
            assert torch.equal(right, labels == best)
            assert not right.requires_grad


@pytest.mark.parametrize("alike", [True, False])
def test_a_second_pass_through_the_graph_gives_the_same(alike: bool) -> None:
    """Some weightings of losses ask for gradients before the step does."""
    head, (states, labels) = head_of(bias=True), states_and_labels()
    factors = head.factors(states)
    assert factors is not None
    nll, _ = linear_nll(factors, labels, chunk=5, alike=alike)
    wanted = [states, *head.parameters()]
    first = [each.clone() for each in torch.autograd.grad(nll.mean(), wanted, retain_graph=True)]
    second = torch.autograd.grad(3 * nll.mean(), wanted, retain_graph=True)
    third = torch.autograd.grad(nll.mean(), wanted)
    for a, b, c in zip(first, second, third, strict=True):
        torch.testing.assert_close(b, 3 * a, atol=1e-7, rtol=1e-5)
        torch.testing.assert_close(c, a, atol=1e-7, rtol=1e-5)


def test_losses_that_do_not_count_alike_cost_no_gradient_before_the_backward_pass() -> None:
    calls: list[int] = []
    head, (states, labels) = head_of(), states_and_labels()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.mm.default:
                calls.append(1)
            return func(*args, **(kwargs or {}))

    for alike, expected in ((True, 3), (False, 1)):
        calls.clear()
        with Products():
            token_nll(states, labels, head.scores, factors=head.factors, alike=alike)
        assert len(calls) == expected


def test_only_gradients_that_are_needed() -> None:
    head, (states, labels) = head_of(bias=True), states_and_labels()
    head.requires_grad_(False)
    token_nll(states, labels, head.scores, factors=head.factors).mean().backward()
    assert states.grad is not None
    assert all(parameter.grad is None for parameter in head.parameters())
    head.requires_grad_(True)
    token_nll(states.detach(), labels, head.scores, factors=head.factors).mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_autocast() -> None:
    found = []
    for fused in (True, False):
        head, (states, labels) = head_of(bias=True), states_and_labels()
        with torch.autocast("cpu", torch.bfloat16):
            factors = head.factors if fused else None
            nll = token_nll(states, labels, head.scores, factors=factors, most=5 * VOCABULARY)
        assert nll.dtype is torch.float32
        nll.mean().backward()
        found.append([nll.detach(), states.grad, *(parameter.grad for parameter in head.parameters())])
    for one, other in zip(*found, strict=True):
        assert one.dtype is other.dtype
        # products in bfloat16 have eight bits
        torch.testing.assert_close(one, other, atol=2e-2 * float(other.abs().max()), rtol=2e-2)


def test_double_precision() -> None:
    head, (states, labels) = head_of(bias=True).double(), states_and_labels()
    wide = states.detach().double().requires_grad_()
    parameters = [*head.parameters()]
    torch.autograd.gradcheck(
        lambda x, *_: token_nll(x, labels, head.scores, factors=head.factors, most=9 * VOCABULARY).mean(),
        (wide, *parameters),
        fast_mode=True,
        nondet_tol=1e-12,  # the first pass multiplies gradients, the second one losses
    )


def test_scores_that_are_more_than_a_product_have_no_factors() -> None:
    class Bounded(LanguageModel):
        def scores(self, x: Tensor) -> Tensor:
            return super().scores(x).tanh()

    states, _ = states_and_labels()
    options = {"predicts": "next", "hidden_size": HIDDEN, "vocab_size": VOCABULARY, "tied": False}
    assert Bounded(LanguageModel.Config(**options)).factors(states) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("model_type", ["bart", "luke", "t5gemma", "mobilebert", "t5", "bert", "gpt2", "cohere"])
def test_factors_make_the_scores(model_type: str) -> None:
    model = tiny(model_type, next(task for task in CATALOGUE[model_type].tasks if task in TASKS))
    head: Any = noisy(model).head
    for buffer in head.buffers():
        torch.nn.init.normal_(buffer)
    states = torch.randn(3, model.hidden_size)
    found = head.factors(states)
    if found is None:
        assert model_type in ("t5gemma", "mobilebert")
    else:
        torch.testing.assert_close(F.linear(*found), head.scores(states), atol=1e-5, rtol=1e-5)
