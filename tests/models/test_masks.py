"""Which mask a text has, at its ends or within, does not change what packing computes: for every architecture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eir_seq.models import list_models
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.families.git.prefixed import Prefixed
from eir_seq.models.layers.layout import Layout
from eir_seq.models.model import Model
from tests.models.tiny import Inputs, inputs, noisy, tiny

ROWS, LENGTH, WRITTEN = 3, 20, 14
DECODER = "decoder_attention_mask"


pytestmark = pytest.mark.usefixtures("one_thread")


def padded(length: int, generator: torch.Generator) -> Tensor:
    """(rows, length): real from a random place to another, at least three tokens."""
    first = torch.randint(0, length // 2, (ROWS, 1), generator=generator)
    last = torch.randint(length // 2 + 3, length + 1, (ROWS, 1), generator=generator)
    place = torch.arange(length)
    return ((place >= first) & (place < last)).long()


def with_holes(length: int, generator: torch.Generator) -> Tensor:
    """The same without some tokens between the first and the last."""
    mask = padded(length, generator)
    kept = mask * (torch.rand(mask.shape, generator=generator) > 0.3)
    kept[torch.arange(ROWS), mask.argmax(1)] = 1
    kept[:, length // 2] = 0
    return kept


def with_an_empty_row(length: int, generator: torch.Generator) -> Tensor:
    """One row is padding alone, the others have holes."""
    mask = with_holes(length, generator)
    mask[1] = 0
    return mask


MASKS = {"ends": padded, "holes": with_holes, "empty": with_an_empty_row}


def masked_inputs(model: Model, mask_of: Callable[[int, torch.Generator], Tensor]) -> Inputs:
    """Documented inputs whose masks, of both sides and of others, are random."""
    generator = torch.Generator().manual_seed(8)
    given = inputs(model, (LENGTH,) * ROWS, LENGTH)
    given["attention_mask"] = mask_of(LENGTH, generator)
    if isinstance(model.body, EncoderDecoder):
        given["decoder_input_ids"] = given["input_ids"].flip(0)[:, :WRITTEN]
        given[DECODER] = mask_of(WRITTEN, generator)
    if (memory := given.get("encoder_hidden_states")) is not None:
        given["encoder_hidden_states"] = memory.repeat(1, 4, 1)
        given["encoder_attention_mask"] = mask_of(LENGTH, generator)
    return given


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("model_type", list_models())
def test_packed_equals_padded_under_any_mask(model_type: str, kind: str) -> None:
    """At real tokens; those of empty texts are finite."""
    model = noisy(tiny(model_type))
    given = masked_inputs(model, MASKS[kind])
    found = []
    with torch.no_grad():
        for model.pack in (True, False):
            found.append(model(**given))
    real = given.get(DECODER, given["attention_mask"]).bool()
    names = ["last_hidden_state", *(["encoder_last_hidden_state"] if DECODER in given else [])]
    for name, where in zip(names, (real, given["attention_mask"].bool()), strict=False):
        packed, unpacked = (output[name] for output in found)
        assert torch.isfinite(packed).all()
        start = packed.shape[1] - where.shape[1] if isinstance(model.body, Prefixed) else 0
        packed, unpacked = (x[:, start : start + where.shape[1]][where] for x in (packed, unpacked))
        torch.testing.assert_close(packed, unpacked, atol=1e-5, rtol=1e-5)


def test_only_padding_at_the_ends_is_packed_away() -> None:
    mask = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
    layout = Layout.padded(3, 5, mask).without_padding()
    assert layout.lengths == (3, 5, 1)
    assert torch.equal(layout.pad(layout.pack(mask)), mask)
    mask[1, 2] = 0
    holed = Layout.padded(3, 5, mask)
    assert holed.without_padding() is holed
    assert holed.without_padding(inner_padding=True).lengths == (3, 4, 1)
    assert Layout.padded(3, 5, torch.ones(3, 5)).without_padding() == Layout(3, 5)
    empty = Layout.padded(3, 5, torch.zeros(3, 5))
    assert empty.without_padding() is empty


@pytest.mark.parametrize("model_type", ["luke", "visual_bert"])
def test_padding_between_a_text_and_others_is_packed_away(model_type: str) -> None:
    """It is a hole in the mask of both, and no layer there counts places."""
    model = noisy(tiny(model_type))
    given = inputs(model)
    rows: list[int] = []
    hook = model.body.stack.layers[0].register_forward_pre_hook(lambda _, args: rows.append(args[0].dim()))
    model(**given)
    hook.remove()
    assert rows == [2]
