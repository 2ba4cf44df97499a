"""A store like S3 in a folder: files appear there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Store:
    """What `eir_seq.remote.RemoteFolder` asks of a file system of fsspec."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, int]]:
        """The files below a path, with their sizes."""
        files = [found for found in (self.root / path).rglob("*") if found.is_file()]
        return {found.relative_to(self.root).as_posix(): {"size": found.stat().st_size} for found in files}

    def open(self, path: str, mode: str) -> Any:
        """A file, to be read."""
        assert mode == "rb"
        return (self.root / path).open(mode)

    def put_file(self, source: str, path: str) -> None:
        """Upload a file."""
        self.pipe_file(path, Path(source).read_bytes())

    def pipe_file(self, path: str, content: bytes) -> None:
        """Upload bytes."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.root, prefix=".uploading-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, target)

    def rm(self, paths: Sequence[str]) -> None:
        """Remove files, and the folders that are empty then, of which a store knows nothing."""
        for path in paths:
            (self.root / path).unlink()
            for folder in (self.root / path).parents:
                if folder == self.root or any(folder.iterdir()):
                    break
                shutil.rmtree(folder)


def mount(folder: Path) -> None:
    """In a command's process: ``s3://`` is the folder ``store`` of its project."""
    from eir_seq.remote import folders, urls

    (folder / "store").mkdir(exist_ok=True)
    store = Store(folder / "store")

    def filesystem(url: str, place: str) -> tuple[Any, str]:
        parts = urlsplit(url)
        return store, parts.netloc + parts.path

    urls.SCHEMES["s3"] = ("fsspec", "")
    folders.current = filesystem  # type: ignore[attr-defined]
