from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional

from eir_seq.errors import RunFailed, UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.classes.names import sorted_classes
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.classification.output import FittedClassification
from eir_seq.outputs.measure import OutputMetrics


def fitted(labels: list[Any], **options: Any) -> FittedClassification:
    config = ClassificationOutputConfig(column="label", **options)
    result = build_output("kind", config).fit({"label": labels})
    assert isinstance(result, FittedClassification)
    return result


LETTERS = ["b", "a", "c", "a", "a", "b"]


def test_classes_are_sorted_and_counted() -> None:
    output = fitted(LETTERS)
    assert output.classes == ["a", "b", "c"]
    assert output.state.counts == [3, 2, 1]
    assert output.targets({"label": ["c", "a"]}).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "-1", "2.5"], ["-1", "2.5", "9", "10"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["nan", "2"], ["2", "nan"]),
    ],
)
def test_numbers_sort_by_value(names: list[str], expected: list[str]) -> None:
    assert sorted_classes(names) == expected


def test_whole_floats_and_integers_are_one_class() -> None:
    output = fitted([0, 1, 1])
    assert output.targets({"label": [1.0, "0", np.int64(1)]}).tolist() == [1, 0, 1]


def test_a_class_that_training_lacks_names_the_rows_and_the_nearest_class() -> None:
    output = fitted(["positive", "negative"])
    with pytest.raises(UserError) as caught:
        output.targets({"label": ["positive", "postive", "postive", "neutral"]}, ["r0", "r1", "r2", "r3"])
    first, second = map(str, caught.value.faults)
    assert "outputs.kind.column" in first
    assert "did you mean 'positive'?" in first
    assert "rows 'r1', 'r2'" in first
    assert "'neutral'" in second
    assert "row 'r3'" in second


@pytest.mark.parametrize("labels", [[], ["a", "a"], list(range(30))])
def test_columns_that_are_no_classes(labels: list[Any]) -> None:
    with pytest.raises(UserError, match=r"outputs\.kind\.column"):
        fitted(labels)


def test_class_weights_that_do_not_fit_the_classes_are_all_reported() -> None:
    with pytest.raises(UserError) as caught:
        fitted(["alpha", "beta", "gamma"], class_weights={"alpa": 1.0, "beta": -1.0})
    text = str(caught.value)
    assert "class_weights.alpa: not a class of column 'label'; did you mean 'alpha'?" in text
    assert "class_weights.beta: -1.0 is not a weight" in text
    assert "no weight for 'alpha', 'gamma'" in text


@pytest.mark.parametrize("weights", ["balanced", {"a": 0.5, "b": 2.0, "c": 4.0}, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_over_the_training_rows_is_torchs_weighted_mean(weights: Any, smoothing: float) -> None:
    output = fitted(LETTERS, class_weights=weights, label_smoothing=smoothing)
    raw = torch.randn(len(LETTERS), 3, generator=torch.Generator().manual_seed(0))
    target = output.targets({"label": LETTERS})
    by_class = {"balanced": [2 / 3, 1.0, 2.0], None: [1.0, 1.0, 1.0]}.get(
        weights if weights in ("balanced", None) else 0
    )
    weight = torch.tensor(by_class or [0.5, 2.0, 4.0])
    expected = functional.cross_entropy(raw, target, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(output.loss(raw, target).mean(), expected)


def test_focal_loss_is_its_definition() -> None:
    output = fitted(LETTERS, loss="focal", focal_gamma=2.0)
    raw, target = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), output.targets({"label": LETTERS})
    p = raw.softmax(1)[torch.arange(6), target]
    torch.testing.assert_close(output.loss(raw, target), -((1 - p) ** 2) * p.log())


def test_focal_loss_with_gamma_zero_is_cross_entropy() -> None:
    focal, plain = fitted(LETTERS, loss="focal", focal_gamma=0.0), fitted(LETTERS)
    raw, target = torch.randn(6, 3), plain.targets({"label": LETTERS})
    torch.testing.assert_close(focal.loss(raw, target), plain.loss(raw, target))


def test_focal_loss_has_finite_gradients_where_the_row_is_certain() -> None:
    output = fitted(["a", "b"], loss="focal", focal_gamma=0.5)
    raw = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    output.loss(raw, torch.tensor([0, 0])).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad[1].abs().sum() > 0


def test_head_starts_at_the_class_shares() -> None:
    output = fitted(LETTERS, dropout=0.5)
    head = output.build_head(4).eval()
    raw = head(torch.zeros(2, 4))
    torch.testing.assert_close(raw.softmax(1)[0], torch.tensor([3 / 6, 2 / 6, 1 / 6]))
    balanced = fitted(LETTERS, class_weights="balanced").build_head(4).eval()
    torch.testing.assert_close(balanced(torch.zeros(1, 4)).softmax(1)[0], torch.full((3,), 1 / 3))


def test_dropout_of_the_head_acts_in_training_only() -> None:
    head = fitted(LETTERS, dropout=0.5).build_head(64)
    features = torch.ones(1, 64)
    torch.manual_seed(0)
    assert not torch.equal(head.train()(features), head(features))
    assert torch.equal(head.eval()(features), head(features))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 5).flatmap(
        lambda size: st.tuples(st.just(size), st.lists(st.integers(0, size - 1), min_size=1, max_size=40))
    ),
    st.integers(0, 2**31),
    st.integers(1, 9),
)
def test_metrics_are_those_of_scikit_learn_however_the_rows_are_cut(
    classes: tuple[int, list[int]], seed: int, batch: int
) -> None:
    size, labels = classes
    output = fitted(list(range(size)) * 2)
    # Rounding makes ties, which ranks have to handle.
    raw = (torch.randn(len(labels), size, generator=torch.Generator().manual_seed(seed)) * 4).round() / 4
    target = torch.tensor(labels)
    accumulated = OutputMetrics(output)
    for start in range(0, len(labels), batch):
        accumulated.update(raw[start : start + batch], target[start : start + batch])
    values = accumulated.compute()

    whole = OutputMetrics(output)
    whole.update(raw, target)
    assert values == whole.compute()
    assert all(math.isfinite(value) for value in values.values())

    predicted, probabilities = raw.argmax(1).numpy(), raw.double().softmax(1).numpy()
    true = target.numpy()
    exact = {
        "loss": sk.log_loss(true, probabilities, labels=list(range(size))),
        "accuracy": sk.accuracy_score(true, predicted),
        "balanced_accuracy": np.mean(sk.recall_score(true, predicted, labels=np.unique(true), average=None)),
        "f1": sk.f1_score(true, predicted, average="macro", zero_division=0),
    }
    for name, value in exact.items():
        assert values[name] == pytest.approx(value, abs=1e-6 if name == "loss" else 1e-12)
    if len(np.unique(true)) == 1:
        assert not {"mcc", "auroc", "average_precision"} & set(values)
        return
    assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(true, predicted), abs=1e-12)
    aurocs, precisions = [], []
    for index in np.unique(true):
        score = probabilities[:, index]
        aurocs.append(sk.roc_auc_score(true == index, score))
        precisions.append(sk.average_precision_score(true == index, score))
        # torchmetrics takes rates in single precision.
        assert values[f"auroc({index})"] == pytest.approx(aurocs[-1], abs=1e-6)
        assert values[f"average_precision({index})"] == pytest.approx(precisions[-1], abs=1e-6)
        assert values[f"recall({index})"] == pytest.approx(
            sk.recall_score(true, predicted, labels=[index], average="macro"), abs=1e-12
        )
        assert values[f"precision({index})"] == pytest.approx(
            sk.precision_score(true, predicted, labels=[index], average="macro", zero_division=0), abs=1e-12
        )
    assert values["auroc"] == pytest.approx(np.mean(aurocs), abs=1e-6)
    assert values["average_precision"] == pytest.approx(np.mean(precisions), abs=1e-6)


def test_declared_metrics_are_those_computed() -> None:
    output = fitted(LETTERS)
    metrics = OutputMetrics(output)
    metrics.update(torch.randn(6, 3), output.targets({"label": LETTERS}))
    names = set(metrics.compute())
    assert {name for name in names if "(" not in name} == ClassificationOutputConfig.monitored().keys() - {"cost"}
    assert {name for name in names if "(" in name} == {
        f"{metric}({label})"
        for metric, declared in ClassificationOutputConfig.metrics().items()
        if declared.per_class
        for label in "abc"
    }


def test_rank_metrics_tell_rows_apart_whose_single_precision_probability_is_one() -> None:
    output = fitted(["a", "b"])
    metrics = OutputMetrics(output)
    metrics.update(torch.tensor([[0.0, 20.0], [0.0, 25.0], [0.0, 30.0]]), torch.tensor([0, 1, 1]))
    assert metrics.compute()["auroc"] == 1.0


def test_metrics_without_rows_and_after_reset() -> None:
    output = fitted(LETTERS)
    metrics = OutputMetrics(output)
    assert metrics.compute() == {}
    metrics.update(torch.randn(2, 3), torch.tensor([0, 1]))
    metrics.reset()
    assert metrics.compute() == {}


def test_outputs_that_are_not_finite_fail_the_run() -> None:
    metrics = OutputMetrics(fitted(LETTERS))
    metrics.update(torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 1]))
    with pytest.raises(RunFailed, match="1 of 2 rows"):
        metrics.compute()


def test_many_classes_have_no_metrics_of_their_own() -> None:
    labels = list(range(101)) * 2
    output = fitted(labels)
    metrics = OutputMetrics(output)
    metrics.update(torch.randn(len(labels), 101), output.targets({"label": labels}))
    assert set(metrics.compute()) == ClassificationOutputConfig.monitored().keys() - {"cost"}


def test_decode_gives_labels_and_probabilities() -> None:
    columns = fitted(LETTERS).decode(torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]))
    assert list(columns) == ["kind", "kind_p(a)", "kind_p(b)", "kind_p(c)"]
    assert columns["kind"] == ["b", "a"]
    assert sum(columns[f"kind_p({name})"][0] for name in "abc") == pytest.approx(1, abs=1e-12)


def test_errors_grow_with_the_wrongness() -> None:
    output = fitted(["a", "b"], label_smoothing=0.3, class_weights={"a": 5.0, "b": 1.0})
    errors = output.errors(torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 5.0]]), torch.tensor([0, 0, 0]))
    assert errors.argsort(descending=True).tolist() == [2, 1, 0]
    torch.testing.assert_close(errors[1].float(), torch.tensor([3.0, 0.0]).logsumexp(0))


def test_saved_and_loaded_output_is_the_same(tmp_path: Any) -> None:
    output = fitted(LETTERS, class_weights="balanced", loss="focal", label_smoothing=0.1)
    path = tmp_path / "kind.json"
    output.save(path)
    loaded = load_output(path)
    assert isinstance(loaded, FittedClassification)
    assert loaded.state == output.state
    raw, target = torch.randn(6, 3), output.targets({"label": LETTERS})
    assert torch.equal(loaded.loss(raw, target), output.loss(raw, target))
    assert [entry.name for entry in tmp_path.iterdir()] == ["kind.json"]
