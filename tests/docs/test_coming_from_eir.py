"""Every experiment that the page for users of EIR writes down is one that passes all checks of configs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from eir_seq.config.validation import validate_experiment
from tests.docs.example_files import named_in, published
from tests.readme import ROOT

PAGE = ROOT / "docs/guide/coming_from_eir.md"
REASONS = ("no stream: ", "plug-in: ")
EXPERIMENTS = 65


@dataclass(frozen=True)
class Row:
    """An experiment of the page: the YAML above its table, and what the table says."""

    name: str
    base: Mapping[str, Any]
    says: str

    @property
    def changes(self) -> dict[str, Any] | None:
        """The keys in which it differs; None where it is not written down."""
        if self.says == "as shown":
            return {}
        code = re.fullmatch(r"`(\{.*\})`", self.says)
        return yaml.safe_load(code[1]) if code else None


def rows() -> Iterator[Row]:
    """The experiments of the page, in order."""
    part = PAGE.read_text("utf-8").split("## Tutorials")[1]
    for section in part.split("\n### ")[1:]:
        shown = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
        base = yaml.safe_load(shown[1]) if shown else {}
        for line in section.splitlines():
            if line.startswith("|") and not line.startswith(("| experiment |", "|---")):
                name, says = line.strip("| ").split(" | ", 1)
                yield Row(name, base, says)


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with the changes of another; null removes a key; another type replaces its options."""
    found = dict(base)
    for key, value in changes.items():
        if value is None:
            found.pop(key)
        elif isinstance(value, Mapping) and isinstance(found.get(key), Mapping) and _same_kind(found[key], value):
            found[key] = changed(found[key], value)
        else:
            found[key] = value
    return found


def _same_kind(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(after.get(key) in (None, before.get(key)) for key in ("type", "model_type"))


ROWS = list(rows())


def test_all_experiments_are_there() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) == EXPERIMENTS
    assert [row for row in ROWS if row.changes is None and not row.says.startswith(REASONS)] == []


@pytest.mark.parametrize("row", [row for row in ROWS if row.changes is not None], ids=lambda row: row.name)
def test_it_is_a_valid_experiment(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in named_in(row.says):
        published(name, tmp_path)
    for name in ("resnet18.pth", "rows.csv"):
        Path(name).touch()
    assert row.changes is not None
    validate_experiment(changed({"data": {"train": "rows.csv"}, **row.base}, row.changes))
