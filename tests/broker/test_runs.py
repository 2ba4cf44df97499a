"""Messages through whole runs: what only they can bring, resuming, bundles, and rows that lack an input."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import RunFiles, render_report
from eir_seq.training.assemble import assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.objective import batch_loss
from eir_seq.training.run import train
from tests.broker.rows import MESSAGE, experiment, write_rows
from tests.training.stopping import stopped_after
from tests.training.table import TINY, table_experiment
from tests.training.test_text_from_states import BART
from tests.training.test_text_from_states import experiment as text_experiment

BERT = {"model_type": "bert", "model_init_config": {**TINY, "num_hidden_layers": 2}}
ADVERSARY = {"from": "inputs.right", "predict": "inputs.left", "weight": 0.1, "warmup": 0.5, "dropout": 0.1}


pytestmark = pytest.mark.usefixtures("one_thread")


def weights(run: Path) -> bytes:
    return (run / "bundle" / "model.safetensors").read_bytes()


def predicted(table: Path) -> list[float]:
    with table.open() as file:
        return [float(row["target"]) for row in csv.DictReader(file)]


def test_a_target_is_learned_from_an_input_that_only_a_message_brings(tmp_path: Path) -> None:
    trainer = {"max_epochs": 4, "train_metrics": False}
    result = train(experiment(tmp_path, broker=[MESSAGE], trainer=trainer, optimizer={"type": "adamw", "lr": 0.05}))
    assert result["test"]["target"]["r2"] > 0.85
    table = predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "out.csv")
    assert predicted(table) == predicted(tmp_path / "run" / "predictions" / "test.csv")
    first, again = (read_bundle(tmp_path / "run" / "bundle").network for _ in range(2))
    assert first.broker is not None
    assert first.broker.shapes() == {"inputs.left:output": [8], "outputs.target:input": [8]}
    assert {name for name in first.public_tensors() if name.startswith("broker.")} == {
        "broker.0.project.linear.weight",
        "broker.0.project.linear.bias",
    }
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in first.state_dict().items())
    start = {"run": str(tmp_path / "run"), "load": {"broker": "broker"}}
    with Console() as console:
        warm = assemble(experiment(tmp_path, broker=[MESSAGE], start_from=start), console).network.public_tensors()
    assert torch.equal(warm["broker.0.project.linear.weight"], first.public_tensors()["broker.0.project.linear.weight"])
    page = render_report(RunFiles.read(tmp_path / "run"))
    assert "inputs.left to outputs.target a message (linear, additive)" in page
    assert "inputs.left → outputs.target (linear, additive)" in page


def test_a_stopped_run_resumes_exactly(tmp_path: Path) -> None:
    def config(run: str) -> Any:
        trainer = {"max_epochs": 2, "checkpoint_every": 2, "averaging": {"type": "ema", "decay": 0.9}}
        broker = [{**MESSAGE, "dropout": 0.3}]
        sections: dict[str, Any] = {"broker": broker, "adversaries": [ADVERSARY], "trainer": trainer}
        return experiment(tmp_path, rows=60, run={"dir": str(tmp_path / run)}, **sections)

    train(config("whole"))
    with stopped_after(5):
        train(config("stopped"))
    train(config("stopped"))
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    metrics = [(tmp_path / run / "metrics.csv").read_bytes() for run in ("stopped", "whole")]
    assert metrics[0] == metrics[1]
    assert b"train,adversaries[0],loss" in metrics[0]


@pytest.mark.slow
def test_nothing_is_learned_without_the_message(tmp_path: Path) -> None:
    assert train(experiment(tmp_path))["test"]["target"]["r2"] < 0.1


@pytest.mark.slow
def test_rows_that_lack_the_source_get_no_message(tmp_path: Path) -> None:
    """The prediction of such a row is that of the other input alone, whatever is in its batch."""
    train(experiment(tmp_path, lacking=True, broker=[MESSAGE], data={"on_missing": "keep"}))

    def of(lacking: set[int], name: str) -> list[float]:
        write_rows(tmp_path / f"{name}.csv", 6, 3)
        header, *rows = [line.split(",") for line in (tmp_path / f"{name}.csv").read_text().splitlines()]
        for place in lacking:
            rows[place][1] = ""
        lines = [",".join(cells) for cells in (header, *rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        path = predict(tmp_path / "run", test=str(tmp_path / f"{name}.csv"), output=tmp_path / f"{name}.out.csv")
        return predicted(path)

    whole, mixed, absent = of(set(), "whole"), of({3, 4, 5}, "mixed"), of(set(range(6)), "absent")
    assert mixed == pytest.approx(whole[:3] + absent[3:], rel=1e-5)
    assert np.std(absent) < np.std(whole) / 4


@pytest.mark.slow
def test_a_decoder_writes_what_a_message_tells(tmp_path: Path) -> None:
    """The decoder reads the animal; the colour comes by a message to it, for beams and in `predict` too."""
    config = text_experiment(tmp_path, {"model_type": "bart", "model_init_config": BART})
    config["outputs"]["said"] |= {"inputs": ["right"], "generation": {"num_beams": 2}}
    config["broker"] = [{"from": "inputs.left", "to": "outputs.said.decoder.layers.0", "fusion": "additive"}]
    config["scheduler"] = {"type": "constant"}
    config["trainer"] |= {"max_epochs": 22, "validate_every": 198}
    config["optimizer"] |= {"lr": 0.01}
    assert train(validate_experiment(config))["test"]["said"]["exact_match"] > 0.9
    table = predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "out.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["said"] == row["said_true"] for row in rows) >= 11
    with (tmp_path / "test.csv").open() as file:
        asked = list(csv.DictReader(file))
    alone = Predictor(read_bundle(tmp_path / "run" / "bundle"))
    for row, there in zip(asked[:4], rows, strict=False):
        (found,) = alone.predict([{name: row[name] for name in ("colour", "animal")}])
        assert found["said"] == there["said"]
        assert found["said_score"] == pytest.approx(float(there["said_score"]), abs=1e-4)


def test_layers_under_checkpointing_and_packed_texts(tmp_path: Path) -> None:
    """Messages between layers of a text give the same gradients with activation checkpointing, and rows alone the same
    outputs as among longer ones."""

    def gradients(**model: Any) -> tuple[dict[str, Tensor], Any, Any]:
        text = {"type": "sequence", "column": "text", "max_length": 12, "model": {**BERT, **model}}
        broker = [
            {"from": "inputs.text.layers.0", "to": "inputs.text.layers.1.mlp", "fusion": "additive"},
            {"from": "inputs.text.layers.0.mixer", "to": "outputs.mood", "fusion": "concat", "dropout": 0.2},
        ]
        with Console() as console:
            parts = assemble(table_experiment(tmp_path, inputs={"text": text}, broker=broker), console)
        torch.manual_seed(0)
        (batch, *_) = parts.data.val_dataloader()
        batch_loss(parts.network.train(), parts.outputs, batch, torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
        found = {name: p.grad for name, p in parts.network.named_parameters() if p.grad is not None}
        return found, parts, batch

    plain, parts, batch = gradients()
    again, *_ = gradients(gradient_checkpointing=True)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert any(name.startswith("broker.") for name in plain)
    network = parts.network.eval()
    whole = network.run(batch)["mood"]
    lengths = batch["inputs"]["text"]["attention_mask"].sum(dim=1)
    assert len(set(lengths.tolist())) > 1
    for row, length in enumerate(lengths.tolist()):
        text = {name: x[row : row + 1, :length] for name, x in batch["inputs"]["text"].items()}
        torch.testing.assert_close(network.run({"inputs": {"text": text}})["mood"], whole[row : row + 1])


def test_what_is_wrong_is_said_before_training(tmp_path: Path) -> None:
    def said(*broker: dict[str, Any], **changes: Any) -> str:
        with pytest.raises(UserError) as caught:
            check(table_experiment(tmp_path, broker=list(broker), **changes))
        return str(caught.value)

    found = said(
        {"from": "inputs.text.layer.0", "to": "fusion.blocks.0"},
        {"from": "inputs.text.body.layers", "to": "fusion.blocks.0"},
        {"from": "fusion.blocks.0", "to": "inputs.text.layers.0"},
        {"from": "inputs.text.embeddings", "to": "fusion", "into": "input"},
        {"from": "fusion.projct", "to": "outputs.mood"},
    )
    assert found.splitlines() == [
        "broker[0].from: there is no layer 'inputs.text.layer.0'; did you mean 'inputs.text.layers.0'?",
        "broker[4].from: there is no layer 'fusion.projct'; did you mean 'fusion.project'?",
        "broker[1].from: inputs.text.backbone.body.layers does not run in a forward pass; name a layer within it or "
        "around it",
        "broker[2].to: the input of inputs.text.backbone.body.layers.0 runs before fusion.blocks.0",
    ]
    shared = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    text = {"model": {"model_type": "albert", "model_init_config": shared | {"embedding_size": 8}}}
    config = {"text": {"type": "sequence", "column": "text", "max_length": 12, **text}}
    layer = {"from": "inputs.text.embeddings", "to": "inputs.text.mixer"}
    assert "runs 2 times in a forward pass; name a layer that runs once" in said(layer, inputs=config)
    identity = {"from": "inputs.text", "to": "outputs.mood", "projection": "identity"}
    found = said(identity, fusion={"hidden_size": 4})
    assert found == "broker[0]: 'identity' needs equal shapes, which are 8 and 4"
    heads = {"from": "inputs.text", "to": "outputs.mood", "fusion": {"type": "cross-attention", "num_heads": 3}}
    assert said(heads) == "broker[0]: 3 attention heads do not divide the width 8"
