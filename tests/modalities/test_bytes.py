"""Inputs of raw bytes: parts of files as tokens, trained weights, a bundle, and files that cannot be read."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.base import LENGTH, TOKENS
from eir_seq.modalities.bytes.config import BytesInputConfig
from eir_seq.modalities.bytes.preprocess import FIRST_BYTE, Bytes, FittedBytes
from eir_seq.modalities.cells import write_cell
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.training.run import train

MODELS: dict[str, dict[str, Any]] = {
    "sequence-default": {"embedding_dim": 16, "num_heads": 2, "num_layers": 1, "window_size": 8},
    "bert": {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32},
    "mamba": {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
}


def make_rows(folder: Path, count: int, seed: int) -> Path:
    """Noise of any bytes; the files of one kind hold the bytes 0 and 255 much more often."""
    draw = random.Random(seed)
    (folder / "files").mkdir(exist_ok=True)
    lines = ["file,kind"]
    for number in range(count):
        kind = draw.choice(["plain", "marked"])
        content = bytearray(draw.randrange(256) for _ in range(draw.randint(24, 60)))
        if kind == "marked":
            content[2:18] = b"\x00\xff" * 8
        (folder / f"files/{seed}-{number}.bin").write_bytes(content)
        lines.append(f"files/{seed}-{number}.bin,{kind}")
    path = folder / f"rows-{seed}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def experiment(folder: Path, rows: int = 80, name: str = "sequence-default", **changes: Any) -> Any:
    model = {"model_type": name, "model_init_config": MODELS[name]}
    raw = {"type": "bytes", "column": "file", "max_length": 32, "model": model}
    return validate_experiment(
        {
            "data": {
                "train": str(make_rows(folder, rows, 0)),
                "test": str(make_rows(folder, 30, 1)),
                "batch_size": 8,
                "cache_dir": str(folder / "cache"),
            },
            "inputs": {"raw": {**raw, **changes}},
            "fusion": {"type": "concat"},
            "outputs": {"kind": {"type": "classification", "column": "kind"}},
            "optimizer": {"type": "adamw", "lr": 0.01},
            "trainer": {"max_steps": 80, "max_epochs": None, "validate_every": 80, "accelerator": "cpu"},
            "run": {"dir": str(folder / "run")},
        }
    )


def fitted(folder: Path, content: bytes, **options: Any) -> tuple[FittedBytes, dict[str, list[str]]]:
    """The input, and rows that name a file with this content."""
    path = folder / "a.bin"
    path.write_bytes(content)
    config = BytesInputConfig.model_validate(
        {"column": "file", "model": {"model_type": "bert", "model_init_config": {}}, **options}
    )
    rows = {"file": [write_cell([str(path), len(content), 0])]}
    return Bytes("raw", config).fit(Rows.of(rows), 0), rows  # type: ignore[return-value]


def test_files_are_classified_and_predicted_from_the_bundle(tmp_path: Path) -> None:
    train(experiment(tmp_path))
    table = tmp_path / "run/predictions/test.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["kind"] == row["kind_true"] for row in rows) / len(rows) > 0.9
    again = predict(tmp_path / "run/bundle", test=str(tmp_path / "rows-1.csv"), output=tmp_path / "again.csv")
    assert again.read_text() == table.read_text().replace("test-", "")


@pytest.mark.parametrize("model", MODELS)
def test_architectures_of_the_catalogue_read_bytes(tmp_path: Path, model: str) -> None:
    config = experiment(tmp_path, rows=10, name=model)
    config = config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_steps": 1})})
    assert train(config)["status"] == "finished"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("head", b"0123"), ("tail", b"6789"), ("middle-out", b"0189"), ("random", b"0123456789")],
)
def test_the_part_that_is_read_of_a_longer_file(tmp_path: Path, strategy: str, expected: bytes) -> None:
    table, rows = fitted(tmp_path, b"0123456789", max_length=4, truncation=strategy)
    encoded = table.encode(rows)
    assert bytes(token - FIRST_BYTE for token in encoded["ids"][0].as_py()) == expected
    assert (encoded[TOKENS].to_pylist(), encoded[LENGTH].to_pylist()) == ([10], [4])


def test_windows_are_drawn_within_the_first_bytes(tmp_path: Path) -> None:
    table, rows = fitted(tmp_path, bytes(range(100)), max_length=4, truncation="random", max_bytes=50)
    source = EncodedInMemory(table, rows)
    starts = {int(table.collator(source, [0], Draw(0, epoch))["input_ids"][0, 0]) - FIRST_BYTE for epoch in range(40)}
    assert len(starts) > 15
    assert max(starts) <= 46
    assert int(table.collator(source, [0], Draw(0))["input_ids"][0, 0]) == FIRST_BYTE


def test_a_batch_is_padded_and_every_byte_has_an_id(tmp_path: Path) -> None:
    table, rows = fitted(tmp_path, bytes(range(256)), max_length=256)
    (tmp_path / "b.bin").write_bytes(b"\xff")
    rows["file"].append(write_cell([str(tmp_path / "b.bin"), 1, 0]))
    batch = table.collator(EncodedInMemory(table, rows), [0, 1], Draw(0))
    assert batch["input_ids"][0].tolist() == list(range(FIRST_BYTE, FIRST_BYTE + 256))
    assert batch["input_ids"][1, :2].tolist() == [FIRST_BYTE + 255, table.tokenizer.pad_id]
    assert batch["attention_mask"].sum(dim=1).tolist() == [256, 1]
    assert table.tokenizer.vocab_size == FIRST_BYTE + 256
    table.save(tmp_path / "fitted")
    assert load_modality(tmp_path / "fitted").fingerprint() == table.fingerprint()


def test_bytes_in_a_column(tmp_path: Path) -> None:
    """Binary cells, and those of the Hub, are read as the files of these bytes are."""
    config = experiment(tmp_path, rows=8, truncation="middle-out", max_length=4)
    lines = [line.split(",") for line in (tmp_path / "rows-0.csv").read_text().splitlines()[1:]]
    contents = [(tmp_path / name).read_bytes() for name, _ in lines]
    for number, cells in enumerate((contents, [{"bytes": content, "path": "a.bin"} for content in contents])):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"file": cells, "kind": [kind for _, kind in lines]}), path)
        data = config.data.model_copy(update={"train": str(path), "test": None})
        rows = load_splits(config.model_copy(update={"data": data})).train
        assert rows is not None
        fitted: Any = build_modality("raw", config.inputs["raw"]).fit(rows, 0)
        found = fitted.encode(rows[:])
        parts = [bytes(token - FIRST_BYTE for token in row) for row in found["ids"].to_pylist()]
        own = [contents[int(row) - 1] for row in rows["id"]]
        assert parts == [content[:2] + content[-2:] for content in own]
        assert found[TOKENS].to_pylist() == list(map(len, own))
        assert fitted.show(rows[:1]) == (["a.bin"] if number else [f"{len(own[0])} bytes"])


def test_bytes_that_cannot_be_read_are_named_by_row(tmp_path: Path) -> None:
    config = experiment(tmp_path, rows=8)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"file": [b"a", b"", None, b"b"], "kind": ["plain", "plain", "marked", "marked"]}), path)
    data = config.data.model_copy(update={"train": str(path), "test": None})
    with pytest.raises(UserError) as caught:
        load_splits(config.model_copy(update={"data": data}))
    lines = [str(fault).replace(f"{tmp_path}/", "").split(";")[0] for fault in caught.value.faults]
    assert lines == ["rows.parquet row 2: 'file' holds no bytes", "rows.parquet row 3: 'file' is missing"]


def test_files_that_cannot_be_read_are_named_by_row(tmp_path: Path) -> None:
    config = experiment(tmp_path, rows=8)
    (tmp_path / "files/empty.bin").touch()
    os.mkfifo(tmp_path / "files/pipe.bin")
    names = ("files/empty.bin", "files/0-x.bin", "files/pipe.bin", "files", "/dev/zero", "files/0-1.bin")
    (tmp_path / "rows-0.csv").write_text("file,kind\n" + "".join(f"{name},plain\n" for name in names) + ",marked\n")
    with pytest.raises(UserError) as caught:
        load_splits(config)
    lines = [
        str(fault).replace(f"{tmp_path}/", "").replace(str(tmp_path), "FOLDER").split(";")[0]
        for fault in caught.value.faults
    ]
    assert lines == [
        "rows-0.csv line 2: 'file' names files/empty.bin, which is empty",
        "rows-0.csv line 3: 'file' names files/0-x.bin, which is no file",
        "rows-0.csv line 4: 'file' names files/pipe.bin, a pipe, socket or device, not a regular file",
        "rows-0.csv line 5: 'file' names files, a folder, not a regular file",
        "rows-0.csv line 6: 'file' names /dev/zero, outside of the folder FOLDER (data.file_dir)",
        "rows-0.csv line 8: 'file' is empty",
    ]


def test_a_file_that_vanishes_between_check_and_encoding_is_named(tmp_path: Path) -> None:
    table, rows = fitted(tmp_path, b"0")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(UserError, match=r"a\.bin: cannot be read: No such file"):
        table.encode(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 0}, r"inputs\.raw\.max_length: 0 is not an integer >= 1"),
        ({"max_bytes": 9}, r"inputs\.raw\.max_bytes: has no effect with truncation: head"),
        ({"column": "kind"}, r"inputs\.raw\.column: column 'kind' is the target of outputs\.kind"),
        (
            {"model": {"model_type": "google/byt5-small", "pretrained_model": True}},
            r"inputs\.raw\.model\.pretrained_model: must be false: published models number bytes in other ways",
        ),
        (
            {"max_length": 600, "model": {"model_type": "bert", "model_init_config": {}}},
            r"inputs\.raw\.max_length: 600 tokens are more than the 512 positions of 'bert'",
        ),
    ],
)
def test_configs_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(tmp_path, rows=4, **changes)


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ("head", ["G", "I", "F", r"\x00"]),
        ("tail", [r"\x00", r"\xff", r"\x20", "z"]),
        ("middle-out", ["G", "I", r"\x20", "z"]),
    ],
)
def test_parts_that_are_explained_are_bytes(tmp_path: Path, truncation: str, expected: list[str]) -> None:
    found, rows = fitted(tmp_path, b"GIF\0\xff z", max_length=4, truncation=truncation)
    encoder = nn.Module()
    encoder.token_table = nn.Embedding(FIRST_BYTE + 256, 2)
    attributable = found.attributable(encoder)
    assert attributable is not None
    units = attributable.units(rows, 0, Draw(0))
    assert [(unit.position, unit.text, unit.column) for unit in units] == [
        (position, text, "file") for position, text in enumerate(expected)
    ]
    ids = found.collator(EncodedInMemory(found, rows), [0], Draw(0))["input_ids"][0]
    read = [chr(byte) for byte in (ids - FIRST_BYTE).tolist()]
    assert [unit.text if len(unit.text) == 1 else chr(int(unit.text[2:], 16)) for unit in units] == read
