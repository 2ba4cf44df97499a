"""From YAML's columns to trained weights, to a bundle, and to predictions, for every architecture with own tensors."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.data.dataset import BatchKey
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.modalities import build_modality
from eir_seq.models import create_model
from eir_seq.randomness import Draw
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import assemble
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.run import train
from tests.modalities.tensor_tables import CASES, TINY, WORDS, tensor_experiment
from tests.sampled import sampled


def accuracy(table: Path) -> float:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    return sum(row["kind"] == row["kind_true"] for row in rows) / len(rows)


@pytest.mark.parametrize("name", sampled(list(CASES), 1 / 3))
def test_only_the_tensor_tells_the_class_and_the_bundle_knows_it(name: str, tmp_path: Path) -> None:
    config = tensor_experiment(name, tmp_path)
    train(config)
    run = tmp_path / "run"
    assert accuracy(run / "predictions" / "test.csv") > 0.9
    predicted = predict(run / "bundle", test=str(tmp_path / "test.jsonl"), output=tmp_path / "again.csv")
    assert predicted.read_bytes() == (run / "predictions" / "test.csv").read_bytes()
    page = write_report(run).read_text(encoding="utf-8")
    assert "kind" in page


def test_check_says_what_it_found(tmp_path: Path) -> None:
    found = check(tensor_experiment("luke", tmp_path, data={"max_tokens": 80, "packing": "never"}))
    assert found.inputs["page"]["tensors"] == {"entities": {"column": "entities", "vocab_size": 8}}
    assert "entities" in str(found)


def test_a_published_model_is_not_needed_to_predict(tmp_path: Path) -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[MASK]": 2, "Lima (city)": 3, "Lima": 4, "Lima (bean)": 5}
    words = train_tokenizer(WordTokenizerConfig(), [" ".join((*WORDS, "lima"))])
    words.save(tmp_path / "published")
    options = {**TINY, "vocab_size": words.vocab_size, "entity_vocab_size": 6, "entity_emb_size": 8}
    create_model("luke", options).save_pretrained(tmp_path / "published")
    (tmp_path / "published" / "entity_vocab.json").write_text(json.dumps(vocabulary))
    page = {
        "column": "content",
        "max_length": 16,
        "tensors": {"entities": {"column": "entities"}},
        "model": {"model_type": str(tmp_path / "published"), "pretrained_model": True},
    }
    train(tensor_experiment("luke", tmp_path, inputs={"page": page}))
    shutil.rmtree(tmp_path / "published")
    run = tmp_path / "run"
    again = predict(run / "bundle", test=str(tmp_path / "test.jsonl"), output=tmp_path / "again.csv")
    assert again.read_bytes() == (run / "predictions" / "test.csv").read_bytes()
    assert accuracy(again) > 0.9


def test_rows_are_the_same_from_any_format(tmp_path: Path) -> None:
    config = tensor_experiment("layoutlm", tmp_path, rows=12)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "content": json.dumps(row["content"]), "boxes": str(row["boxes"])} for row in rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = []
    for suffix in ("jsonl", "csv", "parquet"):
        data = {"train": str(tmp_path / f"train.{suffix}"), "validation": None, "test": None}
        splits = load_splits(config.model_copy(update={"data": config.data.model_copy(update=data)}))
        assert splits.train is not None
        fitted = build_modality("page", config.inputs["page"]).fit(splits.train, 0)
        batch = fitted.collator(EncodedInMemory(fitted, splits.train[:]), range(12), Draw(0))
        found.append({name: values.tolist() for name, values in batch.items()})
    assert found[0] == found[1] == found[2]


def test_another_file_of_the_same_name_is_read(tmp_path: Path) -> None:
    config = tensor_experiment("visual_bert", tmp_path, rows=8)
    data = config.data.model_copy(update={"validation": None, "test": None})
    config = config.model_copy(update={"data": data})

    def first_region() -> float:
        parts = assemble(config, Console())
        batch = parts.data.encoded["train"][BatchKey((0,))]
        return float(batch["inputs"]["page"]["visual_embeds"][0, 0, 0])

    before = first_region()
    np.save(tmp_path / "regions" / "0.npy", np.full((1, 6), 7, np.float32))
    assert before != first_region() == 7
