from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from eir_seq.data import encoded as encoded_module
from eir_seq.data.encoded import EncodedInMemory, EncodedRows, EncodingCache, default_folder
from eir_seq.errors import RunFailed
from eir_seq.modalities.base import FittedModality, ragged, stacked
from eir_seq.rows import Rows


class Words:
    """Encodes a text as the lengths of its words; counts how often it was asked to."""

    columns = ("text",)
    encode_table = FittedModality.encode_table

    def __init__(self, version: str = "1") -> None:
        self.version, self.calls = version, 0

    def fingerprint(self) -> str:
        return self.version

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        self.calls += 1
        ids = [[len(word) for word in text.split()] for text in rows["text"]]
        return {
            "ids": pa.array(ids, pa.list_(pa.int32())),
            "length": pa.array([len(row) for row in ids], pa.int32()),
        }


def rows(count: int = 3000) -> Rows:
    return Rows.of({"text": [" ".join("x" * (1 + (i * j) % 9) for j in range(i % 5)) for i in range(count)]})


def encode(cache: EncodingCache, data: Rows, words: Words) -> EncodedRows:
    return cache.encode(data, words, "test")  # type: ignore[arg-type]


def check(encoded: EncodedRows, data: Rows) -> None:
    texts = list(data["text"])
    assert len(encoded) == len(texts)
    some = [0, len(texts) - 1, 1023, 1024, 7, 7]
    assert [row.tolist() for row in encoded.sequences("ids", some)] == [
        [len(word) for word in texts[row].split()] for row in some
    ]
    assert encoded.numbers("length").tolist() == [len(text.split()) for text in texts]


def test_rows_are_encoded_once_and_read_without_copies(tmp_path: Path) -> None:
    data, words = rows(), Words()
    check(encode(EncodingCache(tmp_path / "cache"), data, words), data)
    assert words.calls == 3
    again = encode(EncodingCache(tmp_path / "cache"), data, words)
    assert words.calls == 3
    check(again, data)
    view = again.sequences("ids", [4])[0]
    assert view.dtype == np.int32
    assert not view.flags.owndata
    assert [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()] == ["rows"]


def test_other_rows_or_another_tokenizer_are_encoded_anew(tmp_path: Path) -> None:
    cache, words = EncodingCache(tmp_path), Words()
    encode(cache, rows(), words)
    encode(cache, rows(2999), words)
    assert words.calls == 6
    encode(cache, rows(), Words("2"))
    assert len(list(tmp_path.iterdir())) == 3
    part = rows().select(range(100, 200))
    check_part = encode(cache, part, words)
    assert check_part.numbers("length").tolist() == [len(text.split()) for text in part["text"]]


def test_pickling_keeps_the_path_only(tmp_path: Path) -> None:
    data = rows()
    encoded = encode(EncodingCache(tmp_path), data, Words())
    encoded.sequences("ids", [0])
    frozen = pickle.dumps(encoded)
    assert len(frozen) < 500
    check(pickle.loads(frozen), data)


@pytest.mark.parametrize("damage", ["truncate", "empty", "junk", "flip"])
def test_a_damaged_file_is_built_anew(tmp_path: Path, damage: str) -> None:
    data, words = rows(), Words()
    path = encode(EncodingCache(tmp_path), data, words).path
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(np.int32(7).tobytes() * 2)] ^= 1  # a value, which the format would not notice
    damaged = {"truncate": content[: len(content) // 2], "empty": b"", "junk": b"x" * 100, "flip": bytes(flipped)}
    path.write_bytes(damaged[damage])
    check(encode(EncodingCache(tmp_path), data, words), data)
    assert words.calls == 6
    assert path.read_bytes() == content


def test_an_entry_that_is_removed_stays_readable(tmp_path: Path) -> None:
    """To the process that has it open, and to loader processes that start later."""
    data = rows()
    encoded = encode(EncodingCache(tmp_path / "cache"), data, Words())
    frozen = pickle.dumps(encoded)
    shutil.rmtree(tmp_path / "cache")
    check(encoded, data)
    check(pickle.loads(frozen), data)


def test_what_is_in_use_is_not_evicted(tmp_path: Path) -> None:
    def entries() -> int:
        return len(list(tmp_path.iterdir()))

    cache = EncodingCache(tmp_path, max_size=1)
    first = encode(cache, rows(10), Words())
    second = encode(cache, rows(20), Words())
    assert entries() == 2
    del first
    third = encode(cache, rows(30), Words())
    assert entries() == 2
    assert second.numbers("length")[5:].tolist() == [row % 5 for row in range(5, 20)]
    del second, third


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EncodingCache(tmp_path / "file" / "cache", tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        check(encode(cache, rows(), Words()), rows())
        encode(cache, rows(10), Words())
    assert len(list((tmp_path / "run").iterdir())) == 2
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/file/cache cannot be written (not a directory); encoded rows are kept in {tmp_path}/run "
        "for this run"
    ]


def test_a_temporary_folder_serves_where_none_is_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EncodingCache(tmp_path / "file" / "cache")
    encoded = encode(cache, rows(), Words())
    check(encoded, rows())
    assert not encoded.path.is_relative_to(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoded_module.os, "fsync", full)
    with pytest.raises(RunFailed, match=f"^{tmp_path}/run: encoded rows cannot be written: no space left on device$"):
        encode(EncodingCache(tmp_path / "cache", tmp_path / "run"), rows(), Words())
    assert not list((tmp_path / "cache").iterdir())
    assert not list((tmp_path / "run").iterdir())


def _build(folder: str, turn: Any) -> None:
    turn.wait()
    encode(EncodingCache(folder), rows(), Words())


def test_processes_may_build_the_same_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    turn = context.Barrier(3)
    processes = [context.Process(target=_build, args=(str(tmp_path), turn)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    words = Words()
    check(encode(EncodingCache(tmp_path), rows(), words), rows())
    assert words.calls == 0


class Deadly(Words):
    """Ends its process in the middle of the second chunk, as kill -9 does."""

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        if self.calls == 1:
            os._exit(9)
        return super().encode(rows)


def _die(folder: str) -> None:
    encode(EncodingCache(folder), rows(), Deadly())


def test_a_killed_build_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".tmp"]
    words = Words()
    check(encode(EncodingCache(tmp_path), rows(), words), rows())
    assert words.calls == 3
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["rows"]


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "eir_seq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_folder() == Path("/home/someone/.cache/eir_seq")


class Mixed:
    """An input with a feature of every form and of several dtypes."""

    columns = ("x",)
    encode_table = FittedModality.encode_table

    def fingerprint(self) -> str:
        return "mixed"

    def encode(self, given: dict[str, list[float]]) -> dict[str, pa.Array]:
        numbers = np.array(given["x"])
        return {
            "wide": stacked(numbers[:, None, None].astype(np.float32) + np.zeros((1, 2, 3), np.float32)),
            "pixels": stacked((numbers[:, None] % 256).astype(np.uint8).repeat(4, axis=1)),
            "ragged": ragged([np.full(int(number) % 5, number, np.float32) for number in numbers], np.float32),
            "long": ragged([np.full(2, int(number) << 33, np.int64) for number in numbers], np.int64),
            "half": pa.array(numbers.astype(np.float16)),
        }


def test_features_keep_their_dtype_and_shape(tmp_path: Path) -> None:
    """From the file and from memory; arrays of a file are copied once, into the batch."""
    data, mixed = Rows.of({"x": [float(row) for row in range(2500)]}), Mixed()
    mapped = EncodingCache(tmp_path).encode(data, mixed, "test")  # type: ignore[arg-type]
    memory = EncodedInMemory(mixed, data[:])  # type: ignore[arg-type]
    chosen = [2499, 3, 1024, 1023]
    for encoded in (mapped, memory):
        assert list(encoded.features) == ["wide", "pixels", "ragged", "long", "half"]
        wide, pixels = encoded.arrays("wide", chosen), encoded.arrays("pixels", chosen)
        assert (wide.shape, wide.dtype, pixels.dtype) == ((4, 2, 3), np.float32, np.uint8)
        assert wide[:, 1, 2].tolist() == chosen
        assert pixels[:, 3].tolist() == [row % 256 for row in chosen]
        found = encoded.sequences("ragged", chosen)
        assert [(len(row), row.dtype) for row in found] == [(row % 5, np.dtype(np.float32)) for row in chosen]
        assert encoded.sequences("long", [7])[0].tolist() == [7 << 33, 7 << 33]
        assert encoded.numbers("half").dtype == np.float16
    assert not mapped.sequences("ragged", [3])[0].flags.owndata
    assert not mapped._arrays["wide"][0].flags.owndata
