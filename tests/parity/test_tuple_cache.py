"""A cache of the reference, in the documented older form, is one here, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.tiny import OPTIONS
from tests.parity.cases import Case
from tests.parity.harness import pair

SOURCE = torch.tensor([[17, 18, 19, 12], [15, 16, 14, 13]])
TARGET = torch.tensor([[2, 11, 12, 13], [2, 21, 22, 23]])


@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        ("bart", "seq2seq-lm"),
        ("t5", "seq2seq-lm"),
        ("mvp", "seq2seq-lm"),
        ("gpt2", "causal-lm"),
        ("llama", "causal-lm"),
    ],
)
def test_tuples_are_exchanged(model_type: str, task: str, tmp_path: Path) -> None:
    both = pair(Case(model_type, OPTIONS[model_type]), task, tmp_path)
    writes, name = task == "seq2seq-lm", "decoder_input_ids" if task == "seq2seq-lm" else "input_ids"
    begin = {name: TARGET[:, :3], "use_cache": True} | ({"input_ids": SOURCE} if writes else {})
    theirs, ours = both.reference(**begin), both.ours(**begin)
    given, own = theirs.past_key_values.to_legacy_cache(), ours.past_key_values.as_tuples()
    for layer, known in zip(given, own, strict=True):
        for x, y in zip(layer, known, strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)
    rest = {"encoder_outputs": (ours.encoder_last_hidden_state,)} if writes else {}
    found = both.ours(**rest, **{name: TARGET[:, 3:]}, past_key_values=given).logits
    expected = both.reference(**rest, **{name: TARGET[:, 3:]}, past_key_values=theirs.past_key_values).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
