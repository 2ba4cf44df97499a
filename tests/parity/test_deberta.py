"""Deberta beside the table of parity: its own losses, and distances at the lengths of real texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.cases.base import Case, bertish
from tests.parity.harness import difference, inputs_of, pair

TOLERANCE = 1e-5
SOFT = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [1.0, 0.0, 0.0]])
LOSSES: dict[str, tuple[dict[str, Any], Tensor]] = {
    "classes": ({"num_labels": 3}, torch.tensor([2, 0, 1])),
    "unknown_class": ({"num_labels": 3}, torch.tensor([2, -1, 1])),
    "no_known_class": ({"num_labels": 3}, torch.tensor([-1, -1, -1])),
    "shares_of_classes": ({"num_labels": 3}, SOFT),
    "one_value": ({"num_labels": 1}, torch.tensor([0.3, -2.0, 1.0])),
    "several_values": ({"num_labels": 3, "problem_type": "regression"}, SOFT),
    "several_classes": ({"num_labels": 3, "problem_type": "multi_label_classification"}, SOFT.round()),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_losses(model_type: str, name: str, tmp_path: Path) -> None:
    options, labels = LOSSES[name]
    both = pair(Case(model_type, bertish()), "sequence-classification", tmp_path, **options)
    inputs = inputs_of(Case(model_type, bertish()), both.reference.config)
    theirs, ours = both.reference(**inputs, labels=labels), both.ours(**inputs, labels=labels)
    assert difference(ours.loss, theirs.loss) < TOLERANCE
    ours.loss.backward()


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_distances_that_nothing_is_compared_with(model_type: str, tmp_path: Path) -> None:
    """The documented defaults: a table of distances that nobody reads."""
    case = Case(model_type, bertish(relative_attention=True))
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    theirs, ours = both.reference(**inputs).last_hidden_state, both.ours(**inputs).last_hidden_state
    assert difference(ours, theirs, inputs["attention_mask"].bool()) < TOLERANCE
    assert both.ours.load_report.unused == ()


@pytest.mark.parametrize(
    "options",
    [
        {"position_buckets": 32, "share_att_key": True, "max_position_embeddings": 128},
        {"position_buckets": 256, "max_position_embeddings": 512},
        {"max_relative_positions": 30},
    ],
    ids=str,
)
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_long_texts(options: dict[str, Any], pack: bool, tmp_path: Path) -> None:
    """Distances that share rows, on a logarithmic scale or beyond the farthest one."""
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    both = pair(Case("deberta-v2", bertish(**relative, **options)), "base", tmp_path)
    both.ours.pack = pack
    mask = (torch.arange(300)[None] < torch.tensor([300, 171])[:, None]).long()
    inputs = {"input_ids": torch.randint(11, 120, (2, 300)), "attention_mask": mask}
    theirs, ours = both.reference(**inputs).last_hidden_state, both.ours(**inputs).last_hidden_state
    assert difference(ours, theirs, mask.bool()) < TOLERANCE
