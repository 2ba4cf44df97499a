"""Mixers that approximate attention: against their definitions spelt out, and what they cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from eir_seq.models import create_model
from eir_seq.models.families.nystromformer.attention import pseudo_inverse
from eir_seq.models.families.yoso import attention as bernoulli_attention
from eir_seq.models.families.yoso.attention import agreement, by_buckets, hadamard, unit
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.model import Model
from tests.models.tiny import noisy, tiny
from tests.sampled import sampled

SAMPLED = {"use_expectation": False, "num_hash": 8, "hash_code_len": 4}
CHEAP: list[tuple[str, dict[str, Any]]] = [
    ("nystromformer", {"num_landmarks": 8, "segment_means_seq_len": 64}),
    ("nystromformer", {"num_landmarks": 64, "segment_means_seq_len": 64, "attention_probs_dropout_prob": 0.0}),
    ("yoso", {}),
    ("yoso", SAMPLED),
    ("yoso", {**SAMPLED, "use_fast_hash": False}),
    ("yoso", {**SAMPLED, "lsh_backward": False}),
    ("mra", {"block_per_row": 1}),
    ("mra", {"block_per_row": 1, "approx_mode": "sparse", "initial_prior_first_n_blocks": 1}),
]
ONE_OF_EACH = (CHEAP[0], CHEAP[2], CHEAP[6])
cheap = pytest.mark.parametrize(("model_type", "options"), CHEAP, ids=str)


pytestmark = pytest.mark.usefixtures("one_thread")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(*lengths: int, left: bool = False) -> dict[str, Tensor]:
    longest = max(lengths)
    ids = torch.randint(11, 100, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask.flip(1) if left else mask}


class LargestTensor(TorchDispatchMode):
    """The greatest number of values in a tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def largest_tensor(model: Model, length: int) -> int:
    given = text(length, length // 2)
    with LargestTensor() as largest:
        model(**given).last_hidden_state.square().sum().backward()
    return largest.values


@pytest.mark.parametrize(
    ("model_type", "options"), sampled(CHEAP, 1 / 3, always=lambda case: case in ONE_OF_EACH), ids=str
)
def test_no_tensor_grows_with_the_square_of_the_length(
    model_type: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bernoulli_attention, "LARGEST_BLOCK", 2**14)
    model = tiny(model_type, max_position_embeddings=1024, **options).train()
    model.pack = False
    short, long = largest_tensor(model, 256), largest_tensor(model, 1024)
    assert long <= 4.1 * short
    assert long < 1024 * 1024


@cheap
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_a_text_is_the_same_alone(model_type: str, options: dict[str, Any], left: bool, pack: bool) -> None:
    """On either side padded, beside longer and shorter ones, some longer than `segment_means_seq_len`."""
    own = {"inv_coeff_init_option": True} if model_type == "nystromformer" else {}
    model = noisy(tiny(model_type, max_position_embeddings=128, **{**options, **own}))
    model.pack = pack
    given = text(100, 37, 5, left=left)
    places = torch.arange(100).expand(3, -1) + 2
    if left:  # positions are counted from the first place, padding or not
        places = places - (100 - given["attention_mask"].sum(1, keepdim=True))
    states = model(**given, position_ids=places.clamp(min=0)).last_hidden_state
    for row, real in enumerate(given["attention_mask"].bool()):
        alone = model(given["input_ids"][row : row + 1, real]).last_hidden_state[0]
        torch.testing.assert_close(states[row, real], alone, atol=1e-5, rtol=1e-5)


@cheap
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_states_and_gradients_are_finite(model_type: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Also of a text without tokens, beside a long one."""
    model = noisy(tiny(model_type, max_position_embeddings=128, **options)).to(dtype).train()
    for model.pack in (True, False):
        states = model(**text(100, 0, 5)).last_hidden_state
        assert states.dtype is dtype
        assert torch.isfinite(states).all()
        states.float().square().mean().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("model_type", "options"),
    # the generator of hashes is no tensor: the graph breaks there
    sampled(
        [case for case in CHEAP if case[1].get("use_expectation", True)], 0, always=lambda case: case in ONE_OF_EACH
    ),
    ids=str,
)
def test_long_texts_compile_in_one_graph(model_type: str, options: dict[str, Any]) -> None:
    model = noisy(tiny(model_type, max_position_embeddings=128, **options))
    model.pack = False
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    given = text(100, 37)
    torch.testing.assert_close(compiled(**given).last_hidden_state, model(**given).last_hidden_state)


def test_landmarks_of_texts_of_any_length() -> None:
    """Against the definition: means of pieces, three products, a pseudo-inverse and a convolution."""
    model = noisy(tiny("nystromformer", num_landmarks=4, segment_means_seq_len=12, inv_coeff_init_option=True))
    mixer = model.body.layers[0].mixer
    seen: list[Tensor] = []
    mixer.register_forward_hook(lambda module, inputs, output: seen.extend((inputs[0][0], output[0])))
    for length, sizes in ((12, (3, 3, 3, 3)), (7, (3, 3, 1)), (2, (2,)), (19, (5, 5, 5, 4))):
        seen.clear()
        model(text(length)["input_ids"])
        x, found = seen[:2]
        query, key, value = (
            part(x).unflatten(-1, (4, 8)).transpose(0, 1) for part in (mixer.query, mixer.key, mixer.value)
        )
        of_queries, of_keys = (torch.stack([p.mean(1) for p in y.split(sizes, 1)], 1) for y in (query, key))
        first, middle, last = (
            (a @ b.transpose(-1, -2) / 8**0.5).softmax(-1)
            for a, b in ((query, of_keys), (of_queries, of_keys), (of_queries, key))
        )
        mixed = first @ pseudo_inverse(middle[None], together=False)[0] @ last @ value
        kernel = mixer.conv.weight[:, 0, :, 0]
        padded = F.pad(value, (0, 0, 2, 2)).unfold(1, 5, 1)
        mixed = mixed + torch.einsum("hldk,hk->hld", padded, kernel)
        torch.testing.assert_close(found, mixer.out(mixed.transpose(0, 1).flatten(1)), atol=1e-5, rtol=1e-5)


def test_the_pseudo_inverse_inverts() -> None:
    matrix = (random(2, 3, 6, 6) + 5 * torch.eye(6)).softmax(-1).double()
    once = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    torch.testing.assert_close(pseudo_inverse(matrix, together=False) @ matrix, once, atol=0.05, rtol=0)


def test_texts_touch_each_other_as_published_unless_asked() -> None:
    for own, apart in ((False, True), (True, False)):
        model = noisy(tiny("nystromformer", segment_means_seq_len=24, inv_coeff_init_option=own))
        ids = text(24, 24)["input_ids"]
        together = model(ids).last_hidden_state
        alone = torch.cat([model(one[None]).last_hidden_state for one in ids])
        assert (float((together - alone).detach().abs().max()) > 1e-4) is apart


def test_hadamard_transform() -> None:
    expected = torch.ones(1, 1)
    for _ in range(3):
        expected = torch.cat((torch.cat((expected, expected), 1), torch.cat((expected, -expected), 1)))
    torch.testing.assert_close(hadamard(torch.eye(8)), expected)


@pytest.mark.parametrize("rotates", [True, False], ids=["rotations", "planes"])
def test_hashes_agree_as_often_as_angles_say(rotates: bool) -> None:
    options = {"hash_code_len": 3, "num_hash": 4000, "use_expectation": False, "use_fast_hash": rotates}
    mixer = tiny("yoso", **options).body.layers[0].mixer
    x = unit(random(1, 4, 6, 8, seed=1))
    codes = mixer._codes(x)
    assert codes.shape == (1, 4, 6, 4000)
    assert int(codes.max()) == 7
    agree = (codes[:, :, :, None] == codes[:, :, None]).float().mean(-1)
    torch.testing.assert_close(agree, agreement(x, x, 3).clamp(max=1), atol=0.06, rtol=0)
    assert torch.equal(mixer._codes(x), codes), "the same in every evaluation"
    assert not torch.equal(mixer.train()._codes(x), codes)


def test_sums_by_buckets() -> None:
    """Against the sum over all pairs that agree."""
    readers, writers = (torch.randint(4, (2, 3, n, 5), generator=torch.Generator().manual_seed(n)) for n in (7, 7))
    values = random(2, 3, 7, 6)
    weights = (readers[:, :, :, None] == writers[:, :, None]).float().mean(-1)
    torch.testing.assert_close(by_buckets(readers, writers, values, 4), weights @ values)


@pytest.mark.parametrize("options", [{}, SAMPLED, {**SAMPLED, "lsh_backward": False}], ids=str)
def test_gradients_are_the_published_bound(options: dict[str, Any]) -> None:
    """Weights, expected or estimated, times half the length of a hash."""
    mixer = tiny("yoso", **options).body.layers[0].mixer
    length = mixer.config.hash_length
    query, key, value = unit(random(2, 4, 9, 8, seed=1)), unit(random(2, 4, 9, 8, seed=2)), random(2, 4, 9, 8, seed=3)
    for x in (query, key, value):
        x.requires_grad_()
    seen = torch.arange(9)[None] < torch.tensor([[9], [6]])
    value_seen = value * seen[:, None, :, None]
    expected = agreement(query, key, length).detach() * seen[:, None, None]
    if options:
        codes = mixer._codes(torch.stack((query, key)))
        weights = (codes[0][:, :, :, None] == codes[1][:, :, None]).float().mean(-1) * seen[:, None, None]
        rest = (*codes, length, options.get("lsh_backward", True))
        out = bernoulli_attention._Sampled.apply(query, key, value_seen, seen, *rest)
        used = expected if "lsh_backward" in options else weights
    else:
        out = bernoulli_attention._Expected.apply(query, key, value_seen, seen, length, bernoulli_attention.Dropout())
        used = weights = expected
    torch.testing.assert_close(out, weights @ value)
    gradient = random(*out.shape, seed=4)
    out.backward(gradient)
    weighted = gradient @ value.detach().transpose(-1, -2) * used * length / 2
    torch.testing.assert_close(query.grad, weighted @ key.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(key.grad, weighted.transpose(-1, -2) @ query.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(value.grad, used.transpose(-1, -2) @ gradient, atol=1e-5, rtol=1e-4)


def test_dropout_of_expected_weights_is_the_same_in_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is linear in the values, so its derivative along them must be what they make of it."""
    monkeypatch.setattr(bernoulli_attention, "LARGEST_BLOCK", 100)
    query, key = unit(random(1, 2, 12, 8, seed=1)), unit(random(1, 2, 12, 8, seed=2))
    value = random(1, 2, 12, 8, seed=3).requires_grad_()
    dropout = bernoulli_attention.Dropout(0.4, 5)
    out = bernoulli_attention._Expected.apply(query, key, value, torch.ones(1, 12).bool(), 9, dropout)
    direction = random(*out.shape, seed=4)
    out.backward(direction)
    torch.testing.assert_close((value.grad * value).sum(), (out * direction).sum())
    assert not torch.allclose(out, agreement(query, key, 9) @ value)


def test_angles_of_equal_vectors_are_zero() -> None:
    """Products of unit vectors may round to more than one."""
    x = unit(random(1, 1, 500, 8, seed=1)) * (1 + 1e-6)
    assert torch.equal(agreement(x, x, 9)[0, 0].diagonal(), torch.ones(500))
    assert math.isclose(float(agreement(x[..., :1, :], -x[..., :1, :], 9)), 0.0, abs_tol=1e-9)


def test_fresh_convolutions_of_yoso() -> None:
    torch.manual_seed(0)
    model = create_model(
        "yoso",
        {"hidden_size": 64, "num_attention_heads": 64, "num_hidden_layers": 8, "conv_window": 9, "vocab_size": 50},
    )
    weights = torch.cat([layer.mixer.conv.weight.flatten() for layer in model.body.layers])
    assert abs(float(weights.detach().std()) / (27**-0.5) - 1) < 0.05


def best_pairs(coarse: Tensor, first: int, diagonal: int, count: int) -> Tensor:
    """(blocks, blocks) bool, one after the other: what comes before all, then the best relative to its row."""
    rows, columns = torch.meshgrid(*[torch.arange(len(coarse))] * 2, indexing="ij")
    before = (rows < first).int() + (columns < first).int()
    if diagonal:
        before += ((rows - columns).abs() <= diagonal // 2).int()
    relative = coarse - coarse.amax(-1, keepdim=True)
    order = sorted(range(coarse.numel()), key=lambda i: (int(before.flatten()[i]), float(relative.flatten()[i])))
    chosen = torch.zeros(coarse.numel(), dtype=torch.bool)
    chosen[order[-count:]] = True
    return chosen.view_as(coarse)


@pytest.mark.parametrize("length", [20, 70, 128])
@pytest.mark.parametrize("own", [{}, {"approx_mode": "sparse"}, {"initial_prior_first_n_blocks": 1, "block_per_row": 3},
                                 {"initial_prior_diagonal_n_blocks": 1}, {"block_per_row": 4}], ids=str)  # fmt: skip
def test_two_resolutions_against_all_pairs(length: int, own: dict[str, Any]) -> None:
    """The definition with a weight for every pair of tokens: its own score, or that of its blocks, or none."""
    options = {"max_position_embeddings": 128, "block_per_row": 2, "num_attention_heads": 1, **own}
    mixer = noisy(tiny("mra", **options)).body.layers[0].mixer
    query, key, value = (random(1, 1, length, 32, seed=seed) for seed in (1, 2, 3))
    model_mask = torch.ones(1, length + 9, dtype=torch.bool)
    model_mask[:, length:] = False
    ctx = Context(Layout.padded(1, length + 9, model_mask), torch.arange(length + 9)[None], model_mask)
    given = (F.pad(x, (0, 0, 0, 9), value=7.0).transpose(1, 2) for x in (query, key, value))
    found = mixer._attend(*given, ctx)[0, :length]
    block = torch.arange(length) // 32
    means = [torch.stack([x[0, 0, block == b].mean(0) for b in range(int(block[-1]) + 1)]) for x in (query, key)]
    coarse = means[0] @ means[1].T / 32**0.5
    chosen = best_pairs(
        coarse, options.get("initial_prior_first_n_blocks", 0), options.get("initial_prior_diagonal_n_blocks", 0),
        min(4 * options["block_per_row"], coarse.numel()),
    )  # fmt: skip
    pair = (block[:, None], block[None])
    fine = (query @ key.transpose(-1, -2))[0, 0] / 32**0.5
    rest = torch.full_like(fine, float("-inf")) if options.get("approx_mode") == "sparse" else coarse[pair]
    weights = torch.where(chosen[pair], fine, rest).softmax(-1).nan_to_num()
    torch.testing.assert_close(found, weights @ value[0, 0], atol=1e-5, rtol=1e-4)


def test_weights_of_pairs_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="output_attentions: this architecture has no weights of single pairs"):
        tiny("mra")(torch.tensor([[5, 6, 7]]), output_attentions=True)
