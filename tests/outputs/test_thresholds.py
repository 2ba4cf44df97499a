"""Decision thresholds, against an exhaustive search; and outputs that choose them on validation rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional

from eir_seq.errors import UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.classes.names import DECISION_METRICS
from eir_seq.outputs.classes.thresholds import best_shift, best_shifts
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.classification.output import FittedClassification
from eir_seq.outputs.measure import measure

REFERENCES: dict[str, Any] = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "f1": lambda true, guess: sk.f1_score(true, guess, average="macro"),
    "mcc": sk.matthews_corrcoef,
}


def drawn(rows: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = torch.cat([torch.arange(classes), torch.randint(0, classes, (rows - classes,), generator=draw)])
    skew = torch.linspace(1, -1, classes)
    return torch.randn(rows, classes, generator=draw) + functional.one_hot(target, classes) + skew, target


def fitted(classes: int = 2, **options: Any) -> FittedClassification:
    output = build_output("k", ClassificationOutputConfig(column="c", **options))
    found = output.fit({"c": [str(row % classes) for row in range(12)]})
    assert isinstance(found, FittedClassification)
    return found


@settings(deadline=None, max_examples=12)
@given(st.sampled_from(DECISION_METRICS), st.integers(3, 15), st.integers(0, 2**20), st.sampled_from([1.0, 100.0]))
def test_the_shift_of_one_class_is_the_best_there_is(metric: str, rows: int, seed: int, grid: float) -> None:
    raw, target = drawn(rows, 3, seed)
    scores = ((raw * grid).round() / grid).double().numpy()  # equal margins, too
    shift, value = best_shift(scores, target.numpy(), 1, metric)

    def reached(by: float) -> float:
        moved = scores.copy()
        moved[:, 1] += by
        return float(REFERENCES[metric](target.numpy(), moved.argmax(axis=1)))

    changes = np.unique((scores[:, [0, 2]].max(axis=1) - scores[:, 1]).round(9))
    tried = np.concatenate([changes - 1e-6, changes + 1e-6])  # a decision changes nowhere else
    assert value >= max(map(reached, tried)) - 1e-9  # between two close changes there may be a better one
    assert reached(shift) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("metric", [*DECISION_METRICS, "f1(1)"])
@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
def test_thresholds_improve_the_metric_and_are_stored(metric: str, loss: str, tmp_path: Path) -> None:
    raw, target = drawn(60, 3, 1)
    output = fitted(3, thresholds=metric, loss=loss)
    calibrated = output.calibrated(raw, target)
    assert measure(calibrated, raw, target)[metric] > measure(output, raw, target)[metric]
    assert calibrated.calibrated(raw, target).state == calibrated.state
    calibrated.save(tmp_path / "k.json")
    loaded = load_output(tmp_path / "k.json")
    assert loaded.state == calibrated.state
    assert loaded.decode(raw) == calibrated.decode(raw) != output.decode(raw)
    guess = torch.tensor([int(name) for name in loaded.decode(raw)["k"]])
    assert measure(loaded, raw, target)["accuracy"] == pytest.approx(sk.accuracy_score(target, guess))


def test_where_nothing_improves_nothing_is_shifted() -> None:
    scores = np.log([[0.9, 0.1], [0.2, 0.8]])
    assert best_shifts(scores, np.array([0, 1]), "f1").tolist() == [0, 0]
    output = fitted()
    assert output.calibrated(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])) is output


def test_two_classes_have_a_threshold_each_and_they_sum_to_one() -> None:
    raw = torch.tensor([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.9, 0.1]]).log()
    calibrated = fitted(thresholds="f1(1)").calibrated(raw, torch.tensor([0, 1, 1, 0]))
    assert isinstance(calibrated, FittedClassification)
    low, high = calibrated.state.thresholds
    assert low + high == pytest.approx(1)
    assert 0.2 < high < 0.3


def test_the_class_with_the_lowest_expected_cost_is_predicted() -> None:
    output = fitted(3, costs={"0": {"1": 5.0}, "2": {"0": 0.25}})
    raw = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    target = torch.arange(40) % 3
    costs = np.array([[0, 5, 1], [1, 0, 1], [0.25, 1, 0]])
    guess = (raw.double().softmax(dim=1).numpy() @ costs).argmin(axis=1)
    assert output.decode(raw)["k"] == [str(index) for index in guess]
    assert measure(output, raw, target)["cost"] == pytest.approx(costs[target, guess].mean())


def test_unknown_classes_and_negative_costs_are_all_reported() -> None:
    with pytest.raises(UserError) as caught:
        fitted(costs={"0": {"1": -1.0}, "zero": {"1": 1.0}, "1": {"one": 2.0}})
    assert {fault.place for fault in caught.value.faults} == {
        "outputs.k.costs.zero", "outputs.k.costs.1.one", "outputs.k.costs.0.1"
    }  # fmt: skip
    with pytest.raises(UserError, match=r"outputs\.k\.thresholds: '2' is not a class of column 'c'"):
        fitted(thresholds="f1(2)")


def test_binary_cross_entropy_is_that_of_torch_and_weighted_by_the_class_of_the_row() -> None:
    raw, target = drawn(20, 3, 2)
    expected = functional.binary_cross_entropy_with_logits(raw, functional.one_hot(target, 3).float(), reduction="none")
    assert fitted(3, loss="bce").loss(raw, target).tolist() == pytest.approx(expected.sum(dim=1).tolist())
    weights = {"0": 1.0, "1": 2.0, "2": 3.0}
    weighted = fitted(3, loss="bce", class_weights=weights).loss(raw, target)
    given = torch.tensor([0.5, 1.0, 1.5])  # a mean of 1 over the training rows
    assert weighted.tolist() == pytest.approx((expected.sum(dim=1) * given[target]).tolist())
    probabilities = fitted(3, loss="bce").decode(raw)["k_p(1)"]
    assert probabilities == pytest.approx(raw[:, 1].double().sigmoid().tolist())
    assert fitted(3, loss="bce").errors(raw, target).tolist() == pytest.approx(
        [-float(raw[row, of].double().sigmoid().log()) for row, of in enumerate(target.tolist())]
    )
    head = fitted(3, loss="bce").build_head(4)
    assert head(torch.zeros(1, 4)).sigmoid().tolist() == [pytest.approx([1 / 3] * 3)]


def test_weights_by_the_effective_number_of_rows() -> None:
    labels = ["a"] * 90 + ["b"] * 10
    config = ClassificationOutputConfig(column="c", class_weights="effective", effective_beta=0.99)
    found: Any = build_output("k", config).fit({"c": labels})
    effective = np.array([(1 - 0.99**90) / 0.01, (1 - 0.99**10) / 0.01])
    weights = 1 / effective * 100 / (1 / effective @ np.array([90, 10]))
    assert found.state.weights == pytest.approx(weights.tolist())
