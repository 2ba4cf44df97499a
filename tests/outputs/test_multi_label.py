from __future__ import annotations

import math
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
from eir_seq.outputs.measure import measure
from eir_seq.outputs.multi_label.config import MultiLabelOutputConfig
from eir_seq.outputs.multi_label.output import FittedMultiLabel

COLUMNS = {"a": [True, False, True, None], "b": [False, False, True, True], "c": [None, True, False, False]}


def fitted(rows: Any = None, **options: Any) -> FittedMultiLabel:
    options = options or {"columns": list(COLUMNS)}
    output = build_output("many", MultiLabelOutputConfig(**options)).fit(rows or COLUMNS)
    assert isinstance(output, FittedMultiLabel)
    return output


def drawn(rows: int, labels: int, seed: int, unknown: float) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    target = (torch.rand(rows, labels, generator=draw) < 0.4).float()
    target[torch.rand(rows, labels, generator=draw) < unknown] = math.nan
    target[torch.arange(rows), torch.arange(rows) % labels] = 1.0  # a row has one cell at least
    return torch.randn(rows, labels, generator=draw), target


def test_columns_of_truth_values_with_gaps() -> None:
    output = fitted()
    assert output.state.positives == [2, 2, 1]
    assert output.state.negatives == [1, 2, 2]
    target = output.targets(COLUMNS)
    assert torch.equal(target.isnan().nonzero(), torch.tensor([[0, 2], [3, 0]]))
    assert target[1].tolist() == [0, 0, 1]
    assert output.truth(COLUMNS) == {
        "many_true": ['["a"]', '["c"]', '["a", "b"]', '["b"]'],
        "many_unknown": ['["c"]', "[]", "[]", '["a"]'],
    }


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (['["x", "y"]', "[]", '["y", 3, "y"]'], {"column": "t"}),
        (["x;y", "", " 3 ; y"], {"column": "t", "delimiter": ";"}),
        (['["x", "y"]', "[]", "3|y"], {"column": "t", "delimiter": "|"}),
    ],
)
def test_lists_of_labels(cells: list[str], options: dict[str, str]) -> None:
    output = fitted({"t": cells}, **options)
    assert output.labels == ["3", "x", "y"]
    assert output.targets({"t": cells}).tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("cell", ["x;y", "{}", "1", "[[1]]", '["x"', "[" * 100_000])
def test_cells_that_are_no_lists(cell: str) -> None:
    with pytest.raises(UserError, match=r"outputs\.many\.column: .*not a list of labels; .*delimiter \(row 1\)"):
        fitted({"t": ['["x"]', cell]}, column="t")


def test_labels_that_training_lacks_name_the_rows() -> None:
    output = fitted({"t": ["red;blue", "blue"]}, column="t", delimiter=";")
    with pytest.raises(UserError, match=r"label 'rde' of 't' .*did you mean 'red'\? \(row 'r1'\)"):
        output.targets({"t": ["red", "rde"]}, ["r0", "r1"])
    assert list(output.unknown_labels({"t": ["red", "rde", None]})) == [1]


@pytest.mark.parametrize(
    ("rows", "options"),
    [({"t": ["[]", "[]"]}, {"column": "t"}), ({"a": [1, 1], "b": [0, None]}, {"columns": ["a", "b"]})],
)
def test_nothing_to_learn(rows: Any, options: Any) -> None:
    with pytest.raises(UserError, match=r"outputs\.many\.columns?: .* has no label"):
        fitted(rows, **options)


def test_weights_that_name_no_label() -> None:
    with pytest.raises(UserError) as caught:
        fitted(columns=list(COLUMNS), pos_weight={"d": 1.0, "a": 0.0})
    assert [fault.place for fault in caught.value.faults] == ["outputs.many.pos_weight.d", "outputs.many.pos_weight.a"]


@pytest.mark.parametrize("weights", [None, "balanced", {"a": 3.0}])
def test_the_loss_is_the_mean_of_torchs_over_known_cells(weights: Any) -> None:
    output = fitted(columns=list(COLUMNS), pos_weight=weights)
    raw, target = drawn(20, 3, 0, 0.3)
    raw.requires_grad_()
    given = {"balanced": torch.tensor([0.5, 1.0, 2.0]), None: None}.get(
        weights if not isinstance(weights, dict) else "", torch.tensor([3.0, 1.0, 1.0])
    )
    cells = functional.binary_cross_entropy_with_logits(raw, target.nan_to_num(), pos_weight=given, reduction="none")
    known = ~target.isnan()
    total = output.loss_terms(raw, target).sum() / output.loss_counts({}, target).sum()
    assert float(total.detach()) == pytest.approx(float(cells[known].mean().detach()), rel=1e-6)
    total.backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert torch.equal(raw.grad != 0, known)
    assert measure(output, raw.detach(), target)["loss"] == pytest.approx(float(total.detach()), rel=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 30), st.integers(2, 4), st.integers(0, 2**20), st.sampled_from([0.0, 0.3]))
def test_metrics_are_those_of_scikit_learn_on_known_cells(rows: int, labels: int, seed: int, unknown: float) -> None:
    names = [f"l{index}" for index in range(labels)]
    output = fitted({name: [True, False] for name in names}, columns=names)
    raw, target = drawn(rows, labels, seed, unknown)
    found = measure(output, raw, target)
    known, true, guess = (~target.isnan()).numpy(), (target == 1).numpy(), (raw > 0).numpy()
    assert found["hamming"] == pytest.approx((true != guess)[known].mean())
    assert found["exact_match"] == pytest.approx(((true == guess) | ~known).all(axis=1).mean())
    assert found["f1_micro"] == pytest.approx(sk.f1_score(true[known], guess[known]))
    columns = [(true[known[:, i], i], guess[known[:, i], i], raw[known[:, i], i]) for i in range(labels)]
    f1 = [sk.f1_score(yes, said) for yes, said, _ in columns if yes.any() or said.any()]
    assert found["f1"] == pytest.approx(np.mean(f1))
    mixed = [(yes, score) for yes, _, score in columns if 0 < yes.sum() < len(yes)]
    for name, reference in (("auroc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)):
        assert (name in found) == bool(mixed)
        if mixed:
            assert found[name] == pytest.approx(np.mean([reference(*pair) for pair in mixed]), abs=1e-6)
        if f"{name}_micro" in found:
            assert found[f"{name}_micro"] == pytest.approx(reference(true[known], raw[known]), abs=1e-6)
    undefined = output.undefined(target)
    assert not undefined.keys() & found.keys()
    assert MultiLabelOutputConfig.monitored().keys() <= found.keys() | undefined.keys()


def test_thresholds_are_the_best_of_each_label_and_are_stored(tmp_path: Path) -> None:
    output = fitted(columns=list(COLUMNS), thresholds="f1")
    raw, target = drawn(40, 3, 3, 0.2)
    raw, target[:, 2] = raw - 1.0, 0.0
    calibrated = output.calibrated(raw, target)
    before, after = measure(output, raw, target), measure(calibrated, raw, target)
    for index, label in enumerate("ab"):
        known = ~target[:, index].isnan()
        true, logits = target[known, index].numpy(), raw[known, index].numpy()
        tried = [sk.f1_score(true, logits > x) for x in [-9.0, *logits]]  # a decision changes nowhere else
        assert after[f"f1({label})"] == pytest.approx(max(tried))
        assert after[f"f1({label})"] > before[f"f1({label})"]
    assert calibrated.state.thresholds[2] == 0.5  # no row has it
    calibrated.save(tmp_path / "many.json")
    loaded = load_output(tmp_path / "many.json")
    assert loaded.decode(raw) == calibrated.decode(raw) != output.decode(raw)
    assert loaded.describe()["thresholds"].keys() == COLUMNS.keys()


def test_the_head_begins_at_the_shares_of_the_labels() -> None:
    assert fitted().build_head(2)(torch.zeros(1, 2)).sigmoid().tolist() == [pytest.approx([2 / 3, 1 / 2, 1 / 3])]
    balanced = fitted(columns=list(COLUMNS), pos_weight="balanced").build_head(2)
    assert balanced(torch.zeros(1, 2)).tolist() == [pytest.approx([0, 0, 0], abs=1e-6)]


def test_predictions_are_lists_and_probabilities() -> None:
    columns = fitted().decode(torch.tensor([[2.0, -1.0, 3.0], [-1.0, -1.0, -1.0]]))
    assert columns["many"] == ['["a", "c"]', "[]"]
    assert list(columns) == ["many", "many_p(a)", "many_p(b)", "many_p(c)"]
    assert fitted().errors(torch.tensor([[9.0, 9.0, 9.0]]), torch.tensor([[1.0, math.nan, 1.0]])).item() < 1e-3
