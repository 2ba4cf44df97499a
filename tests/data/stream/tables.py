"""Tables in shards, and experiments that stream them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.source import load_splits
from eir_seq.data.stream.module import StreamedDataModule
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import Purpose
from eir_seq.outputs import build_output

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Columns id, text (its length varies), mood."""
    draw = random.Random(seed)
    moods = ("bad", "good")
    return [
        {
            "id": f"r{row}",
            "text": " ".join([moods[row % 2], *(draw.choice("abcdefgh") for _ in range(draw.randint(1, 20)))]),
            "mood": moods[row % 2],
        }
        for row in range(count)
    ]


def write_shards(folder: Path, count: int = 600, shards: int = 3, group: int = 25) -> Path:
    """The rows in Parquet files of several row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    table, size = pa.Table.from_pylist(rows(count)), count // shards
    for shard in range(shards):
        part = table.slice(shard * size, size)
        pq.write_table(part, folder / f"part-{shard}.parquet", row_group_size=group)
    return folder


def streamed(train: Path | str, folder: Path, **changes: Any) -> ExperimentConfig:
    """An experiment that streams; keyword arguments are sections, `data` by default."""
    config: dict[str, Any] = {
        "name": "moods",
        "data": {
            "train": str(train),
            "streaming": True,
            "validation": None,
            "id": "id",
            "batch_size": 16,
            "shuffle_buffer": 96,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 24,
                "model": {"model_type": "bert", "model_init_config": TINY},
            }
        },
        "outputs": {"mood": {"type": "classification", "column": "mood"}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    sections = {key: changes.pop(key) for key in list(changes) if key in ("inputs", "outputs", "trainer", "optimizer")}
    config["data"] |= changes
    for key, value in sections.items():
        config[key] = value if key in ("inputs", "outputs") else {**config.get(key, {}), **value}
    return ExperimentConfig.model_validate(config)


def module(config: ExperimentConfig, rank: int = 0, world_size: int = 1) -> StreamedDataModule:
    """The data module of one of several processes."""
    built = {
        name: build_modality(name, declared, Purpose(config.document_layout))
        for name, declared in config.inputs.items()
    }
    splits = load_splits(config, built)
    assert splits.train is not None
    assert splits.stream is not None
    inputs = {name: modality.fit(splits.train, 0) for name, modality in built.items()}
    outputs = {}
    for name, declared in config.outputs.items():
        if name in config.token_inputs:
            declared = declared.model_copy(update={"input": config.token_inputs[name]})
        outputs[name] = build_output(name, declared).fit(splits.train)
    data = StreamedDataModule(config, splits, inputs, outputs, rank=rank, world_size=world_size)
    data.setup()
    return data


def epoch(data: StreamedDataModule, number: int = 0, done: int = 0, window: tuple[int, int] = (0, 0)) -> list[Any]:
    """The batches from a position on."""
    data.set_position(number, done, window)
    return list(data.train_dataloader())


def ids(batches: list[Any]) -> list[list[str]]:
    """The ids of each batch."""
    return [batch["id"] for batch in batches]
