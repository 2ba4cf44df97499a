from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from eir_seq.inference.report_curves import running_mean
from eir_seq.outputs.classes.statistics import (
    Curve,
    calibration,
    class_rows,
    confusion_matrix,
    mean_curve,
    precision_recall_curve,
    roc_curve,
    subsampled,
)

SCORED = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])), min_size=1, max_size=40)


@settings(deadline=None)
@given(SCORED)
def test_curves_are_those_of_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    positive = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    roc, precision_recall = roc_curve(positive, scores), precision_recall_curve(positive, scores)
    if positive.all() or not positive.any():
        assert roc is None
        assert precision_recall is None
        return
    assert roc is not None
    assert precision_recall is not None
    x, y, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.x, x, atol=1e-12)
    np.testing.assert_allclose(roc.y, y, atol=1e-12)
    assert roc.area == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert precision_recall.area == pytest.approx(sk.average_precision_score(positive, scores), abs=1e-12)
    precision, recall, _ = sk.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(precision_recall.y[1:], precision[-2::-1], atol=1e-12)
    np.testing.assert_allclose(precision_recall.x[1:], recall[-2::-1], atol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_confusion_and_class_rows_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    true, predicted = np.array(rows).T
    confusion = confusion_matrix(true, predicted, 4)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(true, predicted, labels=range(4)))
    expected = sk.precision_recall_fscore_support(true, predicted, labels=range(4), zero_division=np.nan)
    for index, row in enumerate(class_rows(list("abcd"), confusion, [None] * 4, [None] * 4)):
        assert row.support == expected[3][index]
        for value, wanted in ((row.precision, expected[0][index]), (row.recall, expected[1][index])):
            assert (value is None) == bool(np.isnan(wanted))
            if value is not None:
                assert value == pytest.approx(wanted, abs=1e-12)
        assert (row.f1 is None) == (row.support + row.predicted == 0)


def test_calibration_error_is_the_weighted_gap() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    result = calibration(np.array([0, 1, 1, 1]), probabilities)
    # 0.9 twice with one of two right; 0.6 right; 1.0 right.
    assert result.error == pytest.approx((2 * 0.4 + 0.4 + 0.0) / 4)
    assert result.counts.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 2, 1]


def test_calibration_of_perfectly_sure_and_right_predictions_is_zero() -> None:
    assert calibration(np.array([0, 1]), np.eye(2)).error == 0


def test_running_mean_takes_the_neighbours_that_there_are() -> None:
    assert running_mean([0.0, 3.0, 6.0, 0.0]) == [1.5, 3.0, 3.0, 3.0]
    assert running_mean([2.0] * 100) == [2.0] * 100


def test_mean_and_thinned_curves_keep_area_and_ends() -> None:
    line = Curve(np.linspace(0, 1, 5000), np.linspace(0, 1, 5000) ** 2, 1 / 3)
    short = subsampled(line, 100)
    assert len(short.x) <= 100
    assert (short.x[0], short.x[-1], short.area) == (0, 1, 1 / 3)
    assert mean_curve([line, Curve(line.x, 1 - line.y, 2 / 3)]).y == pytest.approx(0.5, abs=1e-6)
