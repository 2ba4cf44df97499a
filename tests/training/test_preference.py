"""Preferences: the loss by its formula, the reference at the start and in a resumed run, what is refused."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.models.names import adapters
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.preference.config import PreferenceOutputConfig
from eir_seq.outputs.preference.output import FittedPreference
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from tests.training.conversations import PREFERENCE, experiment, questions, raw, with_model, write_json_lines

RAW = torch.tensor([[-3.0, -5.0, -4.0, -4.5, 2.0, 5.0, 1.0], [-6.0, -2.0, -5.0, -2.5, 3.0, 1.0, 1.0]])
"""Log-likelihoods of both answers, those of the reference, their tokens, and that there is one."""


pytestmark = pytest.mark.usefixtures("one_thread")


def fitted(**options: Any) -> FittedPreference:
    given = {"input": "chat", "prompt": "q", "chosen": "a", "rejected": "b", **options}
    output = build_output("answer", PreferenceOutputConfig(**given)).fit({})
    assert isinstance(output, FittedPreference)
    return output


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_the_paper(smoothing: float) -> None:
    output = fitted(beta=0.5, label_smoothing=smoothing)
    gains = [(-3 + 4) - (-5 + 4.5), (-6 + 5) - (-2 + 2.5)]
    expected = [
        -(1 - smoothing) * math.log(1 / (1 + math.exp(-0.5 * gain)))
        - smoothing * math.log(1 / (1 + math.exp(0.5 * gain)))
        for gain in gains
    ]
    assert output.loss_terms(RAW, torch.zeros(2))[:, 0].tolist() == pytest.approx(expected)
    values = output.evaluate(RAW, torch.zeros(2))
    rewards = {"chosen_reward": 0.5 * (1 - 1) / 2, "rejected_reward": 0.5 * (-0.5 + 0.5) / 2}
    assert values == pytest.approx(
        {"loss": sum(expected) / 2, "accuracy": 0.5, "margin": 0.5 * sum(gains) / 2, **rewards}
    )
    assert output.decode(RAW) == {"answer_margin": pytest.approx([0.5 * gain for gain in gains])}


def test_ipo_is_a_squared_error_per_token() -> None:
    output = fitted(beta=0.5, loss="ipo")
    gains = [1 / 2 - -0.5 / 5, -1 / 3 - 0.5 / 1]
    expected = [(gain - 1 / (2 * 0.5)) ** 2 for gain in gains]
    assert output.loss_terms(RAW, torch.zeros(2))[:, 0].tolist() == pytest.approx(expected)


def test_without_a_reference_nothing_is_measured() -> None:
    unknown = RAW * torch.tensor([1.0, 1, 0, 0, 1, 1, 0])
    assert fitted().evaluate(unknown, torch.zeros(2)) == {}
    assert fitted().decode(unknown) == {}


def test_saved_and_loaded(tmp_path: Path) -> None:
    output = fitted(beta=0.3)
    output.save(tmp_path / "answer.json")
    assert load_output(tmp_path / "answer.json").state == output.state


# ----------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned to answer, with its pairs next to it."""
    folder = tmp_path_factory.mktemp("start")
    write_json_lines(folder / "train.jsonl", questions(40))
    train(experiment(folder, trainer={"max_epochs": 2}, data={"id": "id"}))
    return folder


def pairs(folder: Path, start: Path, *, lora: bool, **changes: Any) -> dict[str, Any]:
    write_json_lines(folder / "train.jsonl", questions(40))
    model = {"model_type": str(start / "run" / "pretrained" / "chat"), "pretrained_model": True}
    given = {**model, "lora": {"rank": 4, "dropout": 0.1}} if lora else model
    outputs = {"answer": PREFERENCE}
    return {
        "inputs": with_model(given),
        "outputs": outputs,
        "data": {"id": "id"},
        "optimizer": {"type": "adamw", "lr": 0.003},
        **changes,
    }


def measured(parts: Parts) -> dict[str, float]:
    output, rows, network = parts.outputs["answer"], [], parts.network.eval()
    with torch.no_grad():
        for batch in parts.batches("validation"):
            rows.append(network.run(batch)["answer"])
    raw_ = torch.cat(rows)
    return output.evaluate(raw_, torch.zeros(len(raw_)))


@pytest.mark.parametrize("lora", [True, False])
def test_at_the_start_the_loss_is_log_2(tmp_path: Path, start: Path, lora: bool) -> None:
    parts = assemble(experiment(tmp_path, **pairs(tmp_path, start, lora=lora)), Console())
    values = measured(parts)
    assert values["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert values["margin"] == pytest.approx(0, abs=1e-6)
    encoder: Any = parts.network.encoder("chat")
    assert bool(adapters(encoder.backbone)) == lora
    names = [name for name, _ in encoder.named_parameters()]
    assert all(name.startswith("backbone.") for name in names), "a copy is not among the weights of the network"
    batch = next(iter(parts.data.train_dataloader()))
    raw_ = parts.network.train().run(batch)["answer"]
    loss: Any = parts.outputs["answer"].loss_terms(raw_, torch.zeros(len(raw_))).sum()
    loss.backward()
    moved = [name for name, own in encoder.named_parameters() if own.grad is not None and own.grad.abs().sum() > 0]
    assert moved
    assert all(".lora." in name for name in moved) == lora
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * parameter.requires_grad)
    after = measured(parts)
    assert abs(after["margin"]) > 1e-4, "the reference has not moved"
    assert all(layer.lora is not None for layer in map(encoder.backbone.get_submodule, adapters(encoder.backbone)))


def test_the_reference_is_the_model_of_the_start(tmp_path: Path, start: Path) -> None:
    """By the log-likelihoods of transformers, with the prompt's labels at -100."""
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    parts = assemble(experiment(tmp_path, **pairs(tmp_path, start, lora=True)), Console())
    model = transformers.LlamaForCausalLM.from_pretrained(start / "run" / "pretrained" / "chat").eval()
    batch = next(iter(parts.batches("validation")))
    with torch.no_grad():
        raw_ = parts.network.eval().run(batch)["answer"]
    own = batch["inputs"]["chat"]
    for text in range(4):
        length = int(own["attention_mask"][text].sum())
        labels = own["labels"][text : text + 1, :length]
        output = model(own["input_ids"][text : text + 1, :length], labels=labels)
        expected = -output.loss.item() * int((labels >= 0).sum())
        row, answer = divmod(text, 2)
        assert raw_[row, answer].item() == pytest.approx(expected, rel=1e-5)
        assert raw_[row, answer + 2].item() == pytest.approx(expected, rel=1e-5)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("lora", [pytest.param(True, marks=pytest.mark.slow), False])
def test_margins_rise_and_a_killed_run_ends_alike(
    tmp_path: Path, start: Path, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = pairs(tmp_path, start, lora=lora)
    trainer = {"max_epochs": 3, "checkpoint_every": 3}
    train(experiment(tmp_path, **changes, trainer=trainer))
    lines = read_metrics(tmp_path / "run" / "metrics.csv")
    margins = [line.value for line in lines if (line.split, line.metric) == ("validation", "margin")]
    assert margins == sorted(margins), "of held-out pairs"
    assert margins[0] > 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["validation"]["answer"]["accuracy"] > 0.9
    step = Console.step

    def deadly(self: Console, now: int, *others: Any) -> None:
        if now == 8:
            raise Killed
        step(self, now, *others)

    other = experiment(tmp_path, **changes, trainer=trainer, run={"dir": str(tmp_path / "other")})
    monkeypatch.setattr(Console, "step", deadly)
    with pytest.raises(Killed):
        train(other)
    monkeypatch.setattr(Console, "step", step)
    train(other)
    for name in ("metrics.csv", "predictions/validation.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_a_run_starts_from_another_and_answers(tmp_path: Path, start: Path) -> None:
    """`start_from` without published weights: the copy is taken of the loaded weights."""
    write_json_lines(tmp_path / "train.jsonl", questions(40))
    outputs = {"answer": {**PREFERENCE, "generate_rows": 4}}
    begun = {"run": str(start / "run"), "load": {"inputs.chat": "inputs.chat"}, "fitted": "take"}
    config = experiment(tmp_path, outputs=outputs, start_from=begun, data={"id": "id"}, trainer={"max_epochs": 1})
    assert measured(assemble(config, Console()))["loss"] == pytest.approx(math.log(2), abs=1e-6)
    train(config)
    with (tmp_path / "run" / "predictions" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"id", "answer_true", "answer_prompt", "answer", "answer_margin"}
    assert all(row["answer_true"] == row["answer_prompt"].removeprefix("say ").upper() for row in rows)
    path = predict(tmp_path / "run", prompt="say red", output=tmp_path / "one.csv")
    with path.open(newline="") as file:
        assert next(csv.DictReader(file)).keys() == {"id", "answer_prompt", "answer"}
    shutil.rmtree(tmp_path / "run")


def test_answers_that_are_the_same(tmp_path: Path) -> None:
    rows = questions(8)
    rows[2]["worse"] = rows[2]["better"]
    rows[5]["worse"] = ""
    write_json_lines(tmp_path / "train.jsonl", rows)
    given = raw(tmp_path, outputs={"answer": PREFERENCE})
    changes = {key: given[key] for key in ("inputs", "outputs")}
    with pytest.raises(UserError) as caught:
        assemble(experiment(tmp_path, **changes), Console())
    assert [f"{fault.place}: {fault.message}" for fault in caught.value.faults] == [
        f"{tmp_path}/train.jsonl line 3: 'worse' is the same answer as 'better'; "
        "data.on_bad_row=skip leaves such rows out",
        f"{tmp_path}/train.jsonl line 6: 'worse' is empty",
    ]
    parts = assemble(experiment(tmp_path, **changes, data={"on_bad_row": "skip", "validation": 2}), Console())
    assert len(parts.splits.skipped) == 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"prompt": None}, "outputs.answer.prompt: is missing; name the column that is answered, or messages"),
        ({"messages": "m"}, "outputs.answer.messages: cannot be combined with prompt; keep one of them"),
        ({"rejected": "better"}, "outputs.answer.rejected: column 'better' is read as chosen already"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "outputs.answer.label_smoothing: has no effect with loss: ipo"),
        ({"loss": "hinge"}, "outputs.answer.loss: 'hinge' is not one of 'sigmoid', 'ipo'"),
        ({"beta": 0}, "outputs.answer.beta: 0 is not a number > 0"),
        ({"train_on": "last"}, "outputs.answer.train_on: unknown key"),
    ],
)
def test_what_is_refused(tmp_path: Path, output: dict[str, Any], message: str) -> None:
    write_json_lines(tmp_path / "train.jsonl", questions(4))
    given = raw(tmp_path, outputs={"answer": {**PREFERENCE, **output}})
    with pytest.raises(UserError, match=f"(?m)^{re.escape(message)}"):
        experiment(tmp_path, **{key: given[key] for key in ("inputs", "outputs")})
