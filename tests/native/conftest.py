"""Tests of the kernels use a build of this version, if there is one: compiling takes a minute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eir_seq.native import library
from tests.uninitialized import filled_memory

__all__ = ["filled_memory", "kernels"]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Native kernels are used."""
    if not any(build.key == library.Key.here() for build in library.builds()):
        pytest.skip(f"no native kernels of this version are built; run: {library.BUILD}")
    monkeypatch.setenv(library.SWITCH, "1")
    library.forget()
    assert library.available()
    yield
    library.forget()
