"""Folders in a store as they would look here: some files are fetched, the others only have their names and sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from eir_seq.errors import Fault, UserError
from eir_seq.remote.folders import FETCHED_AT_ONCE, RemoteFolder
from eir_seq.remote.names import name_copy
from eir_seq.remote.urls import shown


@contextmanager
def outlined(url: str, place: str, wanted: Callable[[str], bool], most: int = 1 << 26) -> Iterator[Path]:
    """A temporary local folder with all files of a remote one.

    Args:
        url: of the remote folder.
        place: what names it in messages.
        wanted: whether a file, by its name in the folder, is fetched; others are holes of their size, which take no
            space.
        most: bytes beyond which a file is not fetched.

    Raises:
        UserError: there is no such folder, or it cannot be read.
    """
    remote = RemoteFolder(url, place)
    files = {name: size for name, size in remote.files().items() if ".." not in PurePosixPath(name).parts}
    if not files:
        raise UserError(Fault(place, f"{shown(url)}: no such folder"))
    with tempfile.TemporaryDirectory(prefix="eir_seq-") as base:
        local = Path(base) / (PurePosixPath(urlsplit(remote.url).path).name or urlsplit(url).netloc)
        name_copy(local, remote.url)
        fetched = [name for name, size in files.items() if size <= most and wanted(name)]
        for name in files.keys() - set(fetched):
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            with (local / name).open("xb") as file:
                file.truncate(files[name])
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            list(pool.map(lambda name: remote.fetch(name, local / name), fetched))
        yield local
