"""Folders in a store: run folders, bundles, and those of the files that cells name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from eir_seq.cache import Cache, Label
from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder
from eir_seq.remote.files import KEPT, Kept, version
from eir_seq.remote.names import name_copy
from eir_seq.remote.urls import current, failures, shown


class RemoteFolder:
    """A folder in a store, whose files are listed, fetched and written.

    Args:
        url: of the folder.
        place: the config key or option that names it.

    Raises:
        UserError: the scheme is not read, or its package is not installed.
    """

    def __init__(self, url: str, place: str) -> None:
        self.system, path = current(url, place)
        self.url, self.path, self.place = url.rstrip("/"), path.rstrip("/"), place

    def files(self) -> dict[str, int]:
        """Sizes of all files by their names in the folder; empty if there is no such folder."""
        with failures(self.url, self.place):
            try:
                found = self.system.find(self.path, detail=True)
            except FileNotFoundError:
                return {}
            start = len(self.path) + 1
            return {name[start:]: int(info.get("size") or 0) for name, info in found.items() if len(name) > start}
        raise AssertionError("failures passes nothing on")

    def read(self, name: str, most: int = 1 << 26) -> bytes | None:
        """The contents of a small file; None if there is none."""
        with failures(self._of(name), self.place):
            try:
                with self.system.open(f"{self.path}/{name}", "rb") as file:
                    content: bytes = file.read(most + 1)
            except FileNotFoundError:
                return None
            if len(content) > most:
                raise ValueError(f"more than {most >> 20} MB")
            return content
        raise AssertionError("failures passes nothing on")

    def fetch(self, name: str, target: Path) -> None:
        """Write a file of the folder to a path; it appears whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        opened = self.system.open
        with (
            failures(self._of(name), self.place),
            _aside(target) as partial,
            opened(f"{self.path}/{name}", "rb") as source,
            partial.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)

    def store(self, source: Path, name: str) -> None:
        """Write a local file into the folder; stores show it whole or not at all."""
        with failures(self._of(name), self.place):
            self.system.put_file(str(source), f"{self.path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a small file into the folder."""
        with failures(self._of(name), self.place):
            self.system.pipe_file(f"{self.path}/{name}", content)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files of the folder; those that are not there stay away."""
        with failures(self.url, self.place), contextlib.suppress(FileNotFoundError):
            if names:
                self.system.rm([f"{self.path}/{name}" for name in names])

    def _of(self, name: str) -> str:
        return f"{self.url}/{name}"


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def mirrored(url: str, names: Iterable[str], place: str, folder: str | Path | None, most: int) -> Path:
    """A local folder with those of some files of a remote one that are there; each is fetched once for its version.

    Args:
        url: of the remote folder.
        names: of files, relative to it; those that lead out of it, or are not there, are not fetched.
        place: the config key that names the folder.
        folder: the cache folder; the user's one if absent.
        most: bytes that a file may have.

    Raises:
        UserError: a file is too large, or cannot be fetched.
    """
    base = Path(folder if folder is not None else default_folder()).expanduser() / "files"
    local = base / hashlib.sha256(shown(url).encode()).hexdigest()[:32]
    name_copy(local, url.rstrip("/"))
    key = (url, os.getpid())
    if key not in _MIRRORS:
        _MIRRORS[key] = RemoteFolder(url, place)
    remote = _MIRRORS[key]
    inside = {name for name in names if name and not os.path.isabs(name) and ".." not in PurePosixPath(name).parts}
    wanted = sorted(name for name in inside if (url, name) not in _CURRENT)
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        list(pool.map(lambda name: _renew(remote, name, local / name, most), wanted))
    _CURRENT.update((url, name) for name in wanted)
    return local


FETCHED_AT_ONCE = 16
_MIRRORS: dict[tuple[str, int], RemoteFolder] = {}
_CURRENT: set[tuple[str, str]] = set()
"""Files that this process has looked at: they are the same for as long as it lives."""


def _renew(remote: RemoteFolder, name: str, target: Path, most: int) -> None:
    """Fetch a file unless the copy has its version; none if there is no such file."""
    url = f"{remote.url}/{name}"
    try:
        state = version(url, remote.place)
    except UserError as error:
        if "no such file" in error.faults[0].message:
            return
        raise
    if isinstance(state[0], int) and state[0] > most:
        raise UserError(Fault(remote.place, f"{shown(url)}: {state[0] >> 20:,} MB; at most {most >> 20:,} MB are read"))
    # The time of a copy stands for its version, by which what is encoded from it is cached.
    stamp = int.from_bytes(hashlib.blake2b(repr(state).encode(), digest_size=4).digest(), "big")
    if target.is_file() and int(target.stat().st_mtime) == stamp:
        return
    remote.fetch(name, target)
    os.utime(target, (stamp, stamp))


def fetched_folder(url: str, files: Mapping[str, bytes | None], place: str, folder: str | Path | None) -> Path:
    """A local copy, in the cache, of a remote folder whose files are known and do not change.

    Args:
        url: of the remote folder.
        files: names, and contents where they are known already; these name the copy.
        place: the config key or option that names the folder.
        folder: the cache folder; the user's one if absent.

    Raises:
        UserError: a name leads out of the folder, or a file cannot be fetched.
    """
    for name in files:
        if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise UserError(Fault(place, f"{shown(url)} names a file outside of it: {name!r}"))
    remote, stem = RemoteFolder(url, place), PurePosixPath(urlsplit(url).path).name or "folder"
    state = [shown(url), *((name, hashlib.sha256(content).hexdigest()) for name, content in files.items() if content)]

    def build(target: Path, renew: Callable[[], None]) -> Label:
        def get(item: tuple[str, bytes | None]) -> None:
            path = target / stem / item[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            if item[1] is None:
                remote.fetch(item[0], path)
            else:
                path.write_bytes(item[1])
            renew()

        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            list(pool.map(get, files.items()))
        return Label("download", shown(url))

    name = f"download-{hashlib.sha256(repr(state).encode()).hexdigest()}"
    cache = Cache(folder if folder is not None else default_folder())
    found = cache.get(name, build, lambda entry, mark: Kept(entry / stem, mark))
    assert found is not None, "all that is built is kept"
    KEPT.append(found)
    name_copy(found.path, url)
    return found.path


MANIFEST = "manifest.json"
"""What a bundle, as any checkpoint, lists its files in."""
MOST_FILES = 100_000


def fetched_bundle(url: str, place: str = "run", cache: str | Path | None = None) -> Path:
    """A copy, in the cache, of the bundle at a URL, or of that in the run folder there.

    Args:
        url: of a run folder or a bundle.
        place: the option that names it.
        cache: the cache folder; the user's one if absent.

    Raises:
        UserError: there is none, or it cannot be fetched.
    """
    for folder in (f"{url.rstrip('/')}/bundle", url.rstrip("/")):
        content = RemoteFolder(folder, place).read(MANIFEST)
        if content is None:
            continue
        files = None
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            files = json.loads(content).get("files")
        if isinstance(files, dict) and len(files) <= MOST_FILES:
            return fetched_folder(folder, {**dict.fromkeys(files), MANIFEST: content}, place, cache)
    raise UserError(Fault(place, f"{shown(url)} is neither a run folder with a bundle nor a bundle"))
