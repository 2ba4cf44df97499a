"""Metrics that targets leave undefined are known before anything is predicted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from eir_seq.outputs import build_output
from eir_seq.outputs.causal_lm.config import CausalLmOutputConfig
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.masked_lm.config import MaskedLmOutputConfig
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.outputs.replaced_token_detection.config import ReplacedTokenDetectionOutputConfig
from eir_seq.outputs.token_classification.config import TokenClassificationOutputConfig

CLASSES = ClassificationOutputConfig(column="c")
NUMBER = RegressionOutputConfig(column="c")
TAGS = TokenClassificationOutputConfig(column="c", input="x")
LM = CausalLmOutputConfig(input="x")
MANY = [f"class {i % 101}" for i in range(202)]


def tags(*rows: str) -> list[str]:
    return [json.dumps(row.split()) for row in rows]


@pytest.mark.parametrize(
    ("config", "training", "rows", "wanted"),
    [
        (CLASSES, ["a", "b", "c"] * 2, ["a", "b", "c"], ""),
        (CLASSES, ["a", "b"] * 2, ["a", "b"], ""),
        (CLASSES, ["a", "b"] * 2, ["b", "b"], "all 2 rows are of class 'b'"),
        (CLASSES, ["a", "b", "c"] * 2, ["a"], "there is one row, of class 'a'"),
        (CLASSES, ["a", "b", "c"] * 2, ["a", "b"], "no row is of class 'c'"),
        (CLASSES, MANY, MANY[:50], "up to 100 classes"),
        (CLASSES, MANY, MANY[:1], "there is one row, of class 'class 0'"),
        (NUMBER, [1.0, 2.0, 4.0], [1.0, 3.0], ""),
        (NUMBER, [1.0, 2.0, 4.0], [3.0, 3.0], "the target of all 2 rows is 3"),
        (NUMBER, [1.0, 2.0, 4.0], [3.0], "there is one row"),
        (TAGS, tags("O B-X I-X", "O O"), tags("O O"), ""),
        (TAGS, tags("NOUN VERB", "VERB"), tags("VERB NOUN"), "mark no entities"),
    ],
)
def test_undefined_metrics_are_those_that_no_prediction_defines(
    config: Any, training: list[Any], rows: list[Any], wanted: str
) -> None:
    output = build_output("y", config).fit({"c": training})
    target = output.targets({"c": rows})
    shape = (*target.shape, output.output_size)
    raw = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if config is TAGS:
        raw[..., -1] = (target >= 0).float()
    known = config.monitored().keys() - config.unmeasured().keys()
    if config is CLASSES:
        of_classes = [name for name, metric in config.metrics().items() if metric.per_class]
        known |= {f"{metric}({name})" for metric in of_classes for name in output.classes}
    found = output.undefined(target)
    assert set(found) == known - set(output.evaluate(raw, target))
    assert all(reason for reason in found.values())
    assert bool(wanted) == bool(found)
    assert any(wanted in reason for reason in found.values()) or not wanted


def test_bytes_that_are_not_known() -> None:
    output = build_output("y", LM).fit({})
    raw = torch.tensor([[3.0, 2.0]])
    for target in (torch.zeros(1), torch.ones(1)):
        unknown = set(LM.metrics()) - set(output.evaluate(raw, target)) - LM.unmeasured().keys()
        assert set(output.undefined(target)) == unknown


@pytest.mark.parametrize("config", [LM, MaskedLmOutputConfig(input="x"), ReplacedTokenDetectionOutputConfig(input="x")])
def test_rows_without_a_token_to_be_found_have_no_loss(config: Any) -> None:
    output = build_output("y", config).fit({})
    raw = torch.zeros(2, output.output_size)
    assert output.evaluate(raw, torch.ones(2)) == {}
