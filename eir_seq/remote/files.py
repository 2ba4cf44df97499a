"""Single files by path or URL, and their copies in the cache."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from eir_seq.cache import Cache, Label
from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder
from eir_seq.remote.names import name_copy
from eir_seq.remote.urls import current, failures, filesystem, is_url, shown

_WILD = re.compile(r"[*?\[]")
_BLOCK = 1 << 20


def with_scheme(path: str, like: str) -> str:
    """A path in a file system as `like` names one: with its scheme, or as a path."""
    if not is_url(like) or is_url(path):
        return path
    return f"{like.partition('://')[0]}://{path}"


def matching(text: str, suffixes: Sequence[str], place: str) -> list[str]:
    """The files that a path, folder, pattern or URL names, in the order of their names.

    Of a folder, those with one of `suffixes` (and ``.gz``) at any depth; hidden ones (``.`` or ``_``) are left out.

    Raises:
        UserError: there is none, it cannot be read, or one of them is a link to nothing, a pipe or the like.
    """
    if is_url(text):
        system, path = current(text, place)
        with failures(text, place):
            if _WILD.search(path):
                found = [name for name in system.glob(path) if not system.isdir(name)]
            elif system.protocol in ("http", "https", ("http", "https")) and not text.endswith("/"):
                system.info(path)
                found = [path]
            else:
                found = [path] if system.isfile(path) else system.find(path)
            root = path
    else:
        root = os.path.abspath(os.path.expanduser(text))
        if _WILD.search(root) and not os.path.exists(root):
            found = [name for name in glob.glob(root, recursive=True) if not os.path.isdir(name)]
        elif os.path.isdir(root):
            found = [str(name) for name in Path(root).rglob("*") if not name.is_dir()]
        else:
            found = [root] if os.path.exists(root) else []
    single = len(found) == 1 and found[0].rstrip("/") == root.rstrip("/")
    kept = found if single else [name for name in found if _is_shard(name, root, suffixes)]
    if not found:
        raise UserError(Fault(place, f"{shown(text)}: there is no such file or folder"))
    if not is_url(text) and (odd := [name for name in kept if not os.path.isfile(name)]):
        raise UserError(*(Fault(place, f"{name} is not a file") for name in sorted(odd)))
    return sorted(kept)


def _is_shard(name: str, root: str, suffixes: Sequence[str]) -> bool:
    inside = name[len(root) :] if name.startswith(root) else PurePosixPath(name).name
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(inside.lstrip("/")).parts)
    return not hidden and name.lower().removesuffix(".gz").endswith(tuple(suffixes))


def version(text: str, place: str = "") -> list[Any]:
    """What changes when a file does: size and time, or what its store has in their place."""
    if not is_url(text):
        status = os.stat(text)
        return [status.st_size, status.st_mtime_ns]
    system, path = filesystem(text, place)
    with failures(text, place):
        info = system.info(path)
        tags = [info.get(key) for key in ("ETag", "etag", "commit_hash", "blob_id", "LastModified", "updated", "mtime")]
        return [info.get("size"), *(str(tag) for tag in tags if tag is not None)]
    raise AssertionError("failures passes nothing on")


@contextmanager
def open_text(text: str, place: str) -> Iterator[IO[str]]:
    """A UTF-8 file by path or URL as text, decompressed where its name ends with ``.gz``."""
    import gzip

    if is_url(text):
        system, path = filesystem(text, place)
        opened: Any = system.open(path, "rb")
    else:
        opened = open(text, "rb")  # noqa: SIM115
    with opened as file:
        plain: Any = gzip.GzipFile(fileobj=file) if text.lower().endswith(".gz") else file
        yield io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")


def local_file(text: str, place: str, folder: str | Path | None = None) -> str:
    """The path of a file: of one by URL, that of its copy in the cache, which is fetched if it is not there yet.

    A copy is named by the URL and by what the store says of the file's contents (ETag, size, time), so that a file that
    was replaced is fetched again. It appears whole or not at all.

    Args:
        text: a path or URL.
        place: the config key that names it.
        folder: the cache folder; the user's one if absent.

    Raises:
        UserError: it cannot be fetched.
    """
    if not is_url(text):
        return text
    system, path = current(text, place)
    state = [shown(text), *version(text, place)]
    name = f"download-{hashlib.sha256(repr(state).encode()).hexdigest()}"
    file_name = PurePosixPath(urlsplit(text).path).name or "file"

    def build(target: Path, renew: Callable[[], None]) -> Label:
        with failures(text, place), system.open(path, "rb") as source, (target / file_name).open("xb") as copy:
            while block := source.read(_BLOCK):
                copy.write(block)
                renew()
        return Label("download", shown(text))

    cache = Cache(folder if folder is not None else default_folder())
    found = cache.get(name, build, lambda entry, mark: Kept(entry / file_name, mark))
    assert found is not None, "all that is built is kept"
    KEPT.append(found)
    name_copy(found.path, text)
    return str(found.path)


class Kept:
    """A copy in the cache that this process uses."""

    def __init__(self, path: Path, mark: Any) -> None:
        self.path, self.mark = path, mark


KEPT: list[Kept] = []
"""Copies are marked as used for as long as the process lives."""
