"""Mixers that take packed texts in their own ways: states and gradients are those of padded batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.families.fnet.fourier import Fourier
from eir_seq.models.families.yoso.attention import Dropout
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.model import Model
from tests.models.tiny import DROPOUTS, noisy, tiny

SAMPLED = {"use_expectation": False, "num_hash": 8, "hash_code_len": 4, "conv_window": 3}
PACKED: list[tuple[str, dict[str, Any]]] = [
    ("mamba", {"use_cache": False}),
    ("rwkv", {"use_cache": False}),
    ("yoso", {}),
    ("yoso", SAMPLED),
    ("reformer", {}),
    ("mixtral", {}),
    ("prophetnet", {}),
]


@pytest.fixture(autouse=True)
def short_texts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text by itself, and a few queries at a time, however short texts are."""
    torch.set_num_threads(1)
    monkeypatch.setattr("eir_seq.models.families.mamba.layers.CALLS", 0)
    monkeypatch.setattr("eir_seq.models.families.rwkv.layers.CALLS", 0)
    monkeypatch.setattr("eir_seq.models.families.prophetnet.attention.BLOCK", 4)
    monkeypatch.setattr("eir_seq.models.families.yoso.attention.LARGEST_BLOCK", 64)


def texts(*lengths: int, left: bool) -> tuple[Tensor, Tensor]:
    ids = torch.randint(11, 100, (len(lengths), 20), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(20)[None] < torch.tensor(lengths)[:, None]).long()
    return ids, mask.flip(1) if left else mask


def learned(model: Model, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    given = {"input_ids": ids, "attention_mask": mask}
    if isinstance(model.body, EncoderDecoder):
        given |= {f"decoder_{name}": x for name, x in given.items()}
    states = model(**given).last_hidden_state * mask[..., None]
    (states * torch.linspace(-1, 1, states.shape[-1])).square().sum().backward()
    return {"states": states.detach(), **{n: p.grad for n, p in model.named_parameters() if p.grad is not None}}


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize(("model_type", "options"), PACKED, ids=str)
def test_packed_is_padded(model_type: str, options: dict[str, Any], left: bool) -> None:
    model = tiny(model_type, **options)
    none: dict[str, Any] = {name: 0.0 for name in DROPOUTS if name in vars(model.config)}
    model = noisy(tiny(model_type, **options, **none))
    found = []
    for model.pack in (True, False):
        found.append(learned(model, *texts(20, 13, 5, 1, left=left)))
    packed, padded = found
    assert packed.keys() == padded.keys()
    for name, expected in padded.items():
        assert float((packed[name] - expected).abs().max()) < 2e-5 * max(1.0, float(expected.abs().max())), name


def test_a_mask_of_ones_is_none() -> None:
    """Bit for bit: no mask slows the kernels down."""
    model, (ids, mask) = noisy(tiny("gpt2")).eval(), texts(20, 20, left=False)
    assert torch.equal(model(ids, mask).last_hidden_state, model(ids).last_hidden_state)


@pytest.mark.parametrize("shape", [(2, 7, 6), (1, 8, 8), (2, 9, 7), (1, 1, 4), (1, 2, 1)], ids=str)
def test_transforms_of_real_numbers(shape: tuple[int, ...]) -> None:
    """Half of the channels give the whole transform, and its first and second gradients."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mixer = Fourier.Config(hidden_size=shape[2]).build()
    ctx = Context(Layout(shape[0], shape[1]), torch.arange(shape[1]).expand(shape[:2]))
    torch.testing.assert_close(mixer(x, ctx), torch.fft.fft2(x, dim=(1, 2)).real)
    assert torch.autograd.gradcheck(lambda y: mixer(y, ctx), x)
    assert torch.autograd.gradgradcheck(lambda y: mixer(y, ctx), x)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_weights_that_are_dropped(rate: float) -> None:
    """As many as wanted, others in each block, the same for a seed; the mean stays."""
    ones, drop = torch.ones(500, 401), Dropout(rate, 3)
    once, again, other = (drop(ones.clone(), block) for block in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    spread = (rate * (1 - rate) / once.numel()) ** 0.5
    assert abs(float((once == 0).float().mean()) - rate) < 5 * spread
    torch.testing.assert_close(once.max(), torch.tensor(1 / (1 - rate)), atol=1e-4, rtol=0)
