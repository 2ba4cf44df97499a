"""A server like the Hub of Hugging Face, with what its client asks for to read repositories."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = {"datasets": "datasets/", "models": ""}
"""Types of repositories as the API names them, and what URLs of their files begin with."""
BRANCH = "main"


@dataclass
class Repository:
    """The files of a repository; `token`: of a private one."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False

    @property
    def commit(self) -> str:
        """The newest commit, which is named by all files."""
        state = repr([(name, _oid(content)) for name, content in sorted(self.files.items())])
        return hashlib.sha1(state.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """Repositories by ``datasets/OWNER/NAME`` or ``OWNER/NAME``; `status`: what it answers instead."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int | None = None

    def put(self, repository: str, name: str, content: bytes) -> str:
        """Add or replace a file, and give its URL."""
        self.repositories.setdefault(repository, Repository()).files[name] = content
        return f"hf://{repository}/{name}"


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class HubHandler(BaseHTTPRequestHandler):
    """Answers requests of `huggingface_hub`."""

    hub: Hub

    def __init__(self, hub: Hub, *arguments: Any, **options: Any) -> None:
        self.hub = hub
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path, query = unquote(urlsplit(self.path).path).strip("/"), parse_qs(urlsplit(self.path).query)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.status is not None:
            self._send(self.hub.status)
        elif path.startswith("api/"):
            self._api(path.removeprefix("api/"), query, parse_qs(body))
        elif "/resolve/" in path:
            name, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            if (repository := self._repository(name, revision)) is not None:
                self._file(repository, file)
        else:
            self._send(404)

    def _api(self, path: str, query: dict[str, list[str]], form: dict[str, list[str]]) -> None:
        kind, *words = path.split("/")
        if kind not in KINDS:
            self._send(404)
            return
        size = 1 if words[1:2] in ([], ["revision"], ["tree"], ["paths-info"]) else 2
        name, (action, revision, *inner) = "/".join(words[:size]), [*words[size:], *[""] * (2 - len(words[size:]))]
        repository = self._repository(KINDS[kind] + name, revision or BRANCH)
        if repository is None:
            return
        if action in ("", "revision"):
            siblings = [{"rfilename": name} for name in sorted(repository.files)]
            about = {"private": repository.token is not None, "gated": repository.gated, "tags": []}
            self._json({"id": name, "sha": repository.commit, "siblings": siblings, **about})
        elif action == "tree":
            self._tree(repository, "/".join(inner), recursive=query.get("recursive", [""])[0].lower() == "true")
        elif action == "paths-info":
            entries = _entries(repository)
            self._json([entries[name] for name in form.get("paths", []) if name in entries])
        else:
            self._send(404)

    def _tree(self, repository: Repository, folder: str, *, recursive: bool) -> None:
        start = f"{folder}/" if folder else ""
        inside = {name: entry for name, entry in _entries(repository).items() if name.startswith(start)}
        if not inside and folder:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        self._json([x for name, x in inside.items() if recursive or "/" not in name.removeprefix(start)])

    def _file(self, repository: Repository, name: str) -> None:
        content = repository.files.get(name)
        if content is None:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes="):
            self._send(200, headers, content)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content) - 1), len(content) - 1)
        if start > end:
            self._send(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, headers, content[start : end + 1])

    def _repository(self, name: str, revision: str) -> Repository | None:
        """A repository that may be read; of another one says why it may not be."""
        repository = self.hub.repositories.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None or repository.token not in (None, token):
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif repository.gated:
            self._send(403, {"X-Error-Code": "GatedRepo"})
        elif revision not in (BRANCH, repository.commit):
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _json(self, value: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(repository: Repository) -> dict[str, dict[str, Any]]:
    """Files and folders by their paths."""
    found: dict[str, dict[str, Any]] = {}
    for name, content in sorted(repository.files.items()):
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            found.setdefault(folder, {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder})
        found[name] = {"type": "file", "oid": _oid(content), "size": len(content), "path": name}
    return found
