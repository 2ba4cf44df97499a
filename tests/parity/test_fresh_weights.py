"""Fresh weights have the moments of the reference's: every tensor, every architecture."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from eir_seq.models import create_model
from eir_seq.models.catalogue import architecture
from eir_seq.models.checkpoint.keymap import Unused
from tests.parity.cases import CASES, Case
from tests.parity.harness import transformers

PLAIN = [case for case in CASES if "@" not in case.name]
SIGMAS = 6.0
"""A deviation estimated from n draws is off by one over the square root of 2n, relatively; six times that is never."""


def moments(tensor: Tensor) -> tuple[float, float]:
    return float(tensor.double().mean()), float(tensor.double().std(unbiased=False))


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_moments_of_fresh_weights(case: Case) -> None:
    cls = getattr(transformers, architecture(case.model_type).tasks["base"].published)
    config = transformers.CONFIG_MAPPING[case.model_type](**{**case.options, **case.reference_only})
    torch.manual_seed(0)
    theirs = dict(cls(copy.deepcopy(config)).named_parameters())
    torch.manual_seed(0)
    model = create_model(case.model_type, case.options)
    ours = model.published_tensors()
    unread = {row.published for row in model.declared.body_rows(model.config) if isinstance(row, Unused)}
    wrong = []
    for name, tensor in ours.items():
        if name not in theirs or name in unread:
            continue
        (mean, deviation), (their_mean, their_deviation) = moments(tensor), moments(theirs[name])
        count = tensor.numel()
        allowed = SIGMAS * max(deviation, their_deviation) / count**0.5
        if abs(mean - their_mean) > 1.5 * allowed + 1e-9 or abs(deviation - their_deviation) > allowed + 1e-9:
            wrong.append(
                f"{name}: {mean:.4f} ± {deviation:.4f}, the reference {their_mean:.4f} ± {their_deviation:.4f}"
            )
    assert not wrong, "\n".join(wrong)
