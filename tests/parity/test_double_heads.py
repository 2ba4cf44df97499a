"""The next token and the right choice together: every way to summarize a choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.cases import CASES, Case
from tests.parity.harness import Pair, difference, pair, task_inputs

GPTS = [case for case in CASES if case.name in ("gpt2", "openai-gpt")]
by_name = pytest.mark.parametrize("case", GPTS, ids=lambda case: case.name)


def both(case: Case, folder: Path, **options: Any) -> Pair:
    return pair(case, "double-heads", folder, **options)


@by_name
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_the_last_place_if_none_is_given(case: Case, activation: str | None, tmp_path: Path) -> None:
    models = both(case, tmp_path, summary_activation=activation)
    inputs, targets, _ = task_inputs(case, "double-heads", models.reference.config)
    del targets["mc_token_ids"]
    ours, theirs = models.ours(**inputs, **targets), models.reference(**inputs, **targets)
    assert difference(ours.mc_logits, theirs.mc_logits) < case.tolerance
    assert difference(ours.mc_loss, theirs.mc_loss) < case.tolerance
    assert difference(ours.loss, theirs.loss) < case.tolerance


@by_name
@pytest.mark.parametrize("kind", ["first", "last", "mean"])
def test_a_summary_of_each_choice(case: Case, kind: str, tmp_path: Path) -> None:
    """The reference's class would summarize over the choices; its summary itself is right for texts of their own."""
    models = both(case, tmp_path, summary_type=kind)
    inputs, _, _ = task_inputs(case, "double-heads", models.reference.config)
    texts = {name: x.flatten(0, 1) for name, x in inputs.items()}
    states = models.reference.base_model(**texts).last_hidden_state
    expected = models.reference.multiple_choice_head(states).view(inputs["input_ids"].shape[:2])
    assert difference(models.ours(**inputs).mc_logits, expected) < case.tolerance


@by_name
@pytest.mark.parametrize("off", ["summary_use_proj", "summary_proj_to_labels"])
def test_more_than_one_number_for_each_choice(case: Case, off: str, tmp_path: Path) -> None:
    models = both(case, tmp_path, **{off: False})
    inputs, targets, _ = task_inputs(case, "double-heads", models.reference.config)
    targets["mc_labels"] = torch.tensor([[3, 0], [31, 7], [2, 2]])
    ours, theirs = models.ours(**inputs, **targets), models.reference(**inputs, **targets)
    assert ours.mc_logits.shape == (3, 2, 32)
    assert difference(ours.mc_logits, theirs.mc_logits) < case.tolerance
    assert difference(ours.mc_loss, theirs.mc_loss) < case.tolerance
    assert ours.mc_loss.isfinite()


@by_name
def test_the_loss_of_tokens_alone(case: Case, tmp_path: Path) -> None:
    """Without `mc_labels` there is no loss of the choices, without labels none of the tokens."""
    models = both(case, tmp_path)
    inputs, targets, _ = task_inputs(case, "double-heads", models.reference.config)
    assert "mc_loss" not in models.ours(**inputs, labels=targets["labels"])
    assert models.ours(**inputs, mc_labels=targets["mc_labels"]).loss is None
