"""URLs: which are read, how they are shown, and what can go wrong with them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from eir_seq.errors import Fault, UserError

SCHEMES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "hf": ("huggingface_hub", ""), "https": ("aiohttp", "")}
"""By scheme the package that reads it, and the extra that brings that."""
SCHEMES["http"] = SCHEMES["https"]
WRITTEN = ("s3", "gs")
"""Those of stores that files are written into; others are read only."""
BLOCK = 1 << 23
"""Bytes that are fetched at once of a file that is read piece by piece."""
_LOUD = {"gs": ("gcsfs", "google.auth"), "hf": ("huggingface_hub",)}
"""Loggers of clients that log each attempt, and with tracebacks what they raise."""
TIMEOUT = 60.0
"""Seconds after which a connection that says nothing is given up."""
_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


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


def url_fault(text: str, place: str, *, written: bool = False) -> Fault | None:
    """What is wrong with a URL before anything is fetched or `written`: its scheme, or a package that is missing."""
    scheme = text.partition("://")[0].lower()
    if scheme not in SCHEMES:
        listed = ", ".join(f"{name}://" for name in SCHEMES)
        return Fault(place, f"{shown(text)}: {scheme}:// is not read (there are {listed})")
    if written and scheme not in WRITTEN:
        listed = " or ".join(f"{name}://" for name in WRITTEN)
        return Fault(place, f"{shown(text)}: {scheme}:// is read only; name a local folder, or one by {listed}")
    package, extra = SCHEMES[scheme]
    if find_spec(package) is None:
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
    for logger in _LOUD.get(scheme, ()):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        from eir_seq.remote.web import WebFileSystem

        timeout = aiohttp.ClientTimeout(sock_connect=TIMEOUT, sock_read=TIMEOUT)
        with failures(url, place):
            return WebFileSystem(client_kwargs={"timeout": timeout}), url
    elif scheme == "s3":
        options["config_kwargs"] = {
            "connect_timeout": TIMEOUT / 6,
            "read_timeout": TIMEOUT,
            "retries": {"max_attempts": 3, "mode": "standard"},
        }
        options |= {"use_listings_cache": False, "default_block_size": BLOCK}
    elif scheme == "gs":
        import aiohttp

        options["requests_timeout"] = aiohttp.ClientTimeout(sock_connect=TIMEOUT / 6, sock_read=TIMEOUT)
        options |= {"use_listings_cache": False, "block_size": BLOCK}
    with failures(url, place):
        system, path = url_to_fs(url, **options)
        return system, path
    raise AssertionError("failures passes nothing on")


def current(url: str, place: str) -> tuple[Any, str]:
    """As `filesystem`, without what its client, which lives as long as the process, knows of files that may change."""
    system, path = filesystem(url, place)
    system.invalidate_cache()
    return system, path


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


_UNREACHABLE = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectError",
    "ConnectionError",
    "EndpointConnectionError",
    "OfflineModeIsEnabled",
}
"""What libraries raise where there is no connection."""


def _explain(error: Exception, url: str) -> str:
    """What went wrong, in words that name what to do."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = {type(item).__name__ for item in chain}
    text = " ".join(" ".join(str(item).split()) for item in chain)
    scheme = url.partition("://")[0].lower()
    status = next((code for item in chain if (code := _status(item)) is not None), None)
    if names & {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
        where = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws", "hf": "HF_TOKEN"}
        return f"no credentials; set {where.get(scheme, 'GOOGLE_APPLICATION_CREDENTIALS')}"
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return "no such bucket"
    if "RepositoryNotFoundError" in names or (scheme == "hf" and "NotImplementedError" in names):
        return "there is no such repository; it is hf://datasets/OWNER/NAME/..., and a private one needs HF_TOKEN"
    if "RevisionNotFoundError" in names:
        return "the repository has no such revision"
    if names & {"PermissionError", "GatedRepoError"} or status in (401, 403) or "Forbidden" in text:
        return "access denied; check the credentials and their permissions"
    if names & {"TimeoutError", "ServerTimeoutError", "ConnectTimeoutError", "ReadTimeoutError", "SocketTimeoutError"}:
        return f"no answer within {TIMEOUT:.0f} seconds"
    if names & {
        "ClientConnectorError",
        "EndpointConnectionError",
        "ConnectionError",
        "ClientConnectorDNSError",
        "ConnectError",
    } or ("connect" in text.lower() and names & {"OSError", "LocalEntryNotFoundError"}):
        return "the server cannot be reached"
    if status is not None and status >= 500:
        return f"the server answers with an error ({status})"
    if "support range requests" in text:
        return "the server gives files as a whole only; fetch the file first (data.streaming=false does)"
    if names & {"FileNotFoundError", "EntryNotFoundError", "NoSuchKey"} or status == 404:
        return "there is no such file or folder"
    said = str(error).splitlines()[0] if str(error) else ""
    return _USER_INFO.sub("***@", f"{type(error).__name__}: {said}"[:200].replace(url, shown(url)))


def _status(error: BaseException) -> int | None:
    """The status with which a server answered, as aiohttp, gcsfs or requests has it."""
    if hasattr(error, "status"):
        status = error.status
    else:
        status = getattr(error, "code", getattr(getattr(error, "response", None), "status_code", None))
    return status if isinstance(status, int) else None
