"""Tags of words from a CoNLL file to a bundle and predictions, on encoders and decoders."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.training.assemble import assemble
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.run import train
from tests.sampled import sampled

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BACKBONES: dict[str, dict[str, Any]] = {
    "bert": TINY,
    "gpt2": {"n_layer": 1, "n_embd": 16, "n_head": 2},
    "t5": {"num_layers": 1, "d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 16},
}
PHRASES = ("new/B-LOC york/I-LOC", "mr/O york/B-PER", "is/O", "in/O", "lima/B-LOC", "was/O", "seen/O")


def write_conll(path: Path, sentences: int, seed: int, labels: bool = True) -> str:
    draw = random.Random(seed)
    lines = ["-DOCSTART-\tO", ""] if labels else []
    for _ in range(sentences):
        for phrase in draw.choices(PHRASES, k=draw.randint(1, 6)):
            lines += ["\t".join(word.split("/")[: 1 + labels]) for word in phrase.split()]
        lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def experiment(folder: Path, model_type: str = "bert", **changes: Any) -> ExperimentConfig:
    config: dict[str, Any] = {
        "name": "tags",
        "data": {
            "train": write_conll(folder / "train.conll", 200, 0),
            "validation": 0.2,
            "test": write_conll(folder / "test.conll", 20, 1),
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "column": "words",
                "is_split_into_words": True,
                "max_length": 64,
                "tokenizer": {"type": "word"},
                "model": {"model_type": model_type, "model_init_config": BACKBONES[model_type]},
            }
        },
        "outputs": {"ner": {"type": "token_classification", "column": "tags"}},
        "optimizer": {"type": "adamw", "lr": 0.02},
        "trainer": {"max_epochs": 8, "accelerator": "cpu", "monitor": {"output": "ner", "metric": "entity_f1"}},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return validate_experiment(config)


def column(table: Path, name: str) -> list[Any]:
    with table.open(newline="", encoding="utf-8") as file:
        return [json.loads(row[name]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("model_type", sampled(list(BACKBONES), 0, always=lambda name: name == "gpt2"))
def test_any_backbone_learns_tags_and_its_bundle_predicts_them(model_type: str, tmp_path: Path) -> None:
    train(experiment(tmp_path, model_type))
    run = tmp_path / "run"
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["ner"]["entity_f1"] > 0.8  # words alone tell two of three entities
    assert result["monitor"]["value"] > 0.8
    unlabelled = write_conll(tmp_path / "new.conll", 20, 1, labels=False)
    predicted = predict(run / "bundle", test=unlabelled, output=tmp_path / "new.csv")
    assert column(predicted, "ner") == column(run / "predictions" / "test.csv", "ner")
    assert all(map(all, column(predicted, "ner")))
    known = [word.split("/")[0] for word in PHRASES[0].split()]
    rows = [{"words": known * 2}, {"words": "no list"}, {"words": known}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skip = {"on_bad_row": "skip", "rename": {}}
    table = predict(run, test=str(tmp_path / "rows.jsonl"), output=tmp_path / "rows.csv", reading=skip)
    with table.open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)
    assert (len(json.loads(first["ner"])), second["ner"], len(json.loads(third["ner"]))) == (
        2 * len(known),
        "",
        len(known),
    )
    assert "not a list of words" in second["not predicted"]
    page = write_report(run).read_text(encoding="utf-8")
    assert "F1 of entities" in page
    assert "I-LOC" in page


def test_padding_computed_or_left_out_makes_no_difference(tmp_path: Path) -> None:
    raw = []
    for packing in ("auto", "never"):
        parts = assemble(experiment(tmp_path, data={"packing": packing}), Console())
        batch = parts.data.encoded["test"][parts.data.encoded["test"].in_order(experiment(tmp_path).data)[0]]
        raw.append(parts.network.eval()(batch["inputs"])["ner"].detach())
    torch.testing.assert_close(raw[0], raw[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("truncation", ["head", "tail", "middle-out"])
def test_words_cut_off_have_no_tag(truncation: str, tmp_path: Path) -> None:
    config = experiment(tmp_path).model_dump(mode="json", exclude_unset=True)
    config["inputs"]["text"] |= {"max_length": 10, "truncation": truncation, "tokenizer": {"type": "byte"}}
    config["trainer"]["max_epochs"] = 1
    train(validate_experiment(config))
    run = tmp_path / "run"
    predicted, true = (column(run / "predictions" / "test.csv", name) for name in ("ner", "ner_true"))
    assert list(map(len, predicted)) == list(map(len, true))
    read = sum(bool(tag) for tags in predicted for tag in tags) / sum(map(len, true))
    assert 0 < read < 1
    assert json.loads((run / "result.json").read_text())["test"]["ner"]["read"] == pytest.approx(read)
    assert "were cut off and have no tag" in write_report(run).read_text(encoding="utf-8")


def test_tags_beside_an_output_of_the_whole_text(tmp_path: Path) -> None:
    rows = []
    draw = random.Random(0)
    for number in range(40):
        words = draw.choices(("lima", "is", "seen"), k=draw.randint(2, 5))
        tags = ["B-LOC" if word == "lima" else "O" for word in words]
        rows.append({"words": words, "tags": tags, "kind": "long" if len(words) > 3 else "short", "id": str(number)})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = {
        "ner": {"type": "token_classification", "column": "tags", "input": "text"},
        "kind": {"type": "classification", "column": "kind"},
    }
    data = {"train": str(path), "test": None, "id": "id"}
    found = check(experiment(tmp_path, outputs=outputs, data=data))
    assert found.outputs["ner"]["tags"].keys() == {"B-LOC", "O"}
    train(experiment(tmp_path, outputs=outputs, data=data))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["validation"]["ner"]["accuracy"] > 0.9


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            "a\tO\nb\n\nc\tO\tO\n",
            ["line 2: 1 columns where the first line has 2", "line 4: 3 columns where the first line has 2"],
        ),
        ("a\tO\n\tO\n", ["line 2: a column is empty"]),
    ],
)
def test_broken_conll_files(content: str, lines: list[str], tmp_path: Path) -> None:
    config = experiment(tmp_path)
    (tmp_path / "train.conll").write_text(content)
    with pytest.raises(UserError) as caught:
        load_splits(config)
    assert [str(fault) for fault in caught.value.faults] == [f"{tmp_path}/train.conll {line}" for line in lines]


def test_an_empty_conll_file(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    (tmp_path / "train.conll").write_text("\n\n-DOCSTART- O\n")
    with pytest.raises(UserError, match=r"data\.train: .*train\.conll holds no words"):
        load_splits(config)


def test_columns_of_a_conll_file(tmp_path: Path) -> None:
    sentences = "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n"
    (tmp_path / "a.conll").write_text(f"-DOCSTART- -X- -X- O\n\n{sentences}")
    outputs = {"pos": {"type": "token_classification", "column": "column2"}}
    data = {"train": str(tmp_path / "a.conll"), "validation": None, "test": None}
    splits = load_splits(experiment(tmp_path, outputs=outputs, data=data, trainer={"monitor": {}}))
    assert splits.train is not None
    assert [json.loads(row) for row in splits.train["words"]] == [["EU", "rejects"], ["Peter"]]
    assert [json.loads(row) for row in splits.train["column2"]] == [["NNP", "VBZ"], ["NNP"]]


def test_rows_whose_tags_do_not_fit(tmp_path: Path) -> None:
    rows = [
        {"words": ["a", "b"], "tags": ["O"]},
        {"words": ["a", "b"], "tags": ["O", ""]},
        {"words": ["a", "b"], "tags": "O O"},
        {"words": ["a", "b"], "tags": None},
        {"words": ["a", "b"], "tags": ["O", "B-LOC"]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = experiment(tmp_path, data={"train": str(path), "test": None, "validation": None}, trainer={"monitor": {}})
    with pytest.raises(UserError) as caught:
        load_splits(config)
    assert [str(fault).replace(f"{path} ", "").split(";")[0] for fault in caught.value.faults] == [
        "line 1: 'tags' has 1 tags for 2 words",
        "line 2: 'tags' has at word 2 '', not a tag",
        "line 3: 'tags' is 'O O', not a list of tags",
        "line 4: 'tags' has no label",
    ]


def test_what_the_config_cannot_ask_for(tmp_path: Path) -> None:
    config = experiment(tmp_path).model_dump(mode="json", exclude_unset=True)
    config["inputs"]["text"]["is_split_into_words"] = False
    config["outputs"]["ner"]["input"] = "txt"
    with pytest.raises(UserError) as caught:
        validate_experiment(config)
    expected = "outputs.ner.input: 'txt' is not a sequence input (there are: 'text'); did you mean 'text'?"
    assert expected in str(caught.value)
    config["outputs"]["ner"]["input"] = "text"
    with pytest.raises(UserError) as caught:
        validate_experiment(config)
    assert str(caught.value) == "inputs.text.is_split_into_words: must be true: outputs.ner has a tag for each word"


def test_tags_of_the_hub_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = Features({"words": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-LOC"]))})
    rows = {"words": [["in", "lima"], ["no"]], "tags": [[0, 1], [0]]}
    folder = tmp_path / "dataset"
    folder.mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(folder / "train.parquet")
    data = {"source": "hub", "name": str(folder), "train": "train", "validation": None, "test": None}
    splits = load_splits(experiment(tmp_path, data=data, trainer={"monitor": {}}))
    assert splits.train is not None
    assert [json.loads(row) for row in splits.train["tags"]] == [["O", "B-LOC"], ["O"]]
