"""Files by URL: ``s3://``, ``gs://``, ``hf://``, ``https://`` and ``http://``, through fsspec.

Nothing is fetched unless a config or a command names the URL. Credentials are those of the environment, as the tools of
each store have them (``AWS_*``, ``~/.aws``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``HF_TOKEN``); they are in no message.
What goes wrong is a `UserError` of one line that names the URL.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import importlib.util
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from eir_seq.cache import Cache, Label
from eir_seq.errors import Fault, UserError
from eir_seq.spool import default_folder

SCHEMES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "hf": ("huggingface_hub", ""), "https": ("aiohttp", "")}
"""By scheme the package that reads it, and the extra that brings that."""
SCHEMES["http"] = SCHEMES["https"]
TIMEOUT = 60.0
"""Seconds after which a connection that says nothing is given up."""
BLOCK = 1 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WILD = re.compile(r"[*?\[]")


def is_url(text: object) -> bool:
    """Whether a text is a URL, of whatever scheme.

    >>> is_url("s3://bucket/table.csv"), is_url("table.csv"), is_url(0.1)
    (True, False, False)
    """
    return isinstance(text, str) and _URL.match(text) is not None


def shown(text: str) -> str:
    """A path or URL without what may be secret: user names, passwords, and the query of a signed URL.

    >>> shown("https://me:secret@host/table.csv?signature=abc")
    'https://***@host/table.csv?***'
    >>> shown("tables/train.csv")
    'tables/train.csv'
    """
    if not is_url(text):
        return text
    parts = urlsplit(text)
    host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(netloc=f"***@{host[2]}" if host[1] else host[2], query="***" if parts.query else "")
    )


def url_fault(text: str, place: str) -> Fault | None:
    """What is wrong with a URL before anything is fetched: its scheme, or a package that is not installed."""
    scheme = text.partition("://")[0].lower()
    if scheme not in SCHEMES:
        listed = ", ".join(f"{name}://" for name in SCHEMES)
        return Fault(place, f"{shown(text)}: {scheme}:// is not read (there are {listed})")
    package, extra = SCHEMES[scheme]
    if importlib.util.find_spec(package) is None:
        hint = f"pip install 'eir_seq[{extra}]'" if extra else f"pip install {package}"
        return Fault(place, f"{scheme}:// needs {package}, which is not installed; run: {hint}")
    if not urlsplit(text).netloc:
        return Fault(place, f"{shown(text)} names no {'bucket' if scheme in ('s3', 'gs') else 'host'}")
    return None


# ------------------------------------------------------------------------------------------------------ file systems


def filesystem(url: str, place: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        UserError: the scheme is not read, or its package is not installed.
    """
    if (fault := url_fault(url, place)) is not None:
        raise UserError(fault)
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0].lower()
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(sock_connect=TIMEOUT, sock_read=TIMEOUT)}
    elif scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": TIMEOUT / 6,
            "read_timeout": TIMEOUT,
            "retries": {"max_attempts": 3, "mode": "standard"},
        }
        options["use_listings_cache"] = False
    with failures(url, place):
        system, path = url_to_fs(url, **options)
        return system, path
    raise AssertionError("failures passes nothing on")


def arrow_filesystem(text: str, place: str) -> Any:
    """The pyarrow file system of a path or URL."""
    from pyarrow import fs

    if not is_url(text):
        return fs.LocalFileSystem()
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem(text, place)[0]))


@contextmanager
def failures(url: str, place: str) -> Iterator[None]:
    """What stores and networks raise, as a `UserError` of one line.

    Raises:
        UserError: in place of whatever else is raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(Fault(place, f"{shown(url)}: {_explain(error, url)}")) from None


def reading(source: str, local: Callable[[str, str], AbstractContextManager[None]], place: str) -> Any:
    """A context for what is read of a path or URL; `local` is that of paths."""
    return failures(source, place) if is_url(source) else local(source, place)


def _explain(error: Exception, url: str) -> str:
    """What went wrong, in words that name what to do."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {type(item).__name__ for item in chain}
    text = " ".join(" ".join(str(item).split()) for item in chain)
    scheme = url.partition("://")[0].lower()
    status = next((code for item in chain if (code := getattr(item, "status", None)) is not None), None)
    if names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
        where = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws", "hf": "HF_TOKEN"}
        return f"no credentials; set {where.get(scheme, 'GOOGLE_APPLICATION_CREDENTIALS')}"
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return "no such bucket"
    if names & {"PermissionError", "GatedRepoError"} or status in (401, 403) or "Forbidden" in text:
        return "access denied; check the credentials and their permissions"
    if names & {"TimeoutError", "ServerTimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "SocketTimeoutError"}:
        return f"no answer within {TIMEOUT:.0f} seconds"
    if names & {"FileNotFoundError", "RepositoryNotFoundError", "EntryNotFoundError", "NoSuchKey"} or status == 404:
        return "there is no such file or folder"
    if names & {"ClientConnectorError", "EndpointConnectionError", "ConnectionError", "ClientConnectorDNSError"} or (
        "connect" in text.lower() and isinstance(error, OSError)
    ):
        return "the server cannot be reached"
    said = str(error).splitlines()[0] if str(error) else ""
    return _USER_INFO.sub("***@", f"{type(error).__name__}: {said}"[:200].replace(url, shown(url)))


_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")


# ------------------------------------------------------------------------------------------------------------ paths


def with_scheme(path: str, like: str) -> str:
    """A path in a file system as `like` names one: with its scheme, or as a path."""
    if not is_url(like) or is_url(path):
        return path
    return f"{like.partition('://')[0]}://{path}"


def matching(text: str, suffixes: Sequence[str], place: str) -> list[str]:
    """The files that a path, folder, pattern or URL names, in the order of their names.

    Of a folder, those with one of `suffixes` (and ``.gz``) at any depth; hidden ones (``.`` or ``_``) are left out.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if is_url(text):
        system, path = filesystem(text, place)
        with failures(text, place):
            if _WILD.search(path):
                found = [name for name in system.glob(path) if not system.isdir(name)]
            elif system.protocol in ("http", "https", ("http", "https")) and not text.endswith("/"):
                found = [path] if system.exists(path) else []
            else:
                found = [path] if system.isfile(path) else system.find(path)
            root = path
    else:
        root = os.path.abspath(os.path.expanduser(text))
        if _WILD.search(root) and not os.path.exists(root):
            found = [name for name in glob.glob(root, recursive=True) if os.path.isfile(name)]
        elif os.path.isdir(root):
            found = [str(name) for name in Path(root).rglob("*") if name.is_file()]
        else:
            found = [root] if os.path.exists(root) else []
    single = len(found) == 1 and found[0].rstrip("/") == root.rstrip("/")
    kept = found if single else [name for name in found if _is_shard(name, root, suffixes)]
    if not found:
        raise UserError(Fault(place, f"{shown(text)}: there is no such file or folder"))
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


# -------------------------------------------------------------------------------------------------------- downloads


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
    system, path = filesystem(text, place)
    state = [shown(text), *version(text, place)]
    name = f"download-{hashlib.sha256(repr(state).encode()).hexdigest()}"
    file_name = PurePosixPath(urlsplit(text).path).name or "file"

    def build(target: Path, renew: Callable[[], None]) -> Label:
        with failures(text, place), system.open(path, "rb") as source, (target / file_name).open("xb") as copy:
            while block := source.read(BLOCK):
                copy.write(block)
                renew()
        return Label("download", shown(text))

    cache = Cache(folder if folder is not None else default_folder())
    found = cache.get(name, build, lambda entry, mark: _Kept(entry / file_name, mark))
    assert found is not None, "all that is built is kept"
    _KEPT.append(found)
    return str(found.path)


class _Kept:
    """A copy in the cache that this process uses."""

    def __init__(self, path: Path, mark: Any) -> None:
        self.path, self.mark = path, mark


_KEPT: list[_Kept] = []
"""Copies are marked as used for as long as the process lives."""


# ---------------------------------------------------------------------------------------------------------- folders


class RemoteFolder:
    """A folder in a store, whose files are listed, fetched and written.

    Args:
        url: of the folder.
        place: the config key or option that names it.

    Raises:
        UserError: the scheme is not read, or its package is not installed.
    """

    def __init__(self, url: str, place: str) -> None:
        self.url, self.place = url.rstrip("/"), place
        self.system, self.path = filesystem(self.url, place)
        self.path = self.path.rstrip("/")

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
            shutil.copyfileobj(source, copy, BLOCK)

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
