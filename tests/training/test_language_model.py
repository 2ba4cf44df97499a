"""Language models from a file to completions: what a run leaves, that it resumes exactly, what is refused."""

from __future__ import annotations

import csv
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.training.console import Console
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from eir_seq.training.samples import read_samples
from tests.training.table import write_table

TINY = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 24}
WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "hill", "and"]


pytestmark = pytest.mark.usefixtures("one_thread")


def text_file(folder: Path, lines: int = 160) -> Path:
    draw = random.Random(0)
    path = folder / "text.txt"
    path.write_text("".join(" ".join(draw.choices(WORDS, k=6)) + ".\n" for _ in range(lines)))
    return path


def raw(folder: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "writer",
        "data": {"train": str(folder / "text.txt"), "batch_size": 4, "cache_dir": str(folder / "cache")},
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 24,
                "tokenizer": {"type": "bpe", "vocab_size": 300},
                "model": {"model_type": "gpt2", "model_init_config": TINY},
            }
        },
        "outputs": {
            "text": {
                "type": "causal_lm",
                "prompts": ["", "the cat"],
                "generation": {"max_new_tokens": 8, "do_sample": True},
            }
        },
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "validate_every": 6},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    return config


def experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    return validate_experiment(raw(folder, **changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writer")
    text_file(folder)
    train(experiment(folder), finish=lambda path: write_report(path))
    return folder


def test_the_last_part_of_a_text_is_the_validation_part(tmp_path: Path) -> None:
    text = text_file(tmp_path).read_text()
    splits = load_splits(experiment(tmp_path, data={"validation": 0.25}))
    assert splits.train is not None
    assert splits.validation is not None
    (first,), (second,) = splits.train["text"], splits.validation["text"]
    assert first + second == text
    assert first.endswith("\n")
    assert len(second) / len(text) == pytest.approx(0.25, abs=0.02)


def test_what_a_run_measures(finished: Path) -> None:
    lines = read_metrics(finished / "run" / "metrics.csv")
    found = {(m.metric, m.step): m.value for m in lines if m.split == "validation" and m.output == "text"}
    steps = sorted({step for _, step in found})
    assert len(steps) > 2
    last = steps[-1]
    assert found["loss", last] < found["loss", steps[0]] < math.log(300) * 1.1
    assert found["perplexity", last] == pytest.approx(math.exp(found["loss", last]))
    size = len(load_splits(experiment(finished)).validation["text"][0].encode())  # type: ignore[index]
    table = list(csv.DictReader((finished / "run" / "predictions" / "validation.csv").open()))
    assert [row["id"] for row in table] == [f"block-{n}" for n in range(1, len(table) + 1)]
    bits = found["bits_per_byte", last] * size
    tokens = bits * math.log(2) / found["loss", last]
    assert tokens == pytest.approx(round(tokens), abs=1e-2), "bits per byte count every byte of the text"


def test_texts_are_written_at_each_evaluation(finished: Path) -> None:
    samples = read_samples(finished / "run")
    steps = {m.step for m in read_metrics(finished / "run" / "metrics.csv") if m.split == "validation"}
    assert {sample.step for sample in samples} == steps
    assert [sample.prompt for sample in samples] == ["", "the cat"] * len(steps)
    assert "text writes: the cat" in (finished / "run" / "log.txt").read_text()
    page = (finished / "run" / "report" / "index.html").read_text()
    assert "Texts it wrote" in page
    assert "Bits per byte" in page
    words = [word for sample in samples for word in re.findall("[a-z]{3,}", sample.text)]
    assert words
    assert all(word in page for word in words)


def test_prompts_are_completed(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("the dog\n\na cat sat\n")
    table = list(csv.DictReader(predict(finished / "run", test=str(tmp_path / "prompts.txt")).open()))
    assert [(row["id"], row["text_prompt"]) for row in table] == [("1", "the dog"), ("3", "a cat sat")]
    assert all(row["text"] for row in table)
    (tmp_path / "rows.csv").write_text("text\nthe dog\na cat sat\n")
    rows = list(csv.DictReader(predict(finished / "run", test=str(tmp_path / "rows.csv")).open()))
    assert [row["text"] for row in rows] == [row["text"] for row in table], "rows of a table are prompts, too"
    (tmp_path / "rows.csv").write_text("text\nthe dog\n \na cat sat\n")
    skip = {"on_bad_row": "skip"}
    rows = list(csv.DictReader(predict(finished / "run", test=str(tmp_path / "rows.csv"), reading=skip).open()))
    assert [row["text"] for row in rows] == [table[0]["text"], "", table[1]["text"]]
    assert [row["not predicted"] for row in rows] == ["", "'text' is blank", ""]
    greedy = predict(finished / "run", prompt="the dog", generation={"do_sample": False}, output=tmp_path / "one.csv")
    assert next(csv.DictReader(greedy.open()))["text_prompt"] == "the dog"


def test_predict_says_what_it_needs(finished: Path) -> None:
    with pytest.raises(UserError, match="give a file of prompts, or one by prompt=TEXT"):
        predict(finished / "run")
    with pytest.raises(UserError, match=r"generation\.top_q: not an option of generate"):
        predict(finished / "run", prompt="a", generation={"top_q": 1})


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill", [3, 6, 9, 17])
def test_a_killed_run_ends_with_the_same_bytes(
    kill: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_file(tmp_path)
    config = experiment(tmp_path, trainer={"checkpoint_every": 2})
    step = Console.step

    def deadly(self: Console, now: int, *others: Any) -> None:
        if now == kill:
            raise Killed
        step(self, now, *others)

    monkeypatch.setattr(Console, "step", deadly)
    with pytest.raises(Killed):
        train(config)
    monkeypatch.setattr(Console, "step", step)
    train(config)
    for name in ("metrics.csv", "samples.csv", "predictions/validation.csv", "bundle/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / "run" / name).read_bytes(), name


def test_separate_documents_of_a_table(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", rows=40)
    output = {"type": "causal_lm", "documents": "separate", "prompts": []}
    config = experiment(
        tmp_path, data={"train": str(tmp_path / "rows.csv"), "id": "id"}, outputs={"text": output},
        trainer={"max_epochs": 1},
    )  # fmt: skip
    train(config)
    ids = [row["id"] for row in csv.DictReader((tmp_path / "run" / "predictions" / "validation.csv").open())]
    assert {name.partition("#")[0] for name in ids} == set(load_splits(config).validation["id"])  # type: ignore[index]
    assert not (tmp_path / "run" / "samples.csv").exists()


def test_beside_a_classification_of_the_same_texts(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", rows=40)
    outputs = {
        "text": {"type": "causal_lm", "prompts": ["a day"], "generation": {"max_new_tokens": 4}, "loss_weight": 0.5},
        "mood": {"type": "classification", "column": "mood"},
    }
    config = experiment(
        tmp_path, data={"train": str(tmp_path / "rows.csv"), "id": "id"}, outputs=outputs, trainer={"max_epochs": 1}
    )
    result = train(config)["validation"]
    assert {"accuracy", "loss"} <= result["mood"].keys()
    assert result["text"].keys() == {"loss", "perplexity"}
    assert [sample.prompt for sample in read_samples(tmp_path / "run")][-1] == "a day"
    table = list(csv.DictReader(predict(tmp_path / "run", test=str(tmp_path / "rows.csv")).open()))
    assert len(table) == 40
    assert {row["mood"] for row in table} <= {"good", "bad"}


def test_any_decoder_and_an_encoder_as_decoder(tmp_path: Path) -> None:
    text_file(tmp_path, lines=30)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for model_type, options in (("llama", {}), ("bert", {}), ("roberta", {"max_position_embeddings": 40})):
        model = {"model_type": model_type, "model_init_config": small | options}
        source = {**raw(tmp_path)["inputs"]["text"], "model": model}
        config = experiment(
            tmp_path, inputs={"text": source}, trainer={"max_epochs": 1}, run={"dir": str(tmp_path / model_type)}
        )
        assert train(config)["validation"]["text"]["bits_per_byte"] > 0


def refused(folder: Path, **changes: Any) -> list[str]:
    text_file(folder)
    with pytest.raises(UserError) as caught:
        train(validate_experiment(raw(folder, **changes)))
    return [f"{fault.place}: {fault.message}" for fault in caught.value.faults]


def test_what_is_refused(tmp_path: Path) -> None:
    source, output = raw(tmp_path)["inputs"]["text"], raw(tmp_path)["outputs"]["text"]

    def model(model_type: str, **options: Any) -> dict[str, Any]:
        return {"text": {**source, "model": {"model_type": model_type, "model_init_config": options}}}

    (line,) = refused(tmp_path, inputs=model("longformer"))
    assert line.startswith("inputs.text.model.model_type: 'longformer' has no language-model head (task causal-lm); ")
    assert "gpt2" in line
    (line,) = refused(tmp_path, inputs=model("bert", is_decoder=False))
    assert "attends to later tokens" in line
    (line,) = refused(tmp_path, inputs={"text": {**source, "max_length": "max"}})
    assert line.startswith("inputs.text.max_length: 'max' has no meaning for blocks of tokens")
    (line,) = refused(tmp_path, inputs={"text": {**source, "truncation": "tail"}})
    assert line == "inputs.text.truncation: has no effect as a language model reads full texts"
    (line,) = refused(tmp_path, outputs={"text": {**output, "input": "txt"}})
    assert line == "outputs.text.input: 'txt' is not a sequence input (there are: 'text'); did you mean 'text'?"
    (line,) = refused(
        tmp_path,
        outputs={"text": {**output, "documents": "packed"}, "mood": {"type": "classification", "column": "mood"}},
    )
    assert line.startswith("outputs.text.documents: 'packed' is for a language model alone")
    lines = refused(tmp_path, inputs={"text": source, "other": {**source, "column": "title"}})
    assert "outputs.text.input: is missing; say whose tokens are read: text, other" in lines
    (line,) = refused(tmp_path, outputs={"text": {**output, "generation": {"temprature": 2}}})
    assert line == "outputs.text.generation.temprature: not an option of generate; did you mean 'temperature'?"
    changed = {**output, "prompts": ["a day"], "generation": {"suppress_tokens": [9999]}}
    (line,) = refused(tmp_path, outputs={"text": changed})
    assert line.startswith("outputs.text.generation.suppress_tokens: 9999 is outside the vocabulary of ")
