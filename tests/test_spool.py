from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from eir_seq import spool as spool_module
from eir_seq.spool import Spool, Stack, content_hash, filtered, forget_pages, zeros

ROWS = 1000


def spooled(folder: Path, memory: float, batch: int = 100) -> pa.Table:
    spool = Spool(folder, memory=memory)
    for start in range(0, ROWS, batch):
        rows = range(start, start + batch)
        spool.add(pa.record_batch({"text": [f"text {row}" if row % 7 else None for row in rows], "row": list(rows)}))
    return spool.table()


def mapped_bytes() -> int:
    """Bytes of deleted files, as those of spools are, that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith("(deleted)")]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


@pytest.mark.parametrize("memory", [float("inf"), 5000, 0])
def test_a_table_is_the_same_in_memory_and_in_a_file(tmp_path: Path, memory: float) -> None:
    table = spooled(tmp_path, memory)
    assert table.column("row").to_pylist() == list(range(ROWS))
    assert table.column("text")[8].as_py() == "text 8"
    assert table.column("text").null_count == 143
    assert content_hash(table) == content_hash(spooled(tmp_path, float("inf"), batch=250))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="tells what is mapped on Linux only")
def test_a_large_table_lies_in_a_file_that_goes_with_it(tmp_path: Path) -> None:
    before, allocated = mapped_bytes(), pa.total_allocated_bytes()
    table = spooled(tmp_path, 0)
    assert mapped_bytes() > before
    assert pa.total_allocated_bytes() == allocated
    forget_pages()
    assert table.column("text")[999].as_py() == "text 999"
    del table
    assert mapped_bytes() == before


def test_rows_are_filtered(tmp_path: Path) -> None:
    table = spooled(tmp_path, 0)
    keep = np.arange(ROWS) % 3 == 0
    assert filtered(table, keep, tmp_path).column("row").to_pylist() == list(range(0, ROWS, 3))
    assert filtered(table, np.ones(ROWS, bool), tmp_path) is table


def test_without_a_folder_that_can_be_written_rows_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    assert spooled(tmp_path / "file" / "below", 0).column("row").to_pylist() == list(range(ROWS))


def test_on_a_full_disk_the_rest_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        """A file on a disk with room for so many bytes."""

        def __init__(self, file: object, room: int) -> None:
            self.file, self.room = file, room

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            self.room -= len(data)
            if self.room < 0:
                self.file.write(bytes(data)[: len(data) // 2])  # type: ignore[attr-defined]
                raise OSError(28, "No space left on device")
            return int(self.file.write(data))  # type: ignore[attr-defined]

    import tempfile

    make = tempfile.TemporaryFile
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **options: Full(make(**options), 8000))
    table = spooled(tmp_path, 0)
    assert table.column("row").to_pylist() == list(range(ROWS))
    assert table.column("text")[999].as_py() == "text 999"
    assert table.column("text").num_chunks > 2
    assert "no space left on device" in caplog.text
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **options: Full(make(**options), 10))
    assert spooled(tmp_path, 0).column("row").to_pylist() == list(range(ROWS))


def test_the_hash_of_a_table_is_that_of_its_values() -> None:
    table = pa.table({"a": ["x", None, "-", "1 x", ""], "b": [1.0, None, 2.5, 0.0, 3.0]})
    assert content_hash(table) == content_hash(pa.concat_tables([table.slice(0, 2), table.slice(2)]))
    # of the first version; encoded rows and resumed runs are found by it
    assert content_hash(table) == "1facdd127d0d844455943f55e117c42e26f0ed8b15610d8b4ce2ed451700c147"
    for other in (["x", None, "-", "1 x", None], ["x", "-", None, "1 x", ""], ["x", None, "-1", " x", ""]):
        assert content_hash(table.set_column(0, "a", [other])) != content_hash(table)


@pytest.mark.parametrize("part", [1 << 20, 500, 0])
def test_arrays_come_back_from_memory_and_from_a_file(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "PART", part)
    draw, stack, pushed = np.random.default_rng(0), Stack(), []
    for width in (3, 3, 5, 0, 5):
        for rows in (4, 0, 7, 1):
            pushed.append((draw.random((rows, width), np.float32), draw.integers(9, size=rows)))
            stack.push(*pushed[-1])
    found = []
    while stack.filled:
        found.append(stack.pop())
    for width in (3, 5, 0):  # arrays of one shape may be joined
        ours, theirs = ([pair for pair in pairs if pair[0].shape[1] == width] for pairs in (found[::-1], pushed))
        for column in (0, 1):
            ours_joined, joined = (np.concatenate([pair[column] for pair in pairs]) for pairs in (ours, theirs))
            assert ours_joined.dtype == joined.dtype
            assert np.array_equal(ours_joined, joined)
    array = zeros((3, 200), np.int16)
    assert (array.shape, array.dtype, array.any()) == ((3, 200), np.int16, False)
    array[1, 2] = 5
    assert array.sum() == 5


def test_arrays_stay_in_memory_where_no_folder_takes_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module, "PART", 10)
    for name in ("pwrite", "posix_fallocate"):
        monkeypatch.setattr(os, name, full)
    stack = Stack()
    for row in range(3):
        stack.push(np.arange(row, row + 5))
    assert [stack.pop()[0].tolist() for _ in range(3)] == [[2, 3, 4, 5, 6], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4]]
    assert not stack.filled
    assert "No space left on device" in caplog.text
    assert zeros((50,), np.int64).tolist() == [0] * 50
