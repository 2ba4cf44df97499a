"""How fast rows come from a streamed table, and how much memory that takes: ``python -m tests.benchmarks.streaming``.

Each measurement runs in its own process. Parquet shards of random texts are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = 60
VOCABULARY = 5_000
FITTED = 5_000


def write(folder: Path, rows: int, shards: int) -> None:
    """Random texts and classes in Parquet files."""
    draw = np.random.default_rng(0)
    names = np.array([f"w{number:04d}" for number in range(VOCABULARY)])
    for shard in range(shards):
        count = rows // shards
        texts = [
            " ".join(names[draw.integers(0, VOCABULARY, draw.integers(WORDS // 3, 2 * WORDS))]) for _ in range(count)
        ]
        mood = [("bad", "good")[value] for value in draw.integers(0, 2, count)]
        table = pa.table({"id": [f"{shard}-{row}" for row in range(count)], "text": texts, "mood": mood})
        pq.write_table(table, folder / f"part-{shard:03d}.parquet", row_group_size=5_000)


def measure(folder: Path, *, streaming: bool, workers: int, world_size: int, buffer: int) -> dict[str, Any]:
    """Read an epoch without training."""
    from eir_seq.config.schema import ExperimentConfig
    from eir_seq.data.module import DataModule
    from eir_seq.data.source import load_splits
    from eir_seq.data.stream.module import StreamedDataModule
    from eir_seq.modalities import build_modality
    from eir_seq.outputs import build_output

    data: dict[str, Any] = (
        {"train": str(folder), "streaming": True} if streaming else {"train": str(folder / "all.parquet")}
    )
    if streaming:
        data |= {"shuffle_buffer": buffer, "fit_rows": FITTED}
    cache = folder / f".cache-{streaming}-{workers}-{world_size}"
    data |= {
        "validation": None,
        "id": "id",
        "batch_size": 32,
        "num_workers": workers,
        "cache_dir": str(cache),
    }
    text = {"type": "sequence", "column": "text", "max_length": 128, "model": {"model_type": "bert"}}
    config = ExperimentConfig.model_validate(
        {
            "data": data,
            "inputs": {"text": {**text, "tokenizer": {"type": "bpe", "vocab_size": 4000}}},
            "outputs": {"mood": {"type": "classification", "column": "mood"}},
            "trainer": {"max_epochs": 1},
        }
    )
    start = time.perf_counter()
    splits = load_splits(config)
    assert splits.train is not None
    read = time.perf_counter() - start
    inputs = {name: build_modality(name, declared).fit(splits.train, 0) for name, declared in config.inputs.items()}
    outputs = {name: build_output(name, declared).fit(splits.train) for name, declared in config.outputs.items()}
    kind = StreamedDataModule if streaming else DataModule
    module = kind(config, splits, inputs, outputs, rank=0, world_size=world_size)
    start, encoding = time.perf_counter(), time.process_time()
    module.setup()
    setup = time.perf_counter() - start
    encoding = time.process_time() - encoding
    rows = tokens = 0
    used = time.process_time()
    memory, start, first = [], time.perf_counter(), 0.0
    for number, batch in enumerate(module.train_dataloader()):
        first = first or time.perf_counter() - start
        rows += len(batch["id"])
        tokens += int(batch["inputs"]["text"]["attention_mask"].sum())
        if number % 100 == 0:
            memory.append(resident())
    seconds, used = time.perf_counter() - start, time.process_time() - used
    module.close()
    quarter = max(1, len(memory) // 4)
    return {
        "rows": rows,
        "read": round(read, 1),
        "encode": round(setup, 1),
        "encode CPU": round(encoding, 1),
        "first": round(first, 2),
        "rows/s": round(rows / seconds),
        "rows/CPU s": round(rows / used),
        "tokens/CPU s": round(tokens / used),
        "MB": [round(max(memory[i : i + quarter]) / 1e6) for i in range(0, len(memory), quarter)][:4],
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def resident() -> int:
    """Bytes of this process that are in memory and not pages of files."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def main() -> None:
    """Measure, or start a process for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--buffer", type=int, default=4_000)
    parser.add_argument("--one", nargs=4)
    arguments = parser.parse_args()
    if arguments.one:
        folder, streaming, workers, world = arguments.one
        print(
            json.dumps(
                measure(
                    Path(folder),
                    streaming=streaming == "1",
                    workers=int(workers),
                    world_size=int(world),
                    buffer=arguments.buffer,
                )
            )
        )
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, arguments.rows, arguments.shards)
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        print(f"{arguments.rows:,} rows, {size / 1e6:.0f} MB")
        modes = [("1", "0", "1"), ("1", "2", "1"), ("1", "0", "2")]
        for mode in modes:
            run(folder, mode, arguments.buffer)
        tables = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
        pq.write_table(pa.concat_tables(tables), folder / "all.parquet", row_group_size=5_000)
        run(folder, ("0", "0", "1"), arguments.buffer)


def run(folder: Path, mode: tuple[str, ...], buffer: int) -> None:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.streaming", "--buffer", str(buffer), "--one", str(folder), *mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print("streaming, workers, processes", mode, done.stdout.strip() or done.stderr[-2000:], flush=True)


if __name__ == "__main__":
    main()
