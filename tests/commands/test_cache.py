from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from eir_seq.cache import Cache, Label
from eir_seq.cache.owners import Mark
from eir_seq.commands import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder: two entries, one of them old, two of an earlier version, and a file that is not ours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "eir_seq"

    def build(path: Path, _: object) -> Label:
        (path / "rows.arrow").write_bytes(bytes(3_000_000))
        return Label("encoded rows", "imdb (train.csv) text: train", 25_000)

    for number in (1, 2):
        Cache(folder).get(f"rows-{number:064x}", build, lambda *_: True)
    when = time.time() - 40 * 86400
    os.utime(folder / f"rows-{1:064x}" / "manifest.json", (when, when))
    for letter in "ab":
        (folder / f"{letter * 64}.arrow").write_bytes(bytes(1000))
        os.utime(folder / f"{letter * 64}.arrow", (when - 10 * 86400, when - 10 * 86400))
    (folder / "mine.txt").touch()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name.lstrip("rows-0")[:8] for path in folder.iterdir())


def test_list(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = Mark(cache / f"rows-{2:064x}")
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "kind of rows size created last used",
        "encoded rows imdb (train.csv) text: train 25,000 3.0 MB now now in use",
        "encoded rows imdb (train.csv) text: train 25,000 3.0 MB now 40 d ago",
        "encoded rows 2 (of an earlier version) 2.0 kB 50 d ago 50 d ago",
        f"{cache}: 4 entries, 6.0 MB",
    ]
    mark.release()
    assert main(["cache", "list", "--dir", str(cache / "nowhere")]) == 2
    assert capsys.readouterr().err == f"--dir: {cache}/nowhere is not a folder\n"


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ([], ["1", "2", "mine.txt"]),
        (["--older-than", "30d"], ["2", "mine.txt"]),
        (["--older-than", "60d"], ["1", "2", "mine.txt"]),
        (["--max-size", "4MB"], ["2", "mine.txt"]),
        (["--all"], ["mine.txt"]),
    ],
)
def test_clean(cache: Path, flags: list[str], left: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = names(cache)
    assert main(["cache", "clean", "--dry-run", *flags]) == 0
    planned = capsys.readouterr().out
    assert names(cache) == before
    assert main(["cache", "clean", *flags]) == 0
    assert names(cache) == left
    assert capsys.readouterr().out == planned.replace("would be removed", "removed")


def test_clean_leaves_alone_what_is_in_use(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = Mark(cache / f"rows-{1:064x}")
    assert main(["cache", "clean", "--all"]) == 0
    assert names(cache) == ["1", "mine.txt"]
    assert "in use, and left alone: 1 entry, 3.0 MB" in capsys.readouterr().out
    mark.release()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--older-than", "3x"], "argument --older-than: '3x' is not an age; write for example 30d, 12h or 2w"),
        (["--max-size", "big"], "argument --max-size: 'big' is not a size; write for example 20GB, 500MB or 1.5TiB"),
    ],
)
def test_ages_and_sizes(cache: Path, flags: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clean", *flags]) == 2
    assert capsys.readouterr().err.splitlines() == [f"eir_seq cache clean: {line}"]
    assert len(names(cache)) == 5
