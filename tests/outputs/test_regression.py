from __future__ import annotations

import math
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
from eir_seq.outputs.measure import OutputMetrics
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.outputs.regression.output import FittedRegression, Regression

TARGETS = [1.0, 2.0, 4.0, 9.0]


def fitted(values: list[Any], **options: Any) -> FittedRegression:
    result = build_output("rating", RegressionOutputConfig(column="stars", **options)).fit({"stars": values})
    assert isinstance(result, FittedRegression)
    return result


def test_targets_are_standardized_by_the_training_rows() -> None:
    targets = fitted(TARGETS).targets({"stars": TARGETS})
    assert targets.dtype == torch.float32
    assert float(targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(targets.std(correction=0)) == pytest.approx(1, abs=1e-6)


def test_numbers_may_be_text() -> None:
    assert torch.equal(
        fitted(["1", " 2.0 ", 4, "9"]).targets({"stars": TARGETS}), fitted(TARGETS).targets({"stars": TARGETS})
    )


@pytest.mark.parametrize("bad", ["", "x", None, math.nan, math.inf, "-inf", 1e300])
def test_values_that_are_no_numbers_name_their_rows(bad: Any) -> None:
    with pytest.raises(UserError, match="not a number"):
        fitted([1.0, 2.0, bad])
    with pytest.raises(UserError, match=r"outputs\.rating\.column.*row 'r1'"):
        fitted(TARGETS).targets({"stars": [1.0, bad]}, ["r0", "r1"])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e29])
def test_a_constant_target_is_refused(constant: float) -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        fitted([constant] * 7)


def test_without_standardizing_the_head_starts_at_the_mean() -> None:
    output = fitted(TARGETS, standardize=False)
    assert output.targets({"stars": TARGETS}).tolist() == TARGETS
    assert output.build_head(3)(torch.zeros(1, 3)).item() == pytest.approx(4.0)
    assert fitted(TARGETS).build_head(3)(torch.zeros(1, 3)).item() == 0


@pytest.mark.parametrize(("loss", "expected"), [("mse", [0.25, 9.0]), ("mae", [0.5, 3.0]), ("huber", [0.125, 2.5])])
def test_losses(loss: str, expected: list[float]) -> None:
    output = fitted(TARGETS, loss=loss)
    assert output.loss(torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0])).tolist() == expected


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(0, 2**31), st.integers(1, 9))
def test_metrics_are_those_of_scikit_learn_however_the_rows_are_cut(rows: int, seed: int, batch: int) -> None:
    output = fitted(TARGETS)
    draw = torch.Generator().manual_seed(seed)
    values = (torch.randn(rows, generator=draw) * 3 + 4).round(decimals=1).double().tolist()
    target = output.targets({"stars": values})
    raw = target[:, None] + (torch.randn(rows, 1, generator=draw) * 2).round() / 2
    accumulated = OutputMetrics(output)
    for start in range(0, rows, batch):
        accumulated.update(raw[start : start + batch], target[start : start + batch])
    computed = accumulated.compute()
    predicted = np.array(output.decode(raw)["rating"])
    true = np.array(values)
    # Targets go through single precision, so values agree to about 1e-6 of their size.
    assert computed["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted), abs=1e-5)
    assert computed["rmse"] == pytest.approx(sk.root_mean_squared_error(true, predicted), abs=1e-5)
    assert computed["loss"] == pytest.approx(float(((raw[:, 0] - target) ** 2).double().mean()), rel=1e-6)
    if len(set(values)) > 1:
        assert computed["r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-4, abs=1e-5)
    if len(set(values)) > 1 and len(set(raw.flatten().tolist())) > 1:
        assert computed["pearson"] == pytest.approx(stats.pearsonr(true, predicted).statistic, abs=1e-5)
    assert all(math.isfinite(value) for value in computed.values())


def test_spearman_is_scipys() -> None:
    output = fitted(TARGETS)
    raw = torch.tensor([[0.1], [0.5], [0.5], [-1.0], [2.0]])
    target = torch.tensor([0.0, 1.0, 2.0, 2.0, 3.0])
    metrics = OutputMetrics(output)
    metrics.update(raw, target)
    expected = stats.spearmanr(raw[:, 0].numpy(), target.numpy()).statistic
    assert metrics.compute()["spearman"] == pytest.approx(expected, abs=1e-6)


def test_declared_metrics_are_those_computed() -> None:
    output = fitted(TARGETS)
    metrics = OutputMetrics(output)
    metrics.update(torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0.0, 2.0, 1.0]))
    assert set(metrics.compute()) == RegressionOutputConfig.metrics().keys() - output.config.unmeasured().keys()


@pytest.mark.parametrize(
    ("raw", "target", "absent"),
    [
        ([[1.0]], [2.0], {"r2", "explained_variance", "pearson", "spearman"}),
        ([[1.0], [2.0]], [2.0, 2.0], {"r2", "explained_variance", "pearson", "spearman"}),
        ([[1.0], [1.0]], [2.0, 3.0], {"pearson", "spearman"}),
    ],
)
def test_undefined_metrics_are_absent(raw: list[list[float]], target: list[float], absent: set[str]) -> None:
    output = fitted(TARGETS)
    metrics = OutputMetrics(output)
    metrics.update(torch.tensor(raw), torch.tensor(target))
    declared = RegressionOutputConfig.metrics().keys() - output.config.unmeasured().keys()
    assert declared - set(metrics.compute()) == absent


def test_predictions_and_errors_are_in_the_targets_units() -> None:
    output = fitted(TARGETS)
    raw = output.targets({"stars": [1.0, 9.0]})[:, None]
    assert output.decode(raw) == {"rating": [pytest.approx(1, abs=1e-6), pytest.approx(9, abs=1e-6)]}
    assert output.errors(raw, output.targets({"stars": [2.0, 6.0]})).tolist() == pytest.approx([1, 3], abs=1e-6)


def test_saved_and_loaded_output_is_the_same(tmp_path: Path) -> None:
    output = fitted(TARGETS, loss="huber")
    output.save(tmp_path / "rating.json")
    loaded = load_output(tmp_path / "rating.json")
    assert isinstance(loaded, FittedRegression)
    assert loaded.state == output.state


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ('{"type": "regre', "not JSON"),
        ("[]", "not a saved output"),
        ('{"type": "ranking"}', "none of classification, regression"),
        ('{"type": "regression", "name": "rating"}', "config"),
        (
            '{"type": "classification", "name": "k", "config": {"column": "l"}, "classes": ["a", "a"], "counts": [1]}',
            "do not belong together",
        ),
    ],
)
def test_files_that_are_no_saved_output(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "rating.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_output(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-4, 1.0, 1e15, 1e28])
def test_metrics_do_not_depend_on_the_unit(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(50, generator=draw, dtype=torch.float64).tolist()
    raw = torch.randn(50, 1, generator=draw)
    found = []
    for unit in (1.0, scale):
        fitted = Regression("score", RegressionOutputConfig(column="score")).fit({"score": [x * unit for x in values]})
        metrics = fitted.evaluate(raw, fitted.targets({"score": [x * unit for x in values]}))
        found.append({name: x / unit if name in ("mae", "rmse") else x for name, x in metrics.items()})
    assert set(found[0]) == {
        "loss", "mae", "rmse", "mape", "r2", "explained_variance", "pearson", "spearman"
    }  # fmt: skip
    assert found[1] == pytest.approx(found[0], rel=1e-5)  # targets are in single precision


def test_targets_whose_loss_would_overflow_are_named() -> None:
    fitted = Regression("score", RegressionOutputConfig(column="score")).fit({"score": [1e-300, 2e-300]})
    with pytest.raises(UserError, match=r"0.5 in column 'score' is more than 1e\+15 standard deviations .*\(row 'b'\)"):
        fitted.targets({"score": [1e-300, 0.5]}, ["a", "b"])


def test_numbers_that_single_precision_takes_for_zero_need_a_scale() -> None:
    config = RegressionOutputConfig(column="score", standardize=False)
    with pytest.raises(UserError, match=r"1e-300, which single precision takes for 0 .*standardize=true"):
        Regression("score", config).fit({"score": [1.0, 1e-300]})
