"""What every kind of output declares, and what others may add."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import eir_seq
from eir_seq.config.metrics import LOSS, Metric, find_metric, nearest_metric
from eir_seq.config.schema import ExperimentConfig
from eir_seq.outputs import build_output
from eir_seq.outputs.base import Output
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.measure import OutputMetrics
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.registry import METRICS, OUTPUTS, Registry, imported

BRIER = Metric("brier", "Brier score", "min", function=f"{__name__}:brier")


def brier(output: Any, raw: Tensor, target: Tensor) -> float | None:
    probabilities = raw.double().softmax(dim=1)
    probabilities[range(len(target)), target] -= 1
    return float(probabilities.square().sum(dim=1).mean()) if output.name != "undefined" else None


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Registry("metrics", {})
    others.add("classification.brier", f"{__name__}:BRIER", "a test")
    for name in ("_targets", "_origins", "_loaded"):
        monkeypatch.setattr(METRICS, name, getattr(others, name))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_kind_declares_what_the_program_asks_for(kind: str) -> None:
    config = OUTPUTS[kind]
    implementation = imported(config.IMPLEMENTATION)
    assert issubclass(implementation, Output)
    assert implementation.STATE.model_fields["type"].default == config.model_fields["type"].default == kind
    metrics = config.metrics()
    assert len(metrics) == len(config.METRICS), "two metrics have one name"
    assert LOSS.name in config.monitored()
    assert {name for line in config.HEADLINES for name in line} <= metrics.keys()
    assert config.REPORT is None or list(inspect.signature(imported(config.REPORT)).parameters) == ["given"]


def test_no_module_outside_of_a_kind_asks_for_it_by_name() -> None:
    package = Path(eir_seq.__file__).parent
    names = [config.__name__ for config in OUTPUTS.values()]
    outside = [path for path in package.rglob("*.py") if "outputs" not in path.relative_to(package).parts[:1]]
    outside.remove(package / "registry.py")
    found = {str(path.relative_to(package)): name for path in outside for name in names if name in path.read_text()}
    assert found == {}


@pytest.mark.usefixtures("registered")
def test_a_registered_metric_is_measured_and_may_be_monitored() -> None:
    assert "brier" in ClassificationOutputConfig.monitored()
    assert "brier" not in RegressionOutputConfig.monitored()
    output = build_output("kind", ClassificationOutputConfig(column="c")).fit({"c": ["a", "b"]})
    metrics = OutputMetrics(output)
    metrics.update(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert metrics.compute()["brier"] == 0.5


@pytest.mark.usefixtures("registered")
def test_a_metric_that_is_undefined_is_absent() -> None:
    output = build_output("undefined", ClassificationOutputConfig(column="c")).fit({"c": ["a", "b"]})
    metrics = OutputMetrics(output)
    metrics.update(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert "brier" not in metrics.compute()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("f1", "f1"),
        ("f1(a)", "f1"),
        ("recall(a)", "recall"),
        ("recall", None),
        ("mcc(a)", None),
        ("f1(a", None),
        ("x", None),
    ],
)
def test_metrics_of_classes(name: str, found: str | None) -> None:
    metric = find_metric(name, ClassificationOutputConfig.metrics())
    assert (metric.name if metric else None) == found


def test_a_metric_is_found_by_its_other_names() -> None:
    known = ClassificationOutputConfig.monitored().values()
    assert nearest_metric("val/roc_auc", known) == "; did you mean 'auroc'?"
    assert nearest_metric("acuracy", known) == "; did you mean 'accuracy'?"


def test_every_kind_is_a_type_of_experiments() -> None:
    outputs = ExperimentConfig.model_json_schema()["properties"]["outputs"]
    (entry,) = outputs["patternProperties"].values()
    assert entry["discriminator"]["mapping"].keys() == OUTPUTS.keys()
