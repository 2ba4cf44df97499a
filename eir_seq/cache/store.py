"""The cache folder: entries that are whole or absent, verified when they are read, and bounded in size."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import xxhash

from eir_seq.cache.owners import Lock, Mark, is_leftover, marks, temporary_name
from eir_seq.files import open_regular, read_small

log = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 1
"""Of manifests; entries with another one are rebuilt."""
MANIFEST = "manifest.json"
TRIES = 3
EARLIER_LEFTOVER_SECONDS = 24 * 3600.0
"""A temporary file of an earlier version this old was left by a process that died."""

_NAME = re.compile(r"[a-z]+-[0-9a-f]{64}")
_EARLIER = re.compile(r"[0-9a-f]{64}\.arrow")
_EARLIER_LEFTOVER = re.compile(r"\.(?:[0-9a-f]{16}-\d+-[0-9a-f]{8}|tokenizer-\w+)\.tmp")
_EARLIER_TOKENIZER = "fingerprint"
_NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Label:
    """What an entry holds, in readable form.

    `kind`: encoded rows, tokenizer. `of`: the experiment and the data that it was made of.
    """

    kind: str
    of: str
    rows: int | None = None


@dataclass(frozen=True)
class Found:
    """What is in a cache folder. Times are seconds since 1970."""

    path: Path
    label: Label
    bytes: int
    created: float
    used: float
    in_use: bool
    """Whether a living process reads it; such an entry stays."""
    readable: bool
    """Whether this version can use it (unless it is damaged inside)."""


class Cache:
    """A folder of entries, each a folder ``KIND-HASH`` named by the hash of all that it depends on.

    An entry appears whole, by renaming, and has a manifest with the size and the hash of each file. Several processes,
    on several machines too, may use the folder at once: one builds an entry while the others wait for it; a mark says
    that a process uses an entry, which is not evicted then. Nothing depends on locks of the file system.

    Args:
        folder: made when the first entry is built.
        max_size: bytes; beyond, entries that no process uses are removed, those first that were used least recently.
            None: no limit.

    >>> import tempfile
    >>> def build(folder, renew):
    ...     (folder / "number.txt").write_text("42")
    ...     return Label("number", "nothing")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Cache(folder).get(f"number-{'0' * 64}", build, lambda path, mark: (path / "number.txt").read_text())
    '42'
    """

    def __init__(self, folder: str | Path, max_size: int | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.max_size = max_size

    def get(
        self,
        name: str,
        build: Callable[[Path, Callable[[], None]], Label | None],
        read: Callable[[Path, Mark | None], T],
    ) -> T | None:
        """What `read` makes of an entry, which is built where it is absent or damaged.

        Args:
            name: of the entry.
            build: writes files into an empty folder; None: they are not to be kept, and None is returned. Where it
                takes minutes, it calls its second argument now and then, so that others keep waiting.
            read: reads the files of a folder, which are verified. What uses them later on keeps the mark for as long
                (None if the folder cannot be written).

        Raises:
            OSError: the folder cannot be written, or gives back something else than was written.
        """
        assert _NAME.fullmatch(name), name
        locked = self.folder / f".{name}{Lock.SUFFIX}"
        if (found := self._open(name, read)) is not None:
            if is_leftover(locked):  # of a process that was killed after it had built the entry
                _delete(locked)
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        built: Mark | None = None
        with Lock(locked) as lock:
            for _ in range(TRIES):
                if (found := self._open(name, read, repair=True)) is not None:
                    break
                built = self._build(name, build, lock.renew)
                if built is None:
                    return None
            else:
                raise OSError(errno.EIO, "what is read is not what was written", str(self.folder / name))
        if built is not None:
            built.release()  # `read` has its own mark
            self.shrink()
        return found

    def entries(self) -> list[Found]:
        """All entries, those of earlier versions too; the least recently used first."""
        found = [_look_at(path) for path in self._paths() if _is_entry(path)]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: (entry.used, entry.path))

    def remove(self, entry: Found) -> bool:
        """Remove an entry unless a process uses it; returns whether it is gone."""
        aside = self.folder / temporary_name(entry.path.name)
        try:
            os.rename(entry.path, aside)
            if marks(aside):  # somebody has just opened it
                os.rename(aside, entry.path)
                return False
        except OSError:
            return not os.path.lexists(entry.path)
        _delete(aside)
        return True

    def shrink(self) -> None:
        """Remove what killed processes left, and entries beyond the largest size."""
        for path in self.leftovers():
            _delete(path)
        if self.max_size is None:
            return
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        for entry in entries:
            if total <= self.max_size:
                return
            if not entry.in_use and self.remove(entry):
                total -= entry.bytes

    def leftovers(self) -> list[Path]:
        """What killed processes left."""
        return [path for path in self._paths() if is_leftover(path) or _is_earlier_leftover(path)]

    # ------------------------------------------------------------------------------------------------- internals

    def _paths(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except OSError:
            return []

    def _open(self, name: str, read: Callable[[Path, Mark | None], T], *, repair: bool = False) -> T | None:
        """What is read of an entry; None if it is absent or damaged, and removed in the latter case to `repair`."""
        path, mark = self.folder / name, None
        with contextlib.suppress(OSError):
            mark = Mark(path)
        if mark is None and not os.path.lexists(path):
            return None
        try:
            verify(path)
            found = read(path, mark)
            with contextlib.suppress(OSError):
                os.utime(path / MANIFEST)  # when it was used
            if mark is None or mark.path.exists():
                return found  # else it was evicted meanwhile
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, OSError) and error.errno in _NOT_DAMAGE:
                raise
            if repair and os.path.lexists(path):
                log.warning("%s is damaged (%s) and is rebuilt", path, _reason(error))
                self._discard(path)
        if mark is not None:
            mark.release()
        return None

    def _discard(self, path: Path) -> None:
        aside = self.folder / temporary_name(path.name)
        os.rename(path, aside)  # processes that have mapped its files keep them
        _delete(aside)

    def _build(
        self, name: str, build: Callable[[Path, Callable[[], None]], Label | None], renew: Callable[[], None]
    ) -> Mark | None:
        """Build an entry aside and give it its name; None if it is not to be kept."""
        temporary, path = self.folder / temporary_name(name), self.folder / name
        temporary.mkdir()
        try:
            if (label := build(temporary, renew)) is None:
                return None
            _write_manifest(temporary, label)
            mark = Mark(temporary)
            try:
                os.rename(temporary, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return mark  # somebody else, who did not wait, was first
            mark.moved(path)
            _sync(self.folder)
            return mark
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


# ----------------------------------------------------------------------------------------------------------- entries


def _is_entry(path: Path) -> bool:
    return bool(_NAME.fullmatch(path.name) or _EARLIER.fullmatch(path.name))


def _look_at(path: Path) -> Found | None:
    """What is at a path, from its manifest and the sizes of its files; None if it has just gone."""
    try:
        status = path.lstat()
        size = sum(file.lstat().st_size for file in _files(path))
        kind = "tokenizer" if stat.S_ISDIR(status.st_mode) and path.name.startswith("tokenizer") else "encoded rows"
        label = Label(kind, "(damaged)")
        found = Found(path, label, size, status.st_mtime, status.st_mtime, bool(marks(path)), readable=False)
        if not stat.S_ISDIR(status.st_mode) or (path / _EARLIER_TOKENIZER).exists():
            return replace(found, label=Label(kind, "(of an earlier version)"))
        try:
            manifest = _read_manifest(path)
        except (OSError, ValueError, KeyError, TypeError):
            return found
        used = (path / MANIFEST).lstat().st_mtime
        label = Label(**manifest["label"])
        return replace(found, label=label, created=manifest["created"], used=used, readable=True)
    except OSError:
        return None


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)


def _is_earlier_leftover(path: Path) -> bool:
    with contextlib.suppress(OSError):
        old = time.time() - path.lstat().st_mtime > EARLIER_LEFTOVER_SECONDS
        return bool(_EARLIER_LEFTOVER.fullmatch(path.name)) and old
    return False


def _delete(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


# --------------------------------------------------------------------------------------------------------- manifests


def _write_manifest(folder: Path, label: Label) -> None:
    """Write what an entry holds; the last of its files."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                files[path.relative_to(folder).as_posix()] = _measure(file)
    content = {"format": FORMAT, "label": asdict(label), "created": time.time(), "files": files}
    with (folder / MANIFEST).open("x", encoding="utf-8") as manifest:
        json.dump({**content, "hash": _hash_of(content)}, manifest, indent=1)
        manifest.flush()
        os.fsync(manifest.fileno())
    _sync(folder)


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; raises `OSError`, `ValueError`, `KeyError` or `TypeError` where it is not what was written."""
    try:
        manifest = json.loads(read_small(folder / MANIFEST))
        if manifest.pop("hash") == _hash_of(manifest) and manifest["format"] == FORMAT:
            return dict(manifest)
    except (AttributeError, RecursionError):
        pass
    raise ValueError(f"{MANIFEST} has changed")


def verify(folder: Path) -> None:
    """Compare all files with the manifest; raises as `_read_manifest` does."""
    for name, wanted in _read_manifest(folder)["files"].items():
        with open_regular(folder / name) as file:
            if _measure(file) != wanted:
                raise ValueError(f"{name} has changed")


def _measure(file: IO[bytes]) -> dict[str, Any]:
    """Size and hash. XXH3 detects damage at memory speed. It does not stop forgery, nor would another hash: whoever can
    write here can write manifests, too."""
    digest, size, block = xxhash.xxh3_128(), 0, memoryview(bytearray(_BLOCK))
    while count := file.readinto(block):  # type: ignore[attr-defined]
        digest.update(block[:count])
        size += count
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def _hash_of(content: dict[str, Any]) -> str:
    return str(xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True).encode()))


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].lower()
