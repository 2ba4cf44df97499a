"""Led: each side has its own number of positions."""

from __future__ import annotations

import pytest
import torch

from eir_seq.errors import UserError
from tests.models.tiny import tiny


def test_each_side_has_its_own_bound() -> None:
    """Texts are read as far as the encoder's positions reach, and written as far as the decoder's do."""
    model = tiny("led", "seq2seq-lm", max_encoder_position_embeddings=60, max_decoder_position_embeddings=7)
    assert model.max_positions == 60
    source = torch.full((1, 60), 20)
    written = model.generate(source, max_new_tokens=6, min_new_tokens=6)
    assert isinstance(written, torch.Tensor)
    assert written.shape == (1, 7)
    with pytest.raises(UserError, match=r"a text of 8 tokens .prompt: 1. is longer than the model's 7 positions"):
        model.generate(source, max_new_tokens=7)
