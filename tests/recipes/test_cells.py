"""The table of tasks with a known answer: each cell reaches our bar, and the command keeps and writes what it finds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.recipes import __main__ as command
from tests.recipes import write_inputs
from tests.recipes.cells import CELLS, Cell
from tests.recipes.language import LANGUAGE, LOSS, WORDS, known_words
from tests.recipes.words import KEYWORDS, make_category, make_text, words_of

EVERY_CELL = command.EVERY_CELL


def cell(name: str) -> Cell:
    """A cell by its name."""
    return next(cell for cell in CELLS if cell.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("cell", EVERY_CELL, ids=lambda cell: cell.name)
def test_in_full(cell: Cell, tmp_path: Path) -> None:
    """One seed; the table has the mean of three."""
    assert cell.missed(cell.run(tmp_path, 0)) == {}


def test_few_texts_are_learned(tmp_path: Path) -> None:
    found = cell("sequence, class: transformer").run(tmp_path, 0, per_class=100, epochs=3)
    assert found["origin"] > 0.8


def test_a_language_model_writes_some_text(tmp_path: Path) -> None:
    found = LANGUAGE[0].run(tmp_path, 0, per_class=30, epochs=1)
    assert 1 < found[LOSS] < 4
    assert LANGUAGE[0].missed({LOSS: 1.4, WORDS: 2}) == {}
    assert LANGUAGE[0].missed({LOSS: 1.5, WORDS: 1}) == {LOSS: 1.5, WORDS: 1}
    assert known_words("a tiger ly", "nx panda yak") == 3
    assert known_words("ly", "") == 0
    assert known_words("ly", "nx lynx") == 2


def test_keywords_show_the_class_and_their_number_the_height(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number, own in enumerate(KEYWORDS):
        text, k = words_of(number, random)
        assert sum(word in own for word in text.split()) == k
        assert not any(word in other for word in text.split() for other in KEYWORDS if other != own)
    tables = write_inputs(tmp_path, {"text": make_text, "level": make_category}, per_class=40, test=30, lacking=20)
    rows = [row for path in (tables.train, tables.test) for row in csv.DictReader(path.open())]
    assert len(rows) == 120
    assert all(row["text"] or row["level"] for row in rows)
    assert all((row["days"] == "") == (row["died"] == "") for row in rows)
    targets = ("origin", "height", "size", "days")
    assert all(any(row[name] for name in targets) for row in rows)
    for name in targets:
        assert 0.02 < sum(row[name] == "" for row in rows) / len(rows) < 0.25
    lost = [sum(row[name] == "" for row in rows) for name in ("text", "level")]
    assert all(10 < count <= 20 for count in lost)
    assert {row["died"] for row in rows if row["origin"] == "Asia"} <= {"0", ""}


def test_the_command_goes_on_and_writes_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = CELLS[0], CELLS[1]
    monkeypatch.setattr(command, "EVERY_CELL", [first, second])
    trained: list[tuple[str, int]] = []

    def run(self: Cell, folder: Path, seed: int) -> dict[str, float]:
        assert folder.is_dir()
        trained.append((self.name, seed))
        if trained == [(first.name, 0), (first.name, 1)]:
            raise KeyboardInterrupt
        return {"origin": 0.9 + seed / 100}

    monkeypatch.setattr(Cell, "run", run)
    results, document = tmp_path / "recipes.json", tmp_path / "results.md"
    document.write_text(f"before\n{command.BEGIN}old{command.END}\nafter\n")
    arguments = ["--results", str(results), "--write", str(document)]
    with pytest.raises(KeyboardInterrupt):
        command.main(arguments)
    assert len(json.loads(results.read_text())) == 1
    command.main([*arguments, "--only", "no cell"])
    assert f"| {first.name} | 0.8 | origin 0.900 (1 of 3 seeds) |  | 30 |" in document.read_text()
    command.main([*arguments, "--only", "linear"])
    assert trained[2:] == [(first.name, 1), (first.name, 2)]
    assert f"| {first.name} | 0.8 | origin 0.910 | 0.010 | 30 |" in document.read_text()
    assert f"| {second.name} | 0.8 | not run |" in document.read_text()
    assert document.read_text().startswith("before\n")
    assert document.read_text().endswith("\nafter\n")
    command.main(arguments)
    assert len(json.loads(results.read_text())) == 6


def test_names_are_unique() -> None:
    assert len({cell.name for cell in EVERY_CELL}) == len(EVERY_CELL)
