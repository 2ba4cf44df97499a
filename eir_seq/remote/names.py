"""Local copies, in messages, go by the URLs that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.remote.urls import shown

_NAMES: dict[str, str] = {}
"""URLs by the paths of their copies."""


def name_copy(path: str | Path, url: str) -> None:
    """Say which URL a local copy is of."""
    _NAMES[str(path)] = url


def original(path: str) -> str:
    """The URL that a local copy is of; other paths as they are."""
    return _NAMES.get(path, path)


def by_url(text: str) -> str:
    """A text in which local copies are named by their URLs."""
    for path, url in _NAMES.items():
        if path in text:
            text = text.replace(path, shown(url))
    return text


@contextmanager
def named_by_url() -> Iterator[None]:
    """Where faults are about local copies, name their URLs."""
    try:
        yield
    except UserError as error:
        if not _NAMES:
            raise
        faults = (Fault(by_url(fault.place), by_url(fault.message), fault.source) for fault in error.faults)
        raise UserError(*faults) from error.__cause__
