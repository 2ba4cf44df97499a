"""Dropout of whole channels of a text."""

from __future__ import annotations

import pytest
import torch

from eir_seq.models.families.mega.text_dropout import TextDropout
from eir_seq.models.layers.layout import Layout


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_dropout_of_channels(packed: bool) -> None:
    """A channel of a text is dropped whole, and others are scaled; numbers by themselves where it is not asked for."""
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[1, 2:] = False
    layout = Layout.padded(4, 6, mask)
    layout = layout.without_padding() if packed else layout
    x = layout.pack(torch.ones(4, 6, 50))
    torch.manual_seed(0)
    found = layout.pad(TextDropout(0.5, by_channel=True)(x, layout))
    for text, real in zip(found, mask, strict=True):
        assert torch.equal(text[real], text[:1].expand(int(real.sum()), -1))
        assert set(text[0].tolist()) == {0.0, 2.0}
    assert not torch.equal(found[0, 0], found[1, 0])
    alone = layout.pad(TextDropout(0.5, by_channel=False)(x, layout))
    assert not torch.equal(alone[0, 0], alone[0, 1])
    assert torch.equal(TextDropout(0.5, by_channel=True).eval()(x, layout), x)
