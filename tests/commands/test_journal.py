"""The file of a study: what a killed writer, a full disk or a wrong bit leave of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is not installed (extra search)")

from optuna.storages.journal import JournalFileBackend

from eir_seq.commands.search.journal import Journal
from eir_seq.errors import UserError

ENTRIES = [{"op_code": number, "text": "é\n" * number} for number in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.journal"
    Journal(path).append_logs(ENTRIES[:3])
    return path


def test_what_was_appended_is_read_from_any_number_on(path: Path) -> None:
    journal = Journal(path)
    assert [list(journal.read_logs(number)) for number in range(4)] == [ENTRIES[number:3] for number in range(4)]
    Journal(path).append_logs(ENTRIES[3:])
    assert list(journal.read_logs(3)) == ENTRIES[3:]
    assert list(journal.read_logs(1)) == ENTRIES[1:]


@pytest.mark.parametrize("kept", [1, 30])
def test_a_line_that_was_cut_off_is_not_there(path: Path, kept: int) -> None:
    last = path.read_bytes().splitlines(keepends=True)[-1]
    os.truncate(path, path.stat().st_size - len(last) + kept)
    assert list(Journal(path).read_logs(0)) == ENTRIES[:2]
    Journal(path).append_logs(ENTRIES[2:])
    assert list(Journal(path).read_logs(0)) == ENTRIES


def test_a_full_disk_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eir_seq.commands.search.journal.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Journal(path).append_logs(ENTRIES[3:])
    assert path.read_bytes() == before


def test_every_wrong_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for place in range(len(lines[0]), len(whole) - len(lines[2]) - 1):  # of the second line, but for its end
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"study\.journal: line 2 is damaged; sweep\.start="):
            list(Journal(path).read_logs(0))


def test_a_journal_that_optuna_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.journal"
    JournalFileBackend(str(path)).append_logs(ENTRIES[:2])
    Journal(path).append_logs(ENTRIES[2:])
    assert list(Journal(path).read_logs(0)) == ENTRIES
    assert [{**entry, "crc": ""} for entry in JournalFileBackend(str(path)).read_logs(2)] == [
        {**entry, "crc": ""} for entry in ENTRIES[2:]
    ]
