"""Regression of several columns, and predictions other than a number: rates, quantiles, Gaussians."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from torch.nn import functional

from eir_seq.errors import UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.measure import measure
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.outputs.regression.output import FittedRegression

ROWS: dict[str, list[Any]] = {"h": [1.0, 2.0, 4.0, 9.0, None], "w": [10.0, None, 30.0, 20.0, 60.0]}
COUNTS = [0, 1, 4, 7, 3]


def fitted(rows: Any = ROWS, **options: Any) -> FittedRegression:
    options = options if "column" in options else {"columns": list(rows), **options}
    output = build_output("y", RegressionOutputConfig(**options)).fit(rows)
    assert isinstance(output, FittedRegression)
    return output


def raw_of(output: FittedRegression, rows: int) -> torch.Tensor:
    return torch.randn(rows, output.output_size, generator=torch.Generator().manual_seed(0))


def test_each_column_has_its_own_scale_and_gaps() -> None:
    output = fitted()
    assert output.state.mean == [4.0, 30.0]
    target = output.targets(ROWS)
    assert target.shape == (5, 2)
    assert target.isnan().nonzero().tolist() == [[1, 1], [4, 0]]
    assert output.truth(ROWS) == {"y_true(h)": [1.0, 2.0, 4.0, 9.0, ""], "y_true(w)": [10.0, "", 30.0, 20.0, 60.0]}
    assert list(output.decode(raw_of(output, 5))) == ["y(h)", "y(w)"]
    assert output.build_head(3)(torch.zeros(1, 3)).tolist() == [[0, 0]]


@pytest.mark.parametrize("loss", ["mse", "mae", "smooth-l1", "huber", "quantile", "gaussian"])
def test_the_loss_is_the_mean_over_columns_of_the_rows_that_have_them(loss: Any) -> None:
    both = fitted(loss=loss)
    raw, target = raw_of(both, 5).requires_grad_(), both.targets(ROWS)
    terms = both.loss_terms(raw, target)
    total = (terms.sum(dim=0) / both.loss_counts({}, target).sum(dim=0)).sum()
    single, width = [], both.form.width
    for index, column in enumerate(ROWS):
        there = ~target[:, index].isnan()
        alone = fitted({column: [x for x in ROWS[column] if x is not None]}, column=column, loss=loss)
        single.append(alone.loss(raw[there, index * width : (index + 1) * width], target[there, index]).mean())
    assert float(total.detach()) == pytest.approx(float(sum(single).detach()) / 2, rel=1e-6)  # type: ignore[union-attr]
    total.backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad.reshape(5, 2, -1)[target.isnan()].abs().sum() == 0
    assert measure(both, raw.detach(), target)["loss"] == pytest.approx(float(total.detach()), rel=1e-5)


def test_metrics_are_means_over_columns_and_of_known_cells() -> None:
    output = fitted()
    raw, target = raw_of(output, 5), output.targets(ROWS)
    found, predicted = measure(output, raw, target), output.decode(raw)
    for column, values in ROWS.items():
        known = [row for row, value in enumerate(values) if value is not None]
        true, guess = np.array(values, float)[known], np.array(predicted[f"y({column})"])[known]
        for name, reference in (
            ("mae", sk.mean_absolute_error),
            ("rmse", sk.root_mean_squared_error),
            ("mape", sk.mean_absolute_percentage_error),
            ("r2", sk.r2_score),
            ("explained_variance", sk.explained_variance_score),
        ):
            assert found[f"{name}({column})"] == pytest.approx(reference(true, guess), rel=1e-5)
    assert found["r2"] == pytest.approx((found["r2(h)"] + found["r2(w)"]) / 2)
    assert output.parts == ["h", "w"]
    undefined = output.undefined(target[1:2])
    assert undefined["mae(w)"] == "no row has a value"
    assert "r2" in undefined
    assert "mae" not in undefined
    assert not undefined.keys() & measure(output, raw[1:2], target[1:2]).keys()


def test_errors_of_several_columns_are_in_standard_deviations() -> None:
    output = fitted()
    target = output.targets(ROWS)
    raw = target.nan_to_num() + torch.tensor([[1.0, 0.0], [2.0, 5.0], [0.0, 3.0], [0.0, 0.0], [7.0, 1.0]])
    assert output.errors(raw, target).tolist() == pytest.approx([0.5, 2, 1.5, 0, 1], abs=1e-5)


def test_smooth_l1_and_huber_have_their_point_of_change() -> None:
    raw, target = torch.tensor([[0.5], [3.0]]), torch.zeros(2)
    rows = {"h": [1.0, 2.0]}
    for loss, reference in (("smooth-l1", functional.smooth_l1_loss), ("huber", functional.huber_loss)):
        found = fitted(rows, column="h", loss=loss, delta=2.0).loss(raw, target)
        arguments = {"beta" if loss == "smooth-l1" else "delta": 2.0}
        assert torch.equal(found, reference(raw[:, 0], target, reduction="none", **arguments))


def test_counts() -> None:
    output = fitted({"n": COUNTS}, column="n", loss="poisson")
    target = output.targets({"n": COUNTS})
    assert target.tolist() == COUNTS
    head = output.build_head(2)
    assert output.decode(head(torch.zeros(1, 2)))["y"] == [pytest.approx(3.0)]
    raw = raw_of(output, 5)
    expected = functional.poisson_nll_loss(raw[:, 0], target, reduction="none")
    assert torch.equal(output.loss(raw, target), expected)
    found = measure(output, raw, target)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(COUNTS, raw[:, 0].exp()), rel=1e-6)
    assert "mape" in output.undefined(target)
    assert "mape" not in found
    with pytest.raises(UserError, match=r"column 'n' is -1, which no count is .*\(row 'b'\)"):
        output.targets({"n": [1, -1]}, ["a", "b"])
    with pytest.raises(UserError, match="0 on all 2 training rows"):
        fitted({"n": [0, 0]}, column="n", loss="poisson")


def test_quantiles_never_cross_and_their_loss_is_scikit_learns() -> None:
    levels = [0.1, 0.5, 0.8, 0.9]
    values = [1.0, 2.0, 4.0, 9.0, 3.0]
    output = fitted({"h": values}, column="h", loss="quantile", quantiles=levels)
    raw, target = raw_of(output, 5) * 20, output.targets({"h": values})
    bounds = output.form.bounds(raw)
    assert (bounds.diff(dim=1) >= 0).all()
    pinball = [sk.mean_pinball_loss(target, bounds[:, i], alpha=level) for i, level in enumerate(levels)]
    assert float(output.loss(raw, target).mean()) == pytest.approx(np.mean(pinball), rel=1e-5)
    columns = output.decode(raw)
    assert list(columns) == ["y", "y_q0.1", "y_q0.5", "y_q0.8", "y_q0.9"]
    assert columns["y"] == columns["y_q0.5"]
    start = np.array(list(output.decode(output.build_head(2)(torch.zeros(1, 2))).values()))[1:, 0]
    normal = stats.norm(np.mean(values), np.std(values))
    assert start == pytest.approx(normal.ppf(levels), rel=1e-4)


def test_gaussians_have_the_likelihood_of_scipy() -> None:
    values = [1.0, 2.0, 4.0, 9.0, 3.0]
    output = fitted({"h": values}, column="h", loss="gaussian", standardize=False)
    raw, target = raw_of(output, 5), output.targets({"h": values})
    columns = output.decode(raw)
    assert list(columns) == ["y", "y_std"]
    expected = -stats.norm(columns["y"], columns["y_std"]).logpdf(values)
    assert output.loss(raw, target).tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    start = output.decode(output.build_head(2)(torch.zeros(1, 2)))
    assert start["y"] == [pytest.approx(np.mean(values))]
    assert start["y_std"] == [pytest.approx(np.std(values), rel=1e-3)]


@pytest.mark.parametrize("loss", ["quantile", "gaussian"])
def test_calibrated_predictions_have_their_coverage(loss: Any) -> None:
    draw = np.random.default_rng(0)
    values = (draw.normal(size=4000) * 3 + 10).tolist()
    output = fitted({"h": values}, column="h", loss=loss)
    raw = output.build_head(2)(torch.zeros(4000, 2)).detach()  # quantiles of all rows, which are those of a normal
    found = measure(output, raw, output.targets({"h": values}))
    nominal, width = (0.8, 2 * 1.2816) if loss == "quantile" else (0.9, 2 * 1.6449)
    assert found["coverage"] == pytest.approx(nominal, abs=0.02)  # 3 standard errors of a share
    assert found["calibration_error"] < 0.02
    assert found["interval_width"] == pytest.approx(width * np.std(values), rel=0.01)


@pytest.mark.parametrize("options", [{"columns": ["h", "w"]}, {"columns": ["h", "w"], "loss": "gaussian"}])
def test_what_is_saved_is_restored(options: Any, tmp_path: Path) -> None:
    output = fitted(ROWS, **options)
    output.save(tmp_path / "y.json")
    loaded = load_output(tmp_path / "y.json")
    assert loaded.state == output.state
    assert loaded.decode(raw_of(output, 3)) == output.decode(raw_of(output, 3))


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    text = '{"type": "regression", "name": "y", "config": {"column": "h"}, "rows": 3, "mean": 2.0, "deviation": 0.5}'
    (tmp_path / "y.json").write_text(text)
    assert load_output(tmp_path / "y.json").decode(torch.tensor([[2.0]])) == {"y": [3.0]}


def test_faults_of_all_columns_are_reported() -> None:
    with pytest.raises(UserError) as caught:
        fitted({"a": [1.0, 1.0], "b": ["x", 2.0], "c": [None, None]}, columns=["a", "b", "c"])
    text = str(caught.value)
    assert "column 'a' is 1 on all 2 training rows" in text
    assert "'x' in column 'b' is not a number" in text
    assert "column 'c' has no training rows" in text
    assert all(fault.place == "outputs.y.columns" for fault in caught.value.faults)
    assert math.isnan(fitted().targets({"h": [None], "w": [1.0]})[0, 0].item())


@pytest.mark.parametrize("options", [{"columns": ["h", "w"], "loss": "gaussian"}, {"columns": ["h", "w"]}])
def test_a_batch_without_a_target(options: Any) -> None:
    output = fitted(ROWS, **options)
    assert output.loss_terms(torch.zeros(0, output.output_size), torch.zeros(0, 2)).shape == (0, 2)
    assert output.loss_counts({}, torch.zeros(0, 2)).shape == (0, 2)
