"""What is held of a large table grows by a few bytes per row: numbers, no Python objects.

Tracemalloc counts objects of Python and arrays of numpy; Arrow counts its own. Texts and encoded rows are in files.
"""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from eir_seq import rows as rows_module
from eir_seq import spool
from eir_seq.data import encoded, rows
from eir_seq.data.batching import batch_costs
from eir_seq.data.dataset import BatchKeys, NarrowIntegers
from eir_seq.data.readers import base, delimited
from eir_seq.data.source import load_splits
from eir_seq.data.tables import shared_texts
from eir_seq.outputs import build_output, kept
from eir_seq.outputs.predictions import write_predictions
from eir_seq.rows import Rows, Texts
from eir_seq.spool import Packed
from eir_seq.training import evaluation
from eir_seq.training.evaluation import Gathered
from tests.data.conftest import Config, write
from tests.data.test_module import module

ROWS = 20_000
PARTS = 512
"""Rows of a part, in place of thousands, so that parts are small next to 20,000 rows."""


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MEMORY", 0)
    monkeypatch.setattr(spool, "MOST_ROWS", PARTS)
    for holder in (spool, rows, delimited):
        monkeypatch.setattr(holder, "ROWS_PER_BATCH", PARTS)
    for holder in (spool, kept):
        monkeypatch.setattr(holder, "PART", 1 << 14)
    monkeypatch.setattr(kept, "ROWS_PER_BATCH", PARTS)
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", PARTS)
    monkeypatch.setattr(rows_module, "AT_ONCE", PARTS)
    monkeypatch.setattr(base, "BLOCK", 4096)
    monkeypatch.setattr(encoded, "FORGOTTEN", 1)


def grown(action: Any) -> tuple[float, Any]:
    """Bytes per row that an action held at most, and what it gave."""
    gc.collect()
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = action()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return (peak - before + max(0, pa.total_allocated_bytes() - arrow)) / ROWS, result


def table_of(path: Path, count: int, *, with_ids: bool) -> str:
    lines = (
        f'{f"row-number-{row:08d}," if with_ids else ""}"some text, number {row} of many",{("bad", "good")[row % 2]}'
        for row in range(count)
    )
    return write(path, "\n".join([f"{'id,' if with_ids else ''}text,sentiment", *lines]) + "\n")


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("with_ids", [True, False])
def test_tables_are_read_and_divided(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ids: bool
) -> None:
    # Arrow's reader parses 4 MiB at once, more than this table has: the general one stands for it.
    path = table_of(tmp_path / "a.csv", ROWS, with_ids=with_ids)
    keys: dict[str, Any] = {} if with_ids else {"id": None}
    experiment = config(train=path, validation=0.1, cache_dir=str(tmp_path), **keys)
    monkeypatch.setattr(delimited, "_is_plain", lambda *_: False)
    few = table_of(tmp_path / "few.csv", 40, with_ids=with_ids)
    load_splits(experiment.model_copy(update={"data": experiment.data.model_copy(update={"train": few})}))  # imports
    size, splits = grown(lambda: load_splits(experiment))
    assert splits.counts == {"train": 0.9 * ROWS, "validation": 0.1 * ROWS}
    assert size < 40
    assert splits.located[0].place(splits.train["id"][7]) is not None


@pytest.mark.usefixtures("small_parts")
def test_batches_of_an_epoch_and_of_an_evaluation(config: Config, tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.csv", ROWS, with_ids=True)
    data = module(config(train=path, validation=0.5, batch_size=50, cache_dir=str(tmp_path)))
    data.setup()

    def epoch() -> Any:
        data._sampler = None
        assert data.encoded["train"].lengths.shape == (ROWS // 2, 1)
        return list(data._training_order().batches(0)), data.evaluation_keys("validation"), data.trial_keys

    targets = data.encoded["train"].targets["sentiment"]
    assert isinstance(targets, NarrowIntegers)
    assert targets.values.dtype == torch.int8
    assert targets[:4].dtype == torch.int64
    size, (batches, keys, _) = grown(epoch)
    assert size < 32
    assert sorted(np.concatenate(batches).tolist()) == [*range(ROWS // 2)]
    assert sorted(row for key in keys for row in key.rows) == [*range(ROWS // 2)]
    size, costs = grown(lambda: batch_costs(data.encoded["train"].lengths, batches))
    assert size < 32
    assert costs.shape == (ROWS // 100,)


def test_keys_are_made_when_they_are_looked_up() -> None:
    keys = BatchKeys([np.arange(3), np.arange(3, 5), np.arange(5, 9), np.arange(9, 10)], 2)
    assert [key.rows for key in keys[1:3]] == [(3, 4), (5, 6, 7, 8)]
    assert [key.rows for key in keys.spread(2)] == [(0, 1, 2), (5, 6, 7, 8)]
    assert (keys[-1].rows, keys[-1].epoch, keys[0].counted) == ((9,), 2, True)


@pytest.mark.usefixtures("small_parts")
def test_an_evaluation_and_its_table_of_predictions(config: Config, tmp_path: Path) -> None:
    declared = config(train="a.csv").outputs["sentiment"]
    ids = pa.chunked_array(
        [pa.array([f"row-{row}" for row in range(start, start + 50)]) for start in range(0, ROWS, 50)]
    )
    classes = pa.chunked_array([pa.array(["bad", "good"] * 25)] * (ROWS // 50))
    split = Rows(pa.table({"id": ids, "sentiment": classes}))
    outputs = {"sentiment": build_output("sentiment", declared).fit(split)}
    raw, targets = torch.randn(ROWS, 2), outputs["sentiment"].targets(split)
    order, named = torch.randperm(ROWS), Texts(split.column("id"))

    def evaluated() -> Any:
        gathered = Gathered(outputs)
        for rows_of in order.split(50):
            batch = {"row": rows_of, "id": [named[row] for row in rows_of.tolist()]}
            batch["targets"] = {"sentiment": targets[rows_of]}
            gathered.add(batch, {"sentiment": raw[rows_of]}, {})
        found = gathered.measured(metrics=False)
        columns = found.columns(outputs, split)
        write_predictions(tmp_path / "a.csv", found.ids, columns)
        return found, columns

    size, (found, columns) = grown(evaluated)
    assert size < 80
    assert list(found.ids) == ids.to_pylist()
    assert torch.equal(found.raw["sentiment"], raw)
    whole = outputs["sentiment"].truth(split) | outputs["sentiment"].decode(raw)
    assert {name: list(values) for name, values in columns["sentiment"].items()} == whole
    written = (tmp_path / "a.csv").read_bytes()
    write_predictions(tmp_path / "b.csv", ids.to_pylist(), {"sentiment": whole})
    assert written == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("part", [1 << 20, 0])
@pytest.mark.parametrize("values", [[0.1, float("nan")], [1, 2**70], ["a", "\ud800"], [True, False], [None, "a"], []])
def test_packed_values_come_back_as_they_were(part: int, values: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PART", part)
    packed = Packed()
    parts = (values, ["x"], ["y", "z"], [1.5], values)
    for some in parts:
        packed.extend(some)
    found, expected = packed.values(), [value for some in parts for value in some]
    assert repr(list(found)) == repr(expected)
    assert repr([found[place] for place in range(len(found))]) == repr(expected)


def test_shared_ids_are_found_by_few_hashes(small_parts: None) -> None:
    del small_parts
    many = pa.chunked_array([[f"a{row}" for row in range(start, start + 50)] for start in range(0, ROWS, 50)])
    few = pa.chunked_array([["a7", "b7"], [f"a{ROWS - 1}", "c"]])
    assert shared_texts(many, few) == shared_texts(few, many) == [f"a{ROWS - 1}", "a7"]
    assert shared_texts(many, few[:0]) == []
    assert grown(lambda: shared_texts(many, few))[0] < 8


def test_rows_are_shared_as_they_are() -> None:
    assert rows_module.Picked(range(10), [3, 1])[::-1][0] == 1
