"""Encoders of long texts beyond the table: texts of any length, attention weights, head masks, what a pass costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.tiny import noisy, tiny
from tests.parity.cases import CASES, Case
from tests.parity.harness import difference, inputs_of, pair, real_places

ROWS = {name: [case for case in CASES if case.model_type == name] for name in ("led", "longt5", "pegasus_x")}
named = {"ids": lambda case: case.name}


@pytest.mark.parametrize("length", [23, 5, 1])
@pytest.mark.parametrize("case", [case for rows in ROWS.values() for case in rows], **named)
def test_texts_that_fill_no_block(case: Case, length: int, tmp_path: Path) -> None:
    """With and without a mask; one text is shorter."""
    both = pair(case, "base", tmp_path)
    inputs = {
        name: x[:, :length] for name, x in inputs_of(case, both.reference.config).items() if "decoder" not in name
    }
    inputs["decoder_input_ids"] = torch.full((3, 4), 20)
    inputs["attention_mask"][1, (length + 1) // 2 :] = 0
    for given in (inputs, {name: x for name, x in inputs.items() if name != "attention_mask"}):
        expected = both.reference(**given).last_hidden_state
        for both.ours.pack in (True, False):
            assert difference(both.ours(**given).last_hidden_state, expected) < case.tolerance


def per_token(weights: Tensor, radius: int, length: int) -> Tensor:
    """Weights (batch, blocks, heads, size, 3 size + sums) -> (batch, heads, length, sums + 2 radius + 1)."""
    size = radius + 1
    band = torch.arange(size)[:, None] + torch.arange(2 * radius + 1) + 1
    near = weights[..., : 3 * size].gather(-1, band.expand(*weights.shape[:3], -1, -1))
    rows = torch.cat((weights[..., 3 * size :], near), -1)
    return rows.transpose(1, 2).flatten(2, 3)[:, :, :length]


@pytest.mark.parametrize("case", ROWS["longt5"], **named)
def test_attention_weights_of_longt5(case: Case, tmp_path: Path) -> None:
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    theirs, ours = both.reference(**inputs, output_attentions=True), both.ours(**inputs, output_attentions=True)
    real, written = inputs["attention_mask"].bool(), real_places(inputs)
    assert len(ours.encoder_attentions) == len(theirs.encoder_attentions) == 2
    for found, blocks in zip(ours.encoder_attentions, theirs.encoder_attentions, strict=True):
        expected = per_token(blocks, both.ours.config.local_radius, real.shape[1])
        assert difference(found.transpose(1, 2), expected.transpose(1, 2), real) < case.tolerance
    for name in ("decoder_attentions", "cross_attentions"):
        assert len(ours[name]) == len(theirs[name]) == 3
        for found, expected in zip(ours[name], theirs[name], strict=True):
            assert difference(found.transpose(1, 2), expected.transpose(1, 2), written) < case.tolerance


@pytest.mark.parametrize("case", ROWS["pegasus_x"], **named)
def test_attention_weights_of_pegasus_x(case: Case, tmp_path: Path) -> None:
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    theirs, ours = both.reference(**inputs, output_attentions=True), both.ours(**inputs, output_attentions=True)
    real, config = inputs["attention_mask"].bool(), both.ours.config
    layers = zip(ours.encoder_attentions, ours.encoder_global_attentions, theirs.encoder_attentions, strict=True)
    assert len(ours.encoder_attentions) == config.encoder_layers
    for number, (near, shared, expected) in enumerate(layers):
        staggered = config.stagger_local_blocks and number % 2
        space = config.block_size // 2 if staggered else 0
        rows = expected["local"].flatten(2, 3)[:, :, space : space + real.shape[1]]
        assert difference(near.transpose(1, 2), rows.transpose(1, 2), real) < case.tolerance
        tokens = expected["global"][..., 3 + space : 3 + space + real.shape[1]]
        assert difference(shared, torch.cat((expected["global"][..., :3], tokens), -1)) < case.tolerance


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("longt5", {"encoder_attention_type": "local"}),
        ("longt5", {"encoder_attention_type": "transient-global"}),
        ("pegasus_x", {}),
    ],
)
def test_a_head_mask_scales_what_heads_give(name: str, options: dict[str, Any]) -> None:
    model = noisy(tiny(name, "encoder", **options))
    ids, mask = torch.arange(11, 47)[None] % 97, torch.tensor([1.0, 0.0, 0.5, 1.0])
    found = model(ids, head_mask=mask).last_hidden_state
    assert not torch.allclose(found, model(ids).last_hidden_state, atol=1e-2)
    with torch.no_grad():
        for layer in model.body.layers:
            layer.mixer.out.weight *= mask.repeat_interleave(8)
    torch.testing.assert_close(found, model(ids).last_hidden_state, atol=1e-5, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.numel())
        return made


def largest(model: Any, length: int) -> int:
    """Numbers in the largest tensor of a forward and backward pass over a text."""
    with Largest() as seen:
        model(torch.full((1, length), 20)).last_hidden_state.sum().backward()
    return seen.numbers


def test_no_table_of_all_pairs() -> None:
    """Twice the text, twice the largest tensor; with sums a part grows with length times length / block."""
    model = tiny("pegasus_x", "encoder", max_position_embeddings=4096)
    assert largest(model, 3072) == 2 * largest(model, 1536) < 1536 * 1536 / 2
    model = tiny("longt5", "encoder", encoder_attention_type="local")
    assert largest(model, 3072) == 2 * largest(model, 1536) < 1536 * 1536 / 2
    model = tiny("longt5", "encoder", local_radius=16, global_block_size=64)
    heads, columns = 4, 1024 // 64 + 3 * 16
    assert largest(model, 1024) <= 1024 * heads * max(columns, 64)
    # chunks, and Fourier transforms of twice the length
    model = tiny("mega", use_chunking=True, chunk_size=16)
    assert largest(model, 4096) < 2.01 * largest(model, 2048) < 2048 * 2048 / 2
    model = tiny("mega", use_chunking=True, chunk_size=16, is_decoder=True, bidirectional=False)
    with torch.no_grad(), Largest() as seen:
        model(torch.full((1, 4096), 20), use_cache=True)
    assert seen.numbers < 2.01 * 4096 * 64
