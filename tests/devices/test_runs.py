"""Runs on a GPU, as far as a machine without one can tell: from reading rows to metrics and predictions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.compose import compose_experiment
from eir_seq.config.validation import validate_experiment
from eir_seq.inference.predict import predict
from eir_seq.training.network import Network
from eir_seq.training.run import train
from tests.devices.simulated import simulated_device
from tests.sampled import sampled
from tests.training.everything import INPUTS, OTHER_ENCODERS, OUTPUTS, SPAN, experiment, write_rows

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, "train", 24, seed=0)
    return folder


def losses(run: Path) -> dict[str, float]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        found = [row for row in csv.DictReader(file) if row["split"] == "validation" and row["metric"] == "loss"]
    return {row["output"]: float(row["value"]) for row in found}


def assert_same_losses(rows: Path, folder: Path, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Train on both devices, so slowly that dropout does not matter; losses of evaluations agree."""
    found = []
    for accelerator in ("cpu", "gpu"):
        given = experiment(rows, dict(inputs), dict(outputs), optimizer={"lr": 1e-12})
        given["run"]["dir"], given["trainer"]["accelerator"] = str(folder / accelerator), accelerator
        with simulated_device():
            train(validate_experiment(given))
        found.append(losses(folder / accelerator))
    assert found[0]
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_all_kinds_of_inputs(rows: Path, tmp_path: Path) -> None:
    assert_same_losses(rows, tmp_path, INPUTS, {"classification": OUTPUTS["classification"]})
    with simulated_device():
        predict(tmp_path / "gpu", output=tmp_path / "predicted.csv", test=str(rows / "train.jsonl"), accelerator="gpu")
    assert len((tmp_path / "predicted.csv").read_text().splitlines()) == 25


def test_products_in_tensor_float_32(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = experiment(rows, {"tabular": INPUTS["tabular"]}, {"classification": OUTPUTS["classification"]})
    given["run"]["dir"] = str(tmp_path / "run")
    given["trainer"] |= {"accelerator": "gpu", "precision": "tf32"}
    seen: dict[str, set[str]] = {"training": set(), "evaluation": set(), "backward": set()}
    run_network = Network.run

    def note(when: str) -> None:
        seen[when].add(torch.get_float32_matmul_precision())

    def run(self: Network, batch: Any) -> dict[str, torch.Tensor]:
        raw = run_network(self, batch)
        note("training" if self.training else "evaluation")
        if raw["classification"].requires_grad:
            raw["classification"].register_hook(lambda _: note("backward"))
        return raw

    monkeypatch.setattr(Network, "run", run)
    with simulated_device():
        train(validate_experiment(given))
        assert seen == {when: {"high"} for when in seen}
        seen["evaluation"].clear()
        predict(tmp_path / "run", output=tmp_path / "a.csv", test=str(rows / "train.jsonl"), accelerator="gpu")
        assert seen["evaluation"] == {"high"}
    seen["evaluation"].clear()
    predict(tmp_path / "run", output=tmp_path / "b.csv", test=str(rows / "train.jsonl"), accelerator="cpu")
    assert seen["evaluation"] == {"highest"} == {torch.get_float32_matmul_precision()}


@pytest.mark.parametrize("name", sampled(list(OTHER_ENCODERS), 0))
def test_other_encoders(rows: Path, tmp_path: Path, name: str) -> None:
    inputs = {"input": OTHER_ENCODERS[name]}
    assert_same_losses(rows, tmp_path, inputs, {"classification": OUTPUTS["classification"]})


@pytest.mark.parametrize("name", sampled(list(OUTPUTS), 0))
def test_each_output(rows: Path, tmp_path: Path, name: str) -> None:
    assert_same_losses(rows, tmp_path, {"tabular": INPUTS["tabular"]}, {name: OUTPUTS[name]})


def test_outputs_together(rows: Path, tmp_path: Path) -> None:
    together = {name: OUTPUTS[name] for name in ("costs", "tags", "ordinal", "gaussian", "cox", "text", "drawing")}
    assert_same_losses(rows, tmp_path, {"tabular": INPUTS["tabular"]}, together)


@pytest.mark.slow
def test_answers_in_texts(rows: Path, tmp_path: Path) -> None:
    assert_same_losses(rows, tmp_path, SPAN["inputs"], SPAN["outputs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["experiment=text_gpt2"],
        ["experiment=translate_m2m100"],
        ["experiment=summarise_t5"],
        ["experiment=pretrain_bert"],
        ["experiment=imdb_combined"],
        ["experiment=imdb_longformer", "trainer.precision=bf16-mixed", "trainer.accumulate=2"],
        ["experiment=imdb_longformer", "trainer.precision=16-mixed", "trainer.averaging.type=ema"],
        ["experiment=imdb_longformer", "trainer.precision=tf32"],
        ["experiment=imdb_longformer", "trainer.gradient_noise=0.1", "trainer.mixing.type=mixup"],
    ],
    ids=" ".join,
)
def test_experiments(tmp_path: Path, words: list[str]) -> None:
    run = tmp_path / "run"
    more = ["data.limit=64", "trainer.max_epochs=1", "trainer.accelerator=gpu", f"run.dir={run}"]
    with simulated_device():
        train(compose_experiment([*words, *more]).config)
    assert losses(run)
