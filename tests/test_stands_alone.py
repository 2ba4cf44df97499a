"""The project needs nothing beside its own folder: no path of its code leads out of the checkout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "eir_seq", "docs", "tutorials", "conf")
_PARENTS = re.compile(r"__file__\)(?:\.resolve\(\))?\.parents\[(\d+)\]((?:\s*\)?\.parent\b|\s*/\s*\"\.\.\")*)")


def leading_out(text: str, depth: int) -> list[str]:
    """Paths in the text of a file, `depth` folders below the root, that lead above the root."""
    found = []
    for match in _PARENTS.finditer(text):
        ups = int(match.group(1)) + len(re.findall(r"\.parent\b|\"\.\.\"", match.group(2)))
        if ups > depth:
            found.append(match.group())
    return found + re.findall(r"\bROOT\.parents?\b", text)


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__).resolve())


def test_no_path_leads_out_of_the_checkout() -> None:
    paths = list(sources())
    assert len(paths) > 300
    wrong = {}
    for path in paths:
        depth = len(path.relative_to(ROOT).parts) - 1
        if found := leading_out(path.read_text("utf-8"), depth):
            wrong[str(path.relative_to(ROOT))] = found
    assert not wrong


@pytest.mark.parametrize(
    "text",
    [
        'Path(__file__).resolve().parents[3] / "other"',
        'Path(__file__).parents[2].parent / "other"',
        'Path(__file__).parents[2] / ".." / "other"',
        'ROOT.parent / "other"',
    ],
)
def test_such_paths_are_found(text: str) -> None:
    assert leading_out(text, 2)
    assert not leading_out('Path(__file__).parents[2] / "conf"', 2)
