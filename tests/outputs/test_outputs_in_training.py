"""The outputs together, from a config to a table of predictions: rows with gaps, heads, thresholds, resuming."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.heads import MlpResidualHeadConfig, SharedHeadConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.fusion.heads import TrunkHead, build_trunks
from eir_seq.inference.predict import predict
from eir_seq.inference.report import RunFiles
from eir_seq.inference.report_sections import output_sections
from eir_seq.models.output import TokenStates
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from tests.training.stopping import stopped_after

SHARED = {"type": "shared", "num_experts": 2, "num_layers": 1, "hidden_size": 8}
OUTPUTS: dict[str, Any] = {
    "mood": {"type": "classification", "column": "mood", "loss": "bce", "thresholds": "f1", "head": SHARED},
    "many": {"type": "multi_label", "columns": ["a", "b"], "pos_weight": "balanced", "thresholds": "f1"},
    "tags": {"type": "multi_label", "column": "tags", "delimiter": ";", "head": "mlp-residual"},
    "grade": {"type": "ordinal", "column": "grade", "order": ["low", "mid", "high"], "head": SHARED},
    "size": {"type": "regression", "columns": ["h", "w"], "loss": "gaussian", "head": SHARED},
    "stars": {"type": "regression", "column": "stars", "loss": "quantile"},
}


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def write_rows(path: Path, rows: int) -> Path:
    """Targets that the words tell; every third row lacks one of two labels, every fourth one of two numbers."""
    draw = random.Random(path.stem)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "mood", "a", "b", "tags", "grade", "h", "w", "stars"])
        for row in range(rows):
            words = draw.choices(["warm", "cold", "day", "kind"], k=8)
            warm, kind = words.count("warm"), words.count("kind")
            labels: list[Any] = [int(warm > 1), int(kind > 1)]
            numbers: list[Any] = [warm / 10, 50 + 10 * kind]
            if row % 3 == 0:
                labels[row % 2] = ""
            if row % 4 == 0:
                numbers[row // 4 % 2] = ""
            tags = ";".join([word for word in ("warm", "cold") if word in words] or ["none"])
            grade = ["low", "mid", "high"][min(warm, 2)]
            mood = "good" if warm + kind > 5 else "bad"
            writer.writerow([f"{path.stem}{row}", " ".join(words), mood, *labels, tags, grade, *numbers, kind])
    return path


def experiment(folder: Path, run: str = "run") -> ExperimentConfig:
    for name, rows in (("train", 120), ("validation", 60), ("test", 40)):
        if not (folder / f"{name}.csv").exists():
            write_rows(folder / f"{name}.csv", rows)
    model = {"model_type": "sequence-default", "model_init_config": {}}
    return validate_experiment(
        {
            "data": {
                **{name: str(folder / f"{name}.csv") for name in ("train", "validation", "test")},
                "id": "id",
                "batch_size": 16,
                "on_missing": "keep",
            },
            "inputs": {"text": {"type": "sequence", "column": "text", "max_length": 12, "model": model}},
            "fusion": {"type": "concat"},
            "outputs": OUTPUTS,
            "optimizer": {"type": "adamw", "lr": 0.01},
            "trainer": {"max_epochs": 2, "accelerator": "cpu"},
            "run": {"dir": str(folder / run)},
            "cache": {"dir": str(folder / "cache")},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    train(experiment(folder))
    return folder


def test_predict_has_the_results_and_thresholds_of_the_run(finished: Path) -> None:
    run = finished / "run"
    result = json.loads((run / "result.json").read_text())
    table = predict(run, test=str(finished / "test.csv"), output=finished / "out.csv")
    assert table.read_bytes() == (run / "predictions" / "test.csv").read_bytes()
    assert json.loads((finished / "out.metrics.json").read_text()) == result["test"]
    outputs = read_bundle(run / "bundle").outputs
    assert outputs["many"].describe()["thresholds"].keys() == {"a", "b"}
    rows = list(csv.DictReader((run / "predictions" / "test.csv").open()))
    thresholds = outputs["mood"].describe()["thresholds"]
    for row in rows:
        expected = max(("bad", "good"), key=lambda name: float(row[f"mood_p({name})"]) / thresholds[name])
        assert row["mood"] == expected
        chosen = [
            name for name, at in outputs["many"].describe()["thresholds"].items() if float(row[f"many_p({name})"]) > at
        ]
        assert json.loads(row["many"]) == chosen


def test_gaps_are_left_out_and_shown(finished: Path) -> None:
    given = list(csv.DictReader((finished / "test.csv").open()))
    rows = list(csv.DictReader((finished / "run" / "predictions" / "test.csv").open()))
    for before, row in zip(given, rows, strict=True):
        assert json.loads(row["many_unknown"]) == [name for name in "ab" if before[name] == ""]
        assert (row["size_true(h)"] == "") == (before["h"] == "")
        assert float(row["size_std(h)"]) > 0
    described = read_bundle(finished / "run" / "bundle").outputs["many"].state
    training = list(csv.DictReader((finished / "train.csv").open()))
    assert described.positives == [sum(row[name] == "1" for row in training) for name in "ab"]  # type: ignore[attr-defined]


def test_the_report_shows_every_output(finished: Path) -> None:
    run = RunFiles.read(finished / "run")
    shown = output_sections(run.metrics, {"test": run.predictions["test"]}, run.kinds, run.data)
    sections = {output.name: split.shown for output in shown for split in output.splits}
    assert sections.keys() == OUTPUTS.keys()
    assert all(section.plots and section.worst for section in sections.values())
    assert any("Thresholds, chosen on" in note for note in sections["mood"].notes)
    assert [len(row) for row in sections["many"].tables[0].rows] == [9, 9]
    assert [name for name, _ in sections["grade"].matrix] == ["low", "mid", "high"]
    captions = {name: [table.caption for table in section.tables] for name, section in sections.items()}
    assert captions["size"] == ["By column", "Coverage of h", "Coverage of w"]
    assert captions["stars"] == ["Coverage of stars"]


def test_a_stopped_run_chooses_the_same_thresholds(finished: Path) -> None:
    with stopped_after(11):
        train(experiment(finished, "stopped"))
    train(experiment(finished, "stopped"))
    for name in (
        "bundle/model.safetensors",
        "predictions/test.csv",
        *(f"bundle/outputs/{name}.json" for name in OUTPUTS),
    ):
        assert (finished / "stopped" / name).read_bytes() == (finished / "run" / name).read_bytes(), name


def test_shared_heads_share_experts_and_have_gates_of_their_own(finished: Path) -> None:
    network = read_bundle(finished / "run" / "bundle").network
    heads = {name: network.head(name) for name in OUTPUTS}
    sharing = [heads[name] for name in ("mood", "grade", "size")]
    assert all(isinstance(head, TrunkHead) for head in sharing)
    experts = [dict(head.trunk.experts.named_parameters()) for head in sharing]  # type: ignore[union-attr]
    assert all(found[name] is value for found in experts for name, value in experts[0].items())
    gates = [head.trunk.gate.weight for head in sharing]  # type: ignore[union-attr]
    assert not torch.equal(gates[0], gates[1])  # type: ignore[arg-type]
    assert isinstance(heads["tags"], TrunkHead)
    assert not isinstance(heads["many"], TrunkHead)


def test_a_gate_mixes_the_experts_for_vectors_and_tokens_alike() -> None:
    config = SharedHeadConfig(num_experts=3, num_layers=1)
    trunks = build_trunks({"a": config, "b": config}, {"a": 4, "b": 4})
    trunk: Any = trunks["a"].eval()
    x = torch.randn(2, 5, 4)
    weights = trunk.gate(x).softmax(dim=-1)
    expected = sum(weights[..., index : index + 1] * expert(x) for index, expert in enumerate(trunk.experts))
    assert torch.allclose(trunk(x), expected, atol=1e-6)
    assert torch.allclose(trunk(x[:, 0]), expected[:, 0], atol=1e-6)

    class Out(torch.nn.Module):
        def forward(self, tokens: Any) -> torch.Tensor:
            states: torch.Tensor = tokens.states if isinstance(tokens, TokenStates) else tokens
            return states

    head = TrunkHead(trunk, Out())
    assert torch.equal(head(TokenStates(x, torch.ones(2, 5, dtype=torch.bool))), head(x))


def test_widths_of_heads() -> None:
    found = build_trunks({"a": MlpResidualHeadConfig(), "b": MlpResidualHeadConfig(hidden_size=3)}, {"a": 4, "b": 4})
    assert {name: trunk(torch.zeros(2, 4)).shape[1] for name, trunk in found.items()} == {"a": 4, "b": 3}
    with pytest.raises(UserError, match=r"outputs\.b\.head: reads 5 features, and outputs\.a of the same group 4"):
        build_trunks(dict.fromkeys("ab", SharedHeadConfig()), {"a": 4, "b": 5})
