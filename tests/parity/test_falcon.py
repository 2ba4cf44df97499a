"""Which of the reference's two answers is right where it has two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.parity.cases import Case
from tests.parity.cases.gpt_successors import CASES, FALCON
from tests.parity.harness import difference, inputs_of, pair, real_places

ALIBI = [case for case in CASES if case.name.startswith("falcon@alibi")]
PLAIN = Case("falcon", {**FALCON, "alibi": True})


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize(
    "case", [*(Case(case.name, case.options) for case in ALIBI), PLAIN], ids=lambda case: case.name
)
def test_alibi_is_that_of_the_references_kernels(case: Case, left: bool, tmp_path: Path) -> None:
    """Its kernels, the default, add the bias once; so does its spelt-out attention when it is given a head mask."""
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config, left=left)
    places, ours = real_places(inputs), both.ours(**inputs).last_hidden_state
    heads = torch.ones(both.reference.config.num_attention_heads)
    assert difference(ours, both.reference(**inputs, head_mask=heads).last_hidden_state, places) < case.tolerance
    assert difference(ours, both.reference(**inputs).last_hidden_state, places) > 0.01
    kernels = type(both.reference).from_pretrained(tmp_path, attn_implementation="sdpa")
    assert difference(ours, kernels(**inputs).last_hidden_state, places) < case.tolerance
