from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eir_seq.cache import owners
from eir_seq.cache.owners import Lock, Mark, marks, may_live, temporary_name, this_process
from eir_seq.cache.store import Cache, Label

FORK = multiprocessing.get_context("fork")
CONTENT = "what took long to compute"


def name(number: int = 0) -> str:
    return f"text-{number:064x}"


class Texts:
    """Entries of two small files; counts how often they are built."""

    def __init__(self, folder: Path, max_size: int | None = None) -> None:
        self.cache, self.built = Cache(folder, max_size), 0

    def build(self, folder: Path, renew: Callable[[], None]) -> Label:
        self.built += 1
        (folder / "inner").mkdir()
        (folder / "text.txt").write_text(CONTENT)
        renew()
        (folder / "inner" / "other.txt").write_text("x")
        return Label("text", "a test", rows=3)

    def get(self, number: int = 0) -> tuple[str, Mark | None]:
        found = self.cache.get(name(number), self.build, lambda path, mark: ((path / "text.txt").read_text(), mark))
        assert found is not None
        assert found[0] == CONTENT
        return found

    def names(self) -> list[int]:
        return sorted(int(path.name.partition("-")[2], 16) for path in self.cache.folder.iterdir())


def use(texts: Texts, number: int) -> None:
    """Read an entry and let go of it."""
    _, mark = texts.get(number)
    assert mark is not None
    mark.release()


def age(texts: Texts, number: int, days: float) -> None:
    when = time.time() - days * 86400
    os.utime(texts.cache.folder / name(number) / "manifest.json", (when, when))


def test_an_entry_is_built_once_and_says_what_it_is(tmp_path: Path) -> None:
    texts = Texts(tmp_path / "cache")
    _, mark = texts.get()
    _, again = texts.get()
    assert texts.built == 1
    (entry,) = texts.cache.entries()
    assert entry.label == Label("text", "a test", 3)
    assert entry.in_use
    assert entry.readable
    assert entry.bytes > len(CONTENT)
    assert time.time() - entry.created < 60
    assert mark is not None
    assert again is not None
    mark.release()
    again.release()
    assert not texts.cache.entries()[0].in_use
    assert sorted(path.name for path in entry.path.iterdir()) == ["inner", "manifest.json", "text.txt"]


@pytest.mark.parametrize("file", ["text.txt", "inner/other.txt", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "more", "gone", "folder", "pipe", "link"])
def test_damage_is_found_and_mended_with_one_line(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = Texts(tmp_path)
    use(texts, 0)
    path = tmp_path / name() / file
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage in ("cut", "more"):
        path.write_bytes(content[:-1] if damage == "cut" else content + b" ")
    elif damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to("nowhere")
    harmless = file == "manifest.json" and damage == "more"  # a space behind the JSON
    with caplog.at_level(logging.WARNING):
        use(texts, 0)
        use(texts, 0)
    assert texts.built == (1 if harmless else 2)
    assert len(caplog.records) == (0 if harmless else 1)
    assert harmless or caplog.records[0].getMessage().startswith(f"{tmp_path / name()} is damaged (")
    assert texts.names() == [0]


@pytest.mark.parametrize(
    "content", ["null", "[]", "{}", '{"hash": 1}', "[" * 100_000, '{"files": null, "hash": "x"}', ""]
)
def test_a_manifest_that_is_none_is_damage(tmp_path: Path, content: str) -> None:
    texts = Texts(tmp_path)
    use(texts, 0)
    (tmp_path / name() / "manifest.json").write_text(content)
    assert not texts.cache.entries()[0].readable
    use(texts, 0)
    assert texts.built == 2


def test_a_disk_that_damages_what_is_written_is_an_error(tmp_path: Path) -> None:
    texts = Texts(tmp_path)

    def read(path: Path, mark: Mark | None) -> str:
        raise ValueError("never right")

    with pytest.raises(OSError, match="what is read is not what was written"):
        texts.cache.get(name(), texts.build, read)


def test_the_least_recently_used_go_first_and_used_ones_stay(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    for number in range(5):
        use(texts, number)
        age(texts, number, days=10 - number)
    age(texts, 1, days=0)
    size = texts.cache.entries()[0].bytes
    _, mark = texts.get(0)
    age(texts, 0, days=30)
    texts.cache.max_size = 4 * size + size // 2
    use(texts, 5)
    assert texts.names() == [0, 1, 4, 5]
    texts.cache.max_size = 0
    use(texts, 6)
    assert texts.names() == [0, 6] or texts.names() == [0]
    assert mark is not None
    mark.release()


def test_entries_of_an_earlier_version_are_seen_and_evicted_first(tmp_path: Path) -> None:
    old, tokenizer, foreign = tmp_path / f"{'a' * 64}.arrow", tmp_path / f"tokenizer-{'b' * 64}", tmp_path / "mine.txt"
    old.write_text("x" * 500)
    tokenizer.mkdir()
    (tokenizer / "fingerprint").write_text("x")
    foreign.write_text("not ours")
    for path in (old, tokenizer):
        os.utime(path, (1e9, 1e9))
    texts = Texts(tmp_path)
    use(texts, 0)
    found = {entry.path.name: entry for entry in texts.cache.entries()}
    assert found[old.name].bytes == 500
    assert [entry.readable for entry in texts.cache.entries()] == [False, False, True]
    texts.cache.max_size = 2000
    use(texts, 1)
    assert old.exists()
    texts.cache.max_size = sum(entry.bytes for entry in texts.cache.entries()) - 400
    use(texts, 0)
    use(texts, 2)
    assert not old.exists()
    assert foreign.exists()


def test_what_dead_processes_left_is_removed_and_live_ones_are_left_alone(tmp_path: Path) -> None:
    machine, pid, start = this_process().split("-")
    dead = f"{machine}-{pid}-{int(start) + 1}"
    elsewhere = f"{'0' * 12}-1-1"
    gone = [f".text-0-{dead}-01234567.tmp", f".{name()}.lock", ".0123456789abcdef-77-01234567.tmp"]
    kept = [
        temporary_name("text-0"),
        f".text-0-{elsewhere}-01234567.tmp",
        ".mine.tmp",
        ".0123456789abcdef-7-01234567.tmp",
    ]
    for entry in gone + kept:
        (tmp_path / entry).mkdir()
    (tmp_path / gone[1] / f".used-by-{dead}-01234567").touch()
    for entry in (gone[2], kept[2]):
        os.utime(tmp_path / entry, (1e9, 1e9))
    use(Texts(tmp_path), 1)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, name(1)}


def test_a_mark_counts_as_long_as_its_process_lives(tmp_path: Path) -> None:
    machine, pid, start = this_process().split("-")
    assert may_live(this_process(), seen=0)
    assert not may_live(f"{machine}-{pid}-{int(start) + 1}", seen=time.time())
    other = f"{'0' * 12}-{pid}-{start}"
    assert may_live(other, seen=time.time() - 3600)
    assert not may_live(other, seen=time.time() - 2 * 86400)

    def wait() -> None:
        mark = Mark(tmp_path)
        signal.pause()
        mark.release()

    process = FORK.Process(target=wait)
    process.start()
    while not marks(tmp_path):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    while marks(tmp_path):  # before its parent has asked for its exit code, too
        time.sleep(0.01)
    process.join()
    assert not list(tmp_path.iterdir())


def test_a_forked_child_does_not_release_its_parents_mark(tmp_path: Path) -> None:
    mark = Mark(tmp_path)
    process = FORK.Process(target=mark.release)
    process.start()
    process.join()
    assert mark.path.exists()
    mark.release()
    assert not mark.path.exists()


def _get(folder: Path, results: Any, seconds: float) -> None:
    texts = Texts(folder)
    build = texts.build

    def slow(path: Path, renew: Callable[[], None]) -> Label:
        time.sleep(seconds)
        return build(path, renew)

    texts.build = slow  # type: ignore[method-assign]
    use(texts, 0)
    results.put(texts.built)


def test_one_process_builds_while_the_others_wait(tmp_path: Path) -> None:
    results = FORK.Queue()
    processes = [FORK.Process(target=_get, args=(tmp_path, results, 0.3)) for _ in range(4)]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=30) for _ in processes) == [0, 0, 0, 1]
    for process in processes:
        process.join()
    assert [path.name for path in tmp_path.iterdir()] == [name()]


def test_a_builder_that_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    process = FORK.Process(target=_get, args=(tmp_path, FORK.Queue(), 60))
    process.start()
    while not any(path.suffix == ".tmp" and path.name.startswith(".text") for path in tmp_path.iterdir()):
        time.sleep(0.01)
    process.kill()
    process.join()
    start = time.monotonic()
    texts = Texts(tmp_path)
    use(texts, 0)
    assert texts.built == 1
    assert time.monotonic() - start < 5
    assert texts.names() == [0]


def test_a_builder_without_a_sign_of_life_is_waited_for_in_vain_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is stopped, or was killed on another machine."""
    monkeypatch.setattr(owners, "PATIENCE", 0.3)
    monkeypatch.setattr(owners, "_SILENT", 0.0)
    lock = tmp_path / f".{name()}.lock"
    lock.mkdir()
    (lock / f".used-by-{'0' * 12}-77-1-01234567").touch()
    texts = Texts(tmp_path)
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        use(texts, 0)
    assert 0.3 <= time.monotonic() - start < 5
    assert [record.getMessage() for record in caplog.records] == [f"waiting for process 77, which builds {name()}"]


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / ".x.lock"
    with Lock(path):
        assert len(marks(path)) == 1
    assert not path.exists()
    path.mkdir()  # killed between the two steps of its release
    with Lock(path) as lock:
        lock.renew()
    assert not list(tmp_path.iterdir())


def test_an_entry_that_is_evicted_while_it_is_opened_is_built_anew(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    use(texts, 0)
    evicted = []

    def read(path: Path, mark: Mark | None) -> str:
        if not evicted:
            shutil.rmtree(path)
            evicted.append(path)
        return (path / "text.txt").read_text()

    assert texts.cache.get(name(), texts.build, read) == CONTENT
    assert texts.built == 2


def test_entries_can_be_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Texts(tmp_path)
    use(texts, 0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(30, "Read-only file system")

    for function in ("mkdir", "rename", "utime"):
        monkeypatch.setattr(owners.os, function, refuse)
    monkeypatch.setattr("eir_seq.cache.store.Mark", refuse)
    _, mark = texts.get()
    assert mark is None
    assert texts.built == 1
    with pytest.raises(OSError, match="Read-only"):
        texts.get(1)


def test_manifests_are_json_that_people_can_read(tmp_path: Path) -> None:
    use(Texts(tmp_path), 0)
    manifest = json.loads((tmp_path / name() / "manifest.json").read_text())
    assert manifest["label"] == {"kind": "text", "of": "a test", "rows": 3}
    assert sorted(manifest["files"]) == ["inner/other.txt", "text.txt"]
