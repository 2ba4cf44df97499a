"""Stores like S3 (moto), Google's (gcp-storage-emulator) and the Hub, and a web server, all on this machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.remote.hub import Hub, HubHandler

NEEDED = {
    "s3": ("moto", "flask", "flask_cors", "s3fs"),
    "gs": ("gcp_storage_emulator", "gcsfs"),
}
"""By scheme what a store of this machine and its client are made of."""


def skip_without(scheme: str) -> None:
    """Skip a test of a store whose packages are not installed."""
    if lacking := [name for name in NEEDED[scheme] if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(lacking)}")


@dataclass
class Bucket:
    """A bucket, and direct access to what is in it."""

    url: str
    system: Any
    unreachable: dict[str, str]
    """Environment variables with which the store has another address, where nothing is."""

    @property
    def scheme(self) -> str:
        """How its URLs begin."""
        return self.url.partition("://")[0]

    def names(self, folder: str = "") -> set[str]:
        start = self.url.partition("://")[2] + "/"
        return {name.removeprefix(start) for name in self.system.find((start + folder).rstrip("/"))}

    def put(self, name: str, content: bytes) -> str:
        self.system.pipe_file(f"{self.url}/{name}", content)
        return f"{self.url}/{name}"

    def leave(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on the store cannot be reached."""
        for name, value in self.unreachable.items():
            monkeypatch.setenv(name, value)
        if self.scheme == "gs":
            hurry(monkeypatch)
        type(self.system).clear_instance_cache()


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs repeats a request without the pauses (half a minute in all) that it makes."""
    monkeypatch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda _: asyncio.sleep(0)))


@pytest.fixture(scope="session")
def s3_store() -> Iterator[str]:
    """The address of a store like S3."""
    skip_without("s3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def gs_store() -> Iterator[str]:
    """The address of a store like Google's."""
    skip_without("gs")
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    forgiving(server._api._httpd)
    yield f"http://127.0.0.1:{server._api._httpd.server_port}"
    server.stop()


def s3_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str) -> Bucket:
    """An empty bucket of a store like S3."""
    store = request.getfixturevalue("s3_store")
    import s3fs

    for key, value in {
        "AWS_ENDPOINT_URL_S3": store,
        "AWS_ACCESS_KEY_ID": "test-id",
        "AWS_SECRET_ACCESS_KEY": "test-key-never-shown",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir(f"s3://{name}")
    return Bucket(f"s3://{name}", system, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"})


def gs_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str) -> Bucket:
    """An empty bucket of a store like Google's."""
    store = request.getfixturevalue("gs_store")
    for key, value in {"STORAGE_EMULATOR_HOST": store, "NO_GCE_CHECK": "true"}.items():
        monkeypatch.setenv(key, value)
    import gcsfs

    gcsfs.GCSFileSystem.clear_instance_cache()
    system = gcsfs.GCSFileSystem(use_listings_cache=False)
    system.mkdir(f"gs://{name}")
    return Bucket(f"gs://{name}", system, {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"})


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """An empty bucket; the environment has the address and the credentials of its store."""
    return make_bucket(request, monkeypatch, tmp_path)


def make_bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """A bucket of the store that the fixture asks for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    name = "b" + hashlib.sha256(f"{request.node.nodeid}{tmp_path}".encode()).hexdigest()[:20]
    make = {"s3": s3_bucket, "gs": gs_bucket}[request.param]
    return make(request, monkeypatch, name)


@dataclass
class Folder:
    """A folder in a store, from which data can be read."""

    url: str
    put: Callable[[str, bytes], str]

    @property
    def scheme(self) -> str:
        """How its URLs begin."""
        return self.url.partition("://")[0]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A server like the Hub, in whose place the clients of this process ask it; they cache nothing."""
    import datasets
    from huggingface_hub import constants, file_download

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    found = Hub()
    with serving(partial(HubHandler, found)) as found.url:
        for module, name, value in (
            (constants, "ENDPOINT", found.url),
            (file_download, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"),
            (constants, "HF_HUB_CACHE", str(tmp_path / "hub")),
            (datasets.config, "HF_ENDPOINT", found.url),
            (datasets.config, "HUB_DATASETS_URL", found.url + "/datasets/{repo_id}/resolve/{revision}/{path}"),
            (datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets"),
            (datasets.config, "HF_MODULES_CACHE", tmp_path / "modules"),
        ):
            monkeypatch.setattr(module, name, value)
        for module in (constants, datasets.config):
            monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
        _forget_connections()
        yield found
    _forget_connections()


def _forget_connections() -> None:
    """The clients of earlier tests may be offline, or know another server."""
    from huggingface_hub import HfFileSystem
    from huggingface_hub.utils import _http

    HfFileSystem.clear_instance_cache()
    forget = getattr(_http, "reset_sessions", None) or _http.close_session  # before and from 1.0 on
    forget()


@pytest.fixture(params=["s3", "gs", "hf"])
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    """An empty folder in each store from which data can be read."""
    if request.param == "hf":
        made: Hub = request.getfixturevalue("hub")
        return Folder("hf://datasets/owner/name", partial(made.put, "datasets/owner/name"))
    bucket = make_bucket(request, monkeypatch, tmp_path)
    return Folder(bucket.url, bucket.put)


def forgiving(server: Any) -> None:
    """Let a web server say nothing when a client goes away in the middle of a file."""
    report = server.handle_error

    def handle_error(*about: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            report(*about)

    server.handle_error = handle_error


@contextmanager
def serving(handler: Callable[..., Any]) -> Iterator[str]:
    """The address of a web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    forgiving(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Site:
    """A web server of the files in a folder."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)
    password: str | None = None
    status: int | None = None
    ranges: bool = False

    def with_login(self, login: str) -> str:
        return self.url.replace("http://", f"http://{login}@")


class _Handler(SimpleHTTPRequestHandler):
    site: Site

    def __init__(self, site: Site, *arguments: Any, **options: Any) -> None:
        self.site = site
        super().__init__(*arguments, directory=str(site.folder), **options)

    def send_head(self) -> Any:
        self.site.asked.append(f"{self.command} {self.path}")
        if self.site.status is not None:
            self.send_error(self.site.status)
            return None
        wanted = self.site.password
        if wanted is not None:
            given = self.headers.get("Authorization", "")
            if given != "Basic " + base64.b64encode(wanted.encode()).decode():
                self.send_error(401)
                return None
        asked = self.headers.get("Range", "")
        if self.site.ranges and asked.startswith("bytes="):
            return self._part(asked.removeprefix("bytes="))
        return super().send_head()

    def end_headers(self) -> None:
        if self.site.ranges:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def _part(self, asked: str) -> Any:
        content = Path(self.translate_path(self.path)).read_bytes()
        first, _, last = asked.partition("-")
        start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        return io.BytesIO(content[start : end + 1])

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "site"
    folder.mkdir()
    found = Site("", folder)
    with serving(partial(_Handler, found)) as found.url:
        yield found
