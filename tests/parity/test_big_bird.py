"""Attention between blocks beyond the table of parity: random blocks, uneven lengths, questions, cost."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eir_seq.models import create_model
from eir_seq.models.families.big_bird import attention as block_sparse_attention
from eir_seq.models.families.big_bird.attention import drawn_blocks
from eir_seq.models.model import Model
from tests.parity.cases import Case, Inputs
from tests.parity.cases.big_bird import BIG_BIRD, CASES
from tests.parity.harness import difference, gradients, inputs_of, pair, published_gradients, real_places, transformers

SPARSE = [case for case in CASES if case.name in ("big_bird", "big_bird@one_random_block", "bigbird_pegasus")]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
sparse = pytest.mark.parametrize("case", SPARSE, ids=lambda case: case.name)


def of_reference(seed: int, heads: int, count: int, size: int, wanted: int, longest: int) -> Tensor:
    """Random blocks as the reference draws them in training, (heads, count - 2, wanted)."""
    import numpy
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

    config = transformers.BigBirdConfig(
        hidden_size=heads, num_attention_heads=heads, block_size=size, num_random_blocks=wanted,
        max_position_embeddings=longest,
    )  # fmt: skip
    theirs = BigBirdBlockSparseAttention(config, seed).train()
    numpy.random.seed(seed)
    if count * size in (1024, 3072, 4096):
        rows = [
            theirs._bigbird_block_rand_mask(longest, longest, size, size, wanted, last_idx=1024)[: count - 2]
            for _ in range(heads)
        ]
    else:
        plan = theirs._get_rand_attn_plan(count * size, size, wanted)
        rows = theirs._bigbird_block_rand_mask_with_head(count * size, count * size, size, size, heads, *plan)
    return torch.tensor(numpy.stack(rows))


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize(
    ("count", "size", "wanted", "longest"),
    [(12, 2, 2, 64), (8, 2, 1, 64), (40, 2, 3, 100), (16, 64, 3, 4096), (16, 64, 3, 1024), (48, 64, 3, 4096),
     (64, 64, 3, 4096), (32, 32, 2, 2048)],
)  # fmt: skip
def test_random_blocks_are_the_published_ones(seed: int, count: int, size: int, wanted: int, longest: int) -> None:
    found = torch.tensor(drawn_blocks(seed, 3, count, size, wanted, longest))
    assert torch.equal(found, of_reference(seed, 3, count, size, wanted, longest))
    assert not torch.equal(found[0], found[1])  # each head has its own


@sparse
def test_training_looks_at_random_blocks(case: Case, tmp_path: Path) -> None:
    """States and gradients in training, without dropout; evaluation gives others."""
    none = {"dropout": 0.0} if "pegasus" in case.name else NO_DROPOUT
    both = pair(replace(case, options={**case.options, **none}), "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    calm = both.ours(**inputs).last_hidden_state
    theirs = both.reference.train()(**inputs).last_hidden_state
    gradients(both.reference, theirs, places)
    expected = {name: p.grad for name, p in both.reference.named_parameters() if p.grad is not None}
    both.ours.train()
    if hasattr(both.ours.body, "pooler"):
        both.ours.body.pooler = None
    for both.ours.pack in (True, False):
        ours = both.ours(**inputs).last_hidden_state
        assert difference(ours, theirs, places) < 1e-5
        assert difference(ours, calm, places) > 1e-3
        gradients(both.ours, ours, places)
        found = published_gradients(both.ours, "")
        assert all(difference(found[name], g) < 1e-5 * max(1.0, float(g.abs().max())) for name, g in expected.items())


def cut(inputs: Inputs, length: int) -> Inputs:
    return {name: x[:, :length] if not name.startswith("decoder") else x for name, x in inputs.items()}


@sparse
@pytest.mark.parametrize("length", [23, 22])
def test_lengths_that_no_blocks_fill(case: Case, length: int, tmp_path: Path) -> None:
    both = pair(case, "base", tmp_path)
    inputs = cut(inputs_of(case, both.reference.config), length)
    places = real_places(inputs)
    theirs = both.reference(**inputs).last_hidden_state
    for both.ours.pack in (True, False):
        ours = both.ours(**inputs, output_attentions=True)
        assert difference(ours.last_hidden_state, theirs, places) < 1e-5
        weights = (ours.attentions or ours.encoder_attentions)[0]
        assert weights.shape[-2:] == (length, length)


def test_head_mask_between_blocks() -> None:
    """A head that is switched off adds nothing, one that is halved half of it."""
    model = long_model()
    ids = torch.randint(11, 120, (2, 24))
    attention = model.body.layers[0].mixer
    attention.out.weight.data.zero_().fill_diagonal_(1.0)
    kept: list[Tensor] = []
    attention.register_forward_hook(lambda *call: kept.append(call[2] - attention.out.bias))
    model(ids)
    model(ids, head_mask=torch.tensor([[1.0, 0.0, 0.5, 1.0], [1.0] * 4]))
    factors = torch.tensor([1.0, 0.0, 0.5, 1.0]).repeat_interleave(8)
    torch.testing.assert_close(kept[1], kept[0] * factors)


def test_questions_are_no_answers(tmp_path: Path) -> None:
    """Their scores are low, and what is behind them is of the other segment, whether lengths are given or found."""
    case = replace(CASES[0], extra=None)
    both = pair(case, "question-answering", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    inputs["input_ids"][:, 6] = both.ours.config.sep_token_id
    for more in ({}, {"question_lengths": torch.tensor([[3], [9], [1]])}):
        theirs, ours = both.reference(**inputs, **more), both.ours(**inputs, **more)
        behind = theirs.start_logits > -1e5
        assert not behind.all()
        assert torch.equal(ours.start_logits > -1e5, behind)
        for name in ("start_logits", "end_logits"):
            assert difference(ours[name], theirs[name], behind & inputs["attention_mask"].bool()) < 1e-5
    vectors = {"inputs_embeds": both.ours.body.embeddings.tokens(inputs.pop("input_ids")), **inputs}
    assert (both.ours(**vectors).start_logits > -1e5).all()  # no question is known


def long_model(task: str = "base", **more: Any) -> Model:
    torch.manual_seed(0)
    return create_model("big_bird", {**BIG_BIRD, **more}, task=task).eval()


def test_a_decoder_looks_at_nothing_ahead() -> None:
    model = long_model("causal-lm", is_decoder=True)
    ids = torch.randint(11, 120, (1, 24))
    other = ids.clone()
    other[:, 15:] = 7
    torch.testing.assert_close(model(ids).logits[:, :15], model(other).logits[:, :15])


@pytest.mark.filterwarnings("ignore")
def test_short_texts_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    block_sparse_attention._say_once.cache_clear()
    model = long_model()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model(torch.full((1, 18), 20))  # (5 + 2 * 2) * 2 tokens
            model(torch.full((1, 19), 20))
    assert [record.getMessage() for record in caplog.records] == [
        "texts of at most 18 tokens are too short for block_sparse attention and get full attention"
    ]


@pytest.mark.parametrize("length", [9, 24])
def test_both_kinds_of_attention_have_the_same_weights(length: int) -> None:
    """Where texts are short, they give the same states."""
    sparse, full = long_model(), long_model(attention_type="original_full")
    full.load_state_dict(sparse.state_dict())
    ids = torch.randint(11, 120, (2, length))
    apart = difference(sparse(ids).last_hidden_state, full(ids).last_hidden_state)
    assert apart == 0 if length == 9 else apart > 1e-4


def test_without_random_blocks() -> None:
    model = long_model(num_random_blocks=0)
    ids = torch.randint(11, 120, (2, 24))
    expected = model(ids).last_hidden_state
    assert torch.isfinite(expected).all()
    model = long_model(num_random_blocks=0, **NO_DROPOUT)
    torch.testing.assert_close(model.train()(ids).last_hidden_state, expected)


@pytest.mark.parametrize("lengths", [(24, 0, 4), (0, 24, 0), (0, 0, 0), (24, 24, 24)], ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_texts_without_tokens(lengths: tuple[int, ...], training: bool) -> None:
    mask = torch.arange(24)[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(11, 120, mask.shape)
    model = long_model().train(training)
    for model.pack in (True, False):
        states = model(ids, mask.long()).last_hidden_state
        assert torch.isfinite(states).all()
        states.square().mean().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    model, ids = long_model(), torch.randint(11, 120, (3, 24))
    mask = (torch.arange(24)[None] < torch.tensor([24, 9, 0])[:, None]).long()
    expected = model(ids, mask).last_hidden_state
    found = model.to(dtype)(ids, mask).last_hidden_state
    assert torch.isfinite(found).all()
    assert difference(found.float(), expected, mask.bool()) < 0.1  # a few roundings of states below 4


def test_attention_dropout_between_blocks() -> None:
    """The reference leaves it out there; the documented option says otherwise."""
    model = long_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    ids = torch.randint(11, 120, (1, 24))
    assert not torch.equal(model(ids).last_hidden_state, model(ids).last_hidden_state)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_compiled(training: bool) -> None:
    model = long_model(**NO_DROPOUT).train(training)
    model.pack = False
    ids = torch.randint(11, 120, (2, 24))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=not training, backend="eager")
    torch.testing.assert_close(compiled(ids).last_hidden_state, model(ids).last_hidden_state)


class Largest(TorchDispatchMode):
    """Notes the numbers of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = (x.numel() for x in tree_leaves(made) if isinstance(x, Tensor) and x.untyped_storage().nbytes())
        self.elements = max(self.elements, *sizes, 0)
        return made


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_cost_grows_as_the_length(training: bool) -> None:
    """No tensor of forward and backward has an entry per pair of tokens."""
    model = long_model(max_position_embeddings=2048, block_size=8).train(training)
    found = []
    for length in (512, 1024, 2048):
        with Largest() as largest:
            model(torch.full((1, length), 20)).last_hidden_state.sum().backward()
        found.append(largest.elements)
    assert found[1] <= 2.1 * found[0]
    assert found[2] <= 2.1 * found[1]
    assert found[2] < 2048**2
