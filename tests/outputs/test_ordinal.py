from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from eir_seq.errors import UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.measure import measure
from eir_seq.outputs.ordinal.config import OrdinalOutputConfig
from eir_seq.outputs.ordinal.output import CumulativeLink, FittedOrdinal

ORDER = ["low", "mid", "high"]
ROWS = ["high", "low", "mid", "low"]


def fitted(values: Any = ROWS, **options: Any) -> FittedOrdinal:
    options = {"order": ORDER, **options}
    output = build_output("grade", OrdinalOutputConfig(column="g", **options)).fit({"g": values})
    assert isinstance(output, FittedOrdinal)
    return output


def cuts(rows: int, levels: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, levels - 1, generator=draw).sort(dim=1).values


def test_levels_are_in_the_order_given_or_that_of_numbers() -> None:
    assert fitted().targets({"g": ["low", "high"]}).tolist() == [0, 2]
    assert fitted().describe()["levels"] == {"low": 2, "mid": 1, "high": 1}
    assert fitted([10, 9, 2.0, "9"], order=None).levels == ["2", "9", "10"]


def test_values_that_are_no_level() -> None:
    with pytest.raises(UserError, match=r"outputs\.grade\.order: is missing; the levels .*'high', 'low', 'mid'"):
        fitted(order=None)
    with pytest.raises(UserError, match=r"'mdi' .* \(low, mid, high\); did you mean 'mid'\? \(row 'r1'\)"):
        fitted().targets({"g": ["low", "mdi"]}, ["r0", "r1"])
    with pytest.raises(UserError, match="'best' in column 'g' is not one of the levels"):
        fitted([*ROWS, "best"])
    with pytest.raises(UserError, match=r"has 1 level \('low'\)"):
        fitted(["low", "low"])
    assert list(fitted().unknown_labels({"g": ["low", "best", None]})) == [1]


@pytest.mark.parametrize(("link", "distribution"), [("logit", stats.logistic), ("probit", stats.norm)])
def test_probabilities_are_differences_of_the_distribution(link: str, distribution: Any) -> None:
    output, raw = fitted(link=link), cuts(30, 3, 0).double()
    below = distribution.cdf(np.pad(raw.numpy(), ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf))))
    expected = np.diff(below, axis=1)
    found = output.probabilities(raw)
    assert found.numpy() == pytest.approx(expected, abs=1e-12)
    target = torch.arange(30) % 3
    losses = -np.log(expected[np.arange(30), target])
    assert output.loss(raw.float(), target).tolist() == pytest.approx(losses.tolist(), rel=1e-4)


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("score", [-60.0, -9.0, 0.0, 9.0, 60.0])
def test_far_scores_have_finite_losses_and_gradients(link: str, score: float) -> None:
    raw = (torch.tensor([[-0.5, 0.5]]) - score).expand(3, 2).clone().requires_grad_()
    loss = fitted(link=link).loss(raw, torch.arange(3))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite().all()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_the_head_begins_at_the_shares_and_keeps_its_order(link: str) -> None:
    head = fitted(link=link).build_head(4)
    assert fitted(link=link).probabilities(head(torch.zeros(1, 4))).tolist() == [
        pytest.approx([0.5, 0.25, 0.25], abs=1e-3)
    ]
    module = CumulativeLink(2, [-1.0, 0.0, 2.0])
    assert module(torch.zeros(1, 2)).tolist() == [pytest.approx([-1, 0, 2], abs=1e-5)]
    with torch.no_grad():
        module.steps.fill_(-50.0)
    assert (module(torch.randn(5, 2)).diff(dim=1) > 0).all()


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 40), st.integers(0, 2**20))
def test_metrics_are_those_of_scikit_learn(rows: int, seed: int) -> None:
    output, raw = fitted(), cuts(rows, 3, seed)
    target = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(seed))
    found = measure(output, raw, target)
    probabilities = output.probabilities(raw).numpy()
    guess = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(target, guess))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(target, guess))
    assert found["loss"] == pytest.approx(sk.log_loss(target, probabilities, labels=[0, 1, 2]), rel=1e-5)
    if len(set(target.tolist())) > 1:
        kappa = sk.cohen_kappa_score(target, guess, labels=[0, 1, 2], weights="quadratic")
        assert found["kappa"] == pytest.approx(kappa)
        expected = probabilities @ [0, 1, 2]
        assert found["spearman"] == pytest.approx(stats.spearmanr(expected, target).statistic, abs=1e-5)
    assert output.undefined(target).keys() == OrdinalOutputConfig.metrics().keys() - found.keys()


def test_predictions_and_what_is_saved(tmp_path: Path) -> None:
    output, raw = fitted(link="probit"), torch.tensor([[9.0, 12.0], [-12.0, -9.0], [-2.0, 2.0]])
    columns = output.decode(raw)
    assert columns["grade"] == ["low", "high", "mid"]
    assert columns["grade_rank"] == pytest.approx([1, 3, 2], abs=1e-6)
    assert list(columns)[2:] == ["grade_p(low)", "grade_p(mid)", "grade_p(high)"]
    output.save(tmp_path / "grade.json")
    loaded = load_output(tmp_path / "grade.json")
    assert loaded.state == output.state
    assert loaded.decode(raw) == columns
