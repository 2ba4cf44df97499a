"""The project that the tests of searches share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.search_project import end_workers, search_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with experiments whose trials are a script. No worker outlives it."""
    yield search_project(tmp_path, monkeypatch)
    end_workers()
