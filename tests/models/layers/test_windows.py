"""Attention in pieces: both ways of computing short texts, what is kept for gradients, texts of any length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.errors import UserError
from eir_seq.models import list_models
from eir_seq.models.families.reformer.lsh_attention import LocalSelfAttention
from eir_seq.models.families.yoso import attention as bernoulli_attention
from eir_seq.models.layers.attention import spelled_out
from eir_seq.models.layers.attention import windows as pieces
from eir_seq.models.layers.attention.sliding_window import SlidingWindowAttention
from eir_seq.models.layers.attention.windows import windows
from eir_seq.models.model import Model
from eir_seq.native import library
from tests.models.tiny import DROPOUTS, noisy, tiny
from tests.sampled import sampled

LONG = 128
LONG_RANGE: dict[str, dict[str, Any]] = {
    "longformer": {"attention_window": 8, "max_position_embeddings": LONG + 2},
    "led": {"attention_window": [4, 8], "max_encoder_position_embeddings": LONG},
    "big_bird": {"block_size": 4, "num_random_blocks": 1, "max_position_embeddings": LONG},
    "bigbird_pegasus": {"block_size": 4, "num_random_blocks": 1, "max_position_embeddings": LONG},
    "longt5": {"encoder_attention_type": "transient-global", "local_radius": 3, "global_block_size": 4},
    "longt5, local": {"encoder_attention_type": "local", "local_radius": 7},
    "pegasus_x": {"block_size": 8, "max_position_embeddings": LONG},
    "reformer": {"axial_pos_embds": False, "max_position_embeddings": LONG},
    "nystromformer": {"segment_means_seq_len": 16, "num_landmarks": 4, "inv_coeff_init_option": True,
                      "max_position_embeddings": LONG},
    "yoso": {"max_position_embeddings": LONG},
    "mra": {"max_position_embeddings": LONG},
    **({"mega": {"use_chunking": True, "chunk_size": 8, "max_positions": LONG}} if "mega" in list_models() else {}),
}  # fmt: skip
WHOLE_BATCH = {"big_bird", "bigbird_pegasus", "longt5", "pegasus_x", "reformer", "mega"}
"""As published, blocks of these are those of the padded batch, so padding in front of a text moves them."""


LENGTHS = (1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 61, 97)
"""One token, around windows and blocks, primes."""


pytestmark = pytest.mark.usefixtures("one_thread")


def built(name: str, **more: Any) -> Model:
    model_type = name.split(",")[0]
    return noisy(tiny(model_type, "encoder" if model_type == "longt5" else "base", **{**LONG_RANGE[name], **more}))


def batch(*lengths: int, left: bool = False) -> dict[str, Tensor]:
    longest = max(lengths)
    ids = torch.randint(11, 90, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask.flip(1) if left else mask}


def states(model: Model, given: dict[str, Tensor]) -> Tensor:
    output = model(**given)
    found: Tensor = output.get("encoder_last_hidden_state", output.last_hidden_state)
    return found


def read(model: Model, given: dict[str, Tensor]) -> Tensor:
    """States of the text, written by the encoder where there are two sides."""
    if "decoder" in dict(model.body.named_children()):
        given = {**given, "decoder_input_ids": given["input_ids"][:, :1]}
    return states(model, given)


@pytest.mark.parametrize("size", [1, 3, 7, 30])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (3, 5), (40, 40)])
def test_windows_are_slices(size: int, before: int, after: int) -> None:
    x, y = (torch.arange(2 * 3 * 17 * 2.0).view(2, 3, 17, 2).requires_grad_() for _ in range(2))
    found = windows(x, size, before, after)
    starts = range(0, 17, size)
    expected = [y[:, :, max(0, s - before) : s + size + after] for s in starts] if size < 17 else [y]
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(ours, theirs), number
    for parts in (found, expected):
        torch.stack([(part * (number + 1)).square().sum() for number, part in enumerate(parts)]).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize(
    ("name", "length"), sampled([(name, n) for name in LONG_RANGE for n in LENGTHS], 1 / 2, always=lambda x: x[1] == 9)
)
def test_a_caller_never_pads(name: str, length: int) -> None:
    """States and gradients of every length."""
    model = built(name).train()
    found = read(model, batch(length))
    assert found.shape[:2] == (1, length)
    found.square().mean().backward()
    assert torch.isfinite(found).all()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", LONG_RANGE)
@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_uneven_texts_packed_or_not(name: str, left: bool) -> None:
    model, given = built(name), batch(61, 33, 8, 1, left=left)
    real = given["attention_mask"].bool()
    model.pack = True
    packed = read(model, given)[real]
    model.pack = False
    torch.testing.assert_close(packed, read(model, given)[real], atol=1e-5, rtol=1e-5)
    given["input_ids"] = given["input_ids"].where(real, torch.tensor(5))  # whatever stands at padding
    torch.testing.assert_close(packed, read(model, given)[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in LONG_RANGE if name.split(",")[0] not in WHOLE_BATCH])
def test_padding_on_the_left_is_that_on_the_right(name: str) -> None:
    model = built(name)
    right, left = batch(61, 33, 8, 1), batch(61, 33, 8, 1, left=True)
    real = right["attention_mask"].bool()
    left["input_ids"] = torch.stack(
        [row.roll(61 - int(mask.sum())) for row, mask in zip(right["input_ids"], real, strict=True)]
    )
    shift = 61 - left["attention_mask"].sum(1, keepdim=True)
    if name == "led":
        pytest.skip("its positions are places of the batch, as published, and cannot be given")
    first = {"longformer": model.config.pad_token_id + 1, "yoso": 2, "mra": 2, "nystromformer": 2}[name]
    places = (torch.arange(61)[None] - shift).clamp(min=0) + first
    found = read(model, {**left, "position_ids": places})[left["attention_mask"].bool()]
    torch.testing.assert_close(found, read(model, right)[real], atol=1e-5, rtol=1e-5)


def learned(model: Model, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """States and all gradients, the same random numbers at each call."""
    model.zero_grad()
    torch.manual_seed(3)
    found = read(model, given) * given["attention_mask"][..., None]
    (found * torch.linspace(-1, 1, found.shape[-1])).square().sum().backward()
    return {"states": found.detach(), **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}


def agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() >= {"states"}
    for name in found.keys() | expected.keys():
        gap = float((found[name] - expected[name]).abs().max())
        assert gap < 1e-5 * max(1.0, float(expected[name].abs().max())), name


def cut(patch: pytest.MonkeyPatch) -> None:
    """Short texts in pieces, too."""
    patch.setattr(pieces, "LEAST_PIECE", 1)
    patch.setattr(SlidingWindowAttention, "_sees_all", lambda self, length, ctx: False)
    patch.setattr(LocalSelfAttention, "_sees_all", lambda self, length, ctx: length <= self.config.chunk)
    patch.setattr(bernoulli_attention, "FEWEST_BUCKETED", 0)


@pytest.mark.parametrize(
    ("name", "lengths"),
    sampled(
        [
            (name, lengths)
            for name in ("longformer", "led", "longt5", "longt5, local", "reformer", "yoso")
            for lengths in ((61, 33, 8, 1), (8,), (5, 3), (12, 12), (128,))
        ],
        1 / 3,
        always=lambda case: len(case[1]) == 4,
    ),
    ids=str,
)
def test_short_texts_either_way(name: str, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or in pieces: the same states and gradients."""
    none = {n: 0.0 for n in DROPOUTS if n in vars(built(name).config)}
    more: dict[str, Any] = {"num_hashes": 1, "num_buckets": 4} if name == "reformer" else {}
    more |= {"use_expectation": False, "num_hash": 8, "hash_code_len": 4} if name == "yoso" else {}
    model, given = built(name, **none, **more).train(), batch(*lengths)
    if "global_attention_mask" in model.features:
        given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
        given["global_attention_mask"][0, :2] = 1
    for model.pack in (True, False):
        whole = learned(model, given)
        with monkeypatch.context() as patch:
            cut(patch)
            agree(learned(model, given), whole)


@pytest.mark.parametrize("name", ["longformer", "led", "longt5", "longt5, local", "pegasus_x"])
def test_weights_computed_twice_are_those_that_were_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: the second time the same weights fall out."""
    model, given = built(name).train(), batch(61, 33)
    kept = learned(model, given)
    monkeypatch.setattr(pieces, "KEPT", 0)
    monkeypatch.setattr(spelled_out, "KEPT", 0)
    agree(learned(model, given), kept)


def kept_numbers(model: Model, given: dict[str, Tensor]) -> int:
    """Numbers in the tensors that a pass keeps for its gradients."""
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        assert read(model, given).requires_grad
    return sum(kept.values())


def test_weights_of_long_texts_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("longformer", attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.0).train()
    given = batch(128)
    with monkeypatch.context() as patch, library.without():  # native kernels never keep weights
        kept = kept_numbers(model, given)
        patch.setattr(spelled_out, "KEPT", 64)
        assert kept_numbers(model, given) < kept - 2 * 4 * 128 * 24  # two layers, four heads


def test_windows_of_each_layer() -> None:
    """A token two windows away matters to the second layer only through the first."""
    model = built("longformer", attention_window=[2, 6], num_hidden_layers=2)
    assert [layer.mixer.config.reach for layer in model.body.layers] == [1, 3]
    given = batch(20)
    other = {**given, "input_ids": given["input_ids"].clone()}
    other["input_ids"][0, 10] = 7
    moved = (read(model, given) - read(model, other)).abs().amax(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == list(range(6, 15))  # 1 + 3 tokens to each side


@pytest.mark.parametrize("name", ["longformer", "led"])
def test_windows_with_gaps_are_refused(name: str) -> None:
    built(name, attention_dilation=1)
    with pytest.raises(UserError, match="attention_dilation: 2: windows with gaps need a kernel"):
        built(name, attention_dilation=2)
    with pytest.raises(UserError, match=r"attention_dilation: \[1, 3\]: windows with gaps"):
        built(name, attention_dilation=[1, 3])


def test_hashes_of_one_call() -> None:
    """`num_hashes` of a call instead of the option's."""
    few, many = (built("reformer", num_hashes=count, num_buckets=4) for count in (1, 3))
    given = batch(61)
    assert torch.equal(few(**given, num_hashes=3).last_hidden_state, many(**given).last_hidden_state)
    assert not torch.equal(few(**given).last_hidden_state, many(**given).last_hidden_state)
    with pytest.raises(ValueError, match="num_hashes: 0 is less than 1"):
        few(**given, num_hashes=0)
