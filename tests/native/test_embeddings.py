"""Sums of token, segment and position vectors by the kernel, against plain lookups in double precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.models.families.prophetnet.architecture import LastRowPositions
from eir_seq.models.layers import embeddings as facade
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.positions.absolute import LearnedPositions
from tests.native.threads import assert_alike_with_all_numbers_of_threads

pytestmark = pytest.mark.usefixtures("kernels")
IDS = torch.tensor([[0, 3, 3, 1, 8], [2, 0, 7, 7, 7]])
SEGMENTS = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])
POSITIONS = torch.arange(5).expand(2, -1)
PLANS: list[dict[str, Any]] = [
    {"num_segments": 2, "padding_id": 0, "positions": LearnedPositions.Config(count=6, offset=2)},
    {"num_segments": 2, "positions": LastRowPositions.Config(count=3)},
    {"padding_id": 3, "positions": LearnedPositions.Config(count=5)},
]


@pytest.fixture(autouse=True)
def _small_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "LEAST", 0)


def module(**plan: Any) -> Embeddings:
    torch.manual_seed(0)
    return Embeddings(Embeddings.Config(vocab_size=9, hidden_size=32, **plan))


def call(embeddings: Embeddings, segments: Tensor | None = None, ids: Tensor = IDS) -> Tensor:
    return embeddings(ids, None, POSITIONS, segments, {})  # type: ignore[no-any-return]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("segments", [None, SEGMENTS])
def test_equal_to_plain_lookups(plan: dict[str, Any], segments: Tensor | None) -> None:
    ours, exact = module(**plan), module(**plan).double()
    x, exact_x = call(ours, segments), call(exact, segments)
    assert (type(x.grad_fn).__name__, type(exact_x.grad_fn).__name__) == ("_SummedBackward", "AddBackward0")
    above = torch.randn_like(x)
    found = torch.autograd.grad(x, list(ours.parameters()), above)
    expected = torch.autograd.grad(exact_x, list(exact.parameters()), above.double())
    for own, other in zip([x, *found], [exact_x, *expected], strict=True):
        torch.testing.assert_close(own.double(), other, atol=1e-5, rtol=1e-5)


def test_many_tokens_with_any_number_of_threads() -> None:
    embeddings, ids = module(**PLANS[0]), torch.randint(9, (2, 5))
    big = ids.repeat(200, 1)

    def compute() -> list[Tensor]:
        x = embeddings(big, None, POSITIONS[:1].expand(400, -1), None, {})
        return [x, *torch.autograd.grad(x.square().sum(), list(embeddings.parameters()))]

    assert_alike_with_all_numbers_of_threads(compute)


def test_frozen_tables_and_gradients_of_gradients() -> None:
    embeddings = module(**PLANS[0])
    embeddings.positions.weight.requires_grad_(False)  # type: ignore[union-attr]
    call(embeddings).sum().backward()  # type: ignore[no-untyped-call]
    assert embeddings.positions.weight.grad is None  # type: ignore[union-attr]
    assert embeddings.segments is not None
    torch.testing.assert_close(embeddings.segments.weight.grad[0], torch.full((32,), 10.0))  # type: ignore[index]
    (first,) = torch.autograd.grad(call(embeddings).pow(3).sum(), embeddings.tokens.weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), embeddings.tokens.weight)
    assert second.abs().sum() > 0


def test_an_id_outside_the_table() -> None:
    for wrong in (9, -1):
        ids = IDS.clone()
        ids[1, 2] = wrong
        with pytest.raises(IndexError, match="index out of range"):
            call(module(**PLANS[0]), ids=ids)


def test_hooks_see_the_vectors() -> None:
    embeddings = module(**PLANS[0])
    seen: list[Tensor] = []
    embeddings.tokens.register_forward_hook(lambda _module, _given, vectors: seen.append(vectors))
    assert type(call(embeddings).grad_fn).__name__ == "AddBackward0"
    assert seen[0].shape == (2, 5, 32)


def test_others_are_looked_up_as_before() -> None:
    for plan in ({"scale": 2.0}, {"segments_are_tokens": True}):
        assert type(call(module(**PLANS[2], **plan), SEGMENTS).grad_fn).__name__ == "AddBackward0"
    embeddings = module(**PLANS[2])
    embeddings.tokens = type("Own", (nn.Embedding,), {})(9, 32)
    assert type(call(embeddings).grad_fn).__name__ == "AddBackward0"
