"""Streamed batches: every row once, from any position, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.data.stream.order import EpochOrder
from eir_seq.data.stream.reader import Passes
from eir_seq.data.stream.table import Part, StreamedTable
from eir_seq.errors import UserError
from tests.data.stream.tables import epoch, ids, module, streamed, write_shards

BUDGET = {"max_steps": 30, "validate_every": 10}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


def flat(batches: list[Any]) -> list[str]:
    return [row for batch in batches for row in batch["id"]]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(shards: Path, tmp_path: Path) -> None:
    data = module(streamed(shards, tmp_path))
    first, second = epoch(data, 0), epoch(data, 1)
    assert len(first) == len(second) == data.batches_per_epoch == 38
    assert {len(batch["id"]) for batch in first} == {15, 16}
    for batches in (first, second):
        assert sorted(flat(batches)) == sorted(f"r{row}" for row in range(600))
    assert ids(first) != ids(second)
    assert ids(epoch(data, 0)) == ids(first)
    # Rows that were neighbours are apart: a batch has rows of several pieces.
    spread = [len({int(row[1:]) // 25 for row in batch}) for batch in ids(first)]
    assert np.mean(spread) > 5


@pytest.mark.parametrize("workers", [0, 2])
def test_any_position_continues_with_the_batches_that_come_next(shards: Path, tmp_path: Path, workers: int) -> None:
    whole = module(streamed(shards, tmp_path))
    expected = [epoch(whole, 0), epoch(whole, 1)]
    data = module(streamed(shards, tmp_path, num_workers=workers))
    for number, done in ((1, 0), (1, 17), (0, 6), (0, 38), (1, 37)):
        found = epoch(data, number, done)
        assert ids(found) == ids(expected[number][done:]), (number, done)
        for one, other in zip(found, expected[number][done:], strict=True):
            assert torch.equal(one["inputs"]["text"]["input_ids"], other["inputs"]["text"]["input_ids"])
            assert torch.equal(one["row"], other["row"])
    data.close()


@pytest.mark.parametrize(("world_size", "grouped"), [(2, True), (2, False), (3, True), (3, False), (4, True)])
def test_processes_share_each_batch(shards: Path, tmp_path: Path, world_size: int, grouped: bool) -> None:
    config = streamed(shards, tmp_path, length_buckets=grouped)
    whole = epoch(module(config), 1)
    ranks = [module(config, rank, world_size) for rank in range(world_size)]
    found = [epoch(data, 1) for data in ranks]
    assert {len(batches) for batches in found} == {len(whole)}
    for number, batch in enumerate(whole):
        parts = [batches[number]["id"] for batches in found]
        assert all(parts)
        assert sorted(row for part in parts for row in part) == sorted(batch["id"]), number
        numbers = torch.cat([batches[number]["row"] for batches in found])
        assert torch.equal(numbers.sort().values, batch["row"].sort().values)


def test_a_process_reads_its_own_lanes_alone(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, parts = streamed(shards, tmp_path), StreamedTable.parts
    read = []
    for rank in range(4):
        data = module(config, rank, 4)
        pieces: list[int] = []

        def noted(self: StreamedTable, piece: int, seen: list[int] = pieces) -> Iterator[Part]:
            seen.append(piece)
            return parts(self, piece)

        monkeypatch.setattr(StreamedTable, "parts", noted)
        epoch(data, 0)
        read.append(len(set(pieces)))
    assert sum(read) <= 24 + 8  # of 24 pieces; those at the end of a lane belong to two


def test_length_grouping_saves_padding(shards: Path, tmp_path: Path) -> None:
    def padding(grouped: bool) -> float:
        masks = [batch["inputs"]["text"]["attention_mask"] for batch in epoch(module(configs[grouped]))]
        return float(1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks))

    configs = {grouped: streamed(shards, tmp_path, length_buckets=grouped) for grouped in (True, False)}
    assert padding(True) < 0.6 * padding(False)


def test_random_windows_depend_on_epoch_and_row_only(shards: Path, tmp_path: Path) -> None:
    text = {
        "type": "sequence",
        "column": "text",
        "max_length": 5,
        "truncation": "random",
        "model": {"model_type": "bert"},
    }
    config = streamed(shards, tmp_path, inputs={"text": text})

    def windows(data: Any, number: int) -> dict[str, list[int]]:
        return {
            row: tokens
            for batch in epoch(data, number)
            for row, tokens in zip(batch["id"], batch["inputs"]["text"]["input_ids"].tolist(), strict=True)
            if len(tokens) == 5
        }

    one = windows(module(config), 0)
    assert windows(module(config), 1) != one
    shared = {**windows(module(config, 0, 2), 0), **windows(module(config, 1, 2), 0)}
    assert shared == one


@pytest.mark.parametrize("workers", [0, 2])
def test_a_budget_of_tokens_holds_and_continues_anywhere(shards: Path, tmp_path: Path, workers: int) -> None:
    config = streamed(shards, tmp_path, max_tokens=120, trainer=BUDGET)
    data = module(config)
    batches = epoch(data)
    assert len(batches) == data.batches_per_epoch == 30
    assert max(batch["inputs"]["text"]["input_ids"].numel() for batch in batches) <= 120
    assert len({len(batch["id"]) for batch in batches}) > 3
    assert len(set(flat(batches))) == len(flat(batches))
    other = module(streamed(shards, tmp_path, max_tokens=120, trainer=BUDGET, num_workers=workers))
    for done in (1, 7, 20):
        rest = epoch(other, 0, done, batches[done - 1]["window"])
        assert ids(rest) == ids(batches[done:]), done
    other.close()


def test_passes_under_a_budget_have_every_row_once(shards: Path, tmp_path: Path) -> None:
    trainer = {"max_steps": 200, "validate_every": 10}
    seen = flat(epoch(module(streamed(shards, tmp_path, max_tokens=120, trainer=trainer, shuffle_buffer=64))))
    windows = 600 // 64 * 64
    assert len(set(seen[:windows])) == windows
    assert {seen.count(row) for row in set(seen)} <= {len(seen) // 600, len(seen) // 600 + 1, len(seen) // 600 + 2}


def test_processes_share_the_batches_of_a_budget(shards: Path, tmp_path: Path) -> None:
    config = streamed(shards, tmp_path, max_tokens=120, trainer=BUDGET)
    whole = epoch(module(config))
    found = [epoch(module(config, rank, 2)) for rank in range(2)]
    for one, other, batch in zip(*found, whole, strict=True):
        assert one["id"]
        assert other["id"]
        assert sorted([*one["id"], *other["id"]]) == sorted(batch["id"])


def test_a_language_model_cuts_blocks_within_the_buffer(shards: Path, tmp_path: Path) -> None:
    inputs = {"text": {"type": "sequence", "column": "text", "max_length": 16, "model": {"model_type": "gpt2"}}}
    config = streamed(shards, tmp_path, inputs=inputs, outputs={"next": {"type": "causal_lm"}}, trainer=BUDGET)
    data = module(config)
    batches = epoch(data)
    assert len(batches) == 30
    assert all(batch["inputs"]["text"]["input_ids"].shape[1] == 16 for batch in batches)
    rest = epoch(data, 0, 11, batches[10]["window"])
    for one, other in zip(rest, batches[11:], strict=True):
        assert torch.equal(one["inputs"]["text"]["input_ids"], other["inputs"]["text"]["input_ids"])


def test_limits_shorten_and_repeat_epochs(shards: Path, tmp_path: Path) -> None:
    short = module(streamed(shards, tmp_path, trainer={"limit_train_batches": 5}))
    assert len(epoch(short)) == short.batches_per_epoch == 5
    assert ids(epoch(short, 0)) != ids(epoch(short, 1))
    same = module(streamed(shards, tmp_path, trainer={"overfit_batches": 4}))
    assert ids(epoch(same, 0)) == ids(epoch(same, 1))
    assert len(ids(epoch(same, 1))) == 4


def test_too_few_rows_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="600 rows are too few to be streamed in batches of 512"):
        module(streamed(shards, tmp_path, batch_size=512))


def test_a_process_without_a_row_of_its_own_gets_one_that_does_not_count(shards: Path, tmp_path: Path) -> None:
    config = streamed(shards, tmp_path, max_tokens=24, trainer={"max_steps": 5, "validate_every": 5})
    whole = epoch(module(config))
    one, other = (epoch(module(config, rank, 2)) for rank in range(2))
    assert 1 in {len(batch["id"]) for batch in whole}
    for first, second, batch in zip(one, other, whole, strict=True):
        assert "uncounted" not in first
        assert ("uncounted" in second) == (len(batch["id"]) == 1)
        counted = second["id"] if len(batch["id"]) > 1 else []
        assert sorted([*first["id"], *counted]) == sorted(batch["id"])


@pytest.mark.parametrize(("counts", "batch_size"), [([7, 0, 30, 1], 4), ([100] * 9, 32), ([1000], 8), ([5] * 40, 12)])
@pytest.mark.parametrize("buffer", [1, 50, 10_000])
def test_lanes_and_windows_cover_the_rows(counts: list[int], batch_size: int, buffer: int) -> None:
    order = EpochOrder(counts, batch_size=batch_size, buffer=buffer, seed=0)
    sizes = np.zeros(order.num_batches, np.int64)
    seen: list[int] = []
    for window in range(-(-order.num_batches // order.window_batches)):
        for lane in range(order.lanes):
            rows = order.lane(lane, window)
            seen += range(rows.start, rows.stop)
            assert sum(rows.sizes) == rows.stop - rows.start
            first = window * order.window_batches
            sizes[first : first + len(rows.sizes)] += rows.sizes
    assert sorted(seen) == list(range(sum(counts)))
    assert sizes.min() > batch_size // 2
    assert sizes.max() <= batch_size + order.lanes - 1


def test_rows_of_passes_are_found_from_anywhere(shards: Path, tmp_path: Path) -> None:
    stream = module(streamed(shards, tmp_path)).splits.stream
    assert stream is not None
    whole = Passes(stream, 3).take(0, 1500)[0].column("id").to_pylist()
    assert sorted(whole[:600]) == sorted(whole[600:1200])
    assert whole[:600] != whole[600:1200]
    passes = Passes(stream, 3)
    for start, count in ((0, 5), (590, 20), (1190, 100), (3, 1)):
        assert passes.take(start, count)[0].column("id").to_pylist() == whole[start : start + count]
