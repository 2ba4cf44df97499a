"""Run folders and bundles by URL.

A run whose `run.dir` is a URL trains in a folder of the cache. What has changed there is uploaded after each checkpoint
and at the end: files first, then `INDEX`, which names them with their hashes, and the files that are no longer there;
those are removed last. A process that is killed on the way leaves the index of the upload before, and all that it
names, or files that the next process removes: the run continues on any machine. One process at a time owns the folder;
the index says which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.files import default_folder, hash_file
from eir_seq.remote import RemoteFolder, shown
from eir_seq.remote.folders import FETCHED_AT_ONCE
from eir_seq.training.folder import CACHE, OWNER

log = logging.getLogger(__name__)

INDEX = "uploaded.json"
"""What an upload consists of; the last of its files."""
FORMAT = 1
MOST_FILES = 100_000
_LEFT_OUT = (".partial-", ".probe-", OWNER, CACHE)


class RemoteRun:
    """A run folder in a store, and the local folder that it is trained in.

    Args:
        url: of the run folder.
        cache: the cache folder, in which the local one is; the user's one if absent.

    Raises:
        UserError: the store cannot be read, or the folder holds what is no run's.
    """

    def __init__(self, url: str, cache: str | None) -> None:
        self.url = url
        self.remote = RemoteFolder(url, "run.dir")
        base = Path(cache or default_folder()).expanduser() / "runs"
        self.folder = base / hashlib.sha256(shown(self.remote.url).encode()).hexdigest()[:32]
        self._owner = base / f"{self.folder.name}.json"
        self.token = uuid.uuid4().hex
        self._known: dict[str, list[Any]] = {}
        """Size and hash of the files that the index names."""
        self._gone: set[str] = set()
        """Files of earlier uploads that are to be removed."""
        self._hashed: dict[str, tuple[int, int, str]] = {}

    def restore(self) -> None:
        """Make the local folder what the store has, unless it is what was uploaded from here, or newer."""
        index = self._index()
        if index is None and self.remote.files():
            message = f"{shown(self.url)} holds files that are not a run's: it has no {INDEX}"
            raise UserError(Fault("run.dir", message))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if index is None or not self._is_ours(index):
            shutil.rmtree(self.folder, ignore_errors=True)
            self._owner.unlink(missing_ok=True)
        if index is not None:
            self._known = index["files"]
            self._gone = set(index.get("gone", ())) - self._known.keys()
            if not self.folder.exists():
                with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                    list(pool.map(lambda name: self.remote.fetch(name, self.folder / name), self._known))
        self._take()
        self._remove()

    def push(self) -> None:
        """Upload what has changed.

        Raises:
            UserError: the store cannot be written.
            RunFailed: another process has taken the run over.
        """
        index = self._index()
        if index is not None and index["token"] != self.token:
            raise RunFailed(f"{shown(self.url)} is now written by {index['owner']}; this run has ended here")
        files = {name: [path.stat().st_size, self._hash(name, path)] for name, path in self._local()}
        changed = [name for name, state in files.items() if self._known.get(name) != state]
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            list(pool.map(lambda name: self.remote.store(self.folder / name, name), changed))
        self._gone = (self._gone | self._known.keys()) - files.keys()
        self._known = files
        self._take()
        self._remove()

    def pushed(self) -> None:
        """`push` during a run, which a store that does not answer does not stop: the next upload has it all."""
        try:
            self.push()
        except UserError as error:
            log.warning("the run is not uploaded now: %s", error)

    # ------------------------------------------------------------------------------------------------- internals

    def _take(self) -> None:
        """Write the index, and note here that it is ours."""
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        content = {
            "format": FORMAT,
            "token": self.token,
            "owner": owner,
            "files": self._known,
            "gone": sorted(self._gone),
        }
        self.remote.write(INDEX, json.dumps(content, indent=1).encode())
        self._owner.write_text(json.dumps({"token": self.token, "url": shown(self.url)}), encoding="utf-8")

    def _remove(self) -> None:
        """Remove what the index names as gone and a killed process may have left."""
        if self._gone:
            self.remote.remove(sorted(self._gone & self.remote.files().keys()))
        self._gone = set()

    def _index(self) -> dict[str, Any] | None:
        content = self.remote.read(INDEX)
        if content is None:
            return None
        try:
            index: dict[str, Any] = json.loads(content)
            names = [*index["files"], *index.get("gone", ())]
            if index["format"] != FORMAT or len(names) > MOST_FILES:
                raise ValueError
            if any(name.startswith("/") or ".." in PurePosixPath(name).parts for name in names):
                raise ValueError
            _ = index["token"], index["owner"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(Fault("run.dir", f"{shown(self.url)}/{INDEX} is not what this version writes")) from None
        return index

    def _is_ours(self, index: dict[str, Any]) -> bool:
        """Whether the local folder is the one that was uploaded last."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return bool(json.loads(self._owner.read_text(encoding="utf-8"))["token"] == index["token"])
        return False

    def _local(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            if path.is_file() and not any(part.startswith(_LEFT_OUT) for part in name.parts):
                yield name.as_posix(), path

    def _hash(self, name: str, path: Path) -> str:
        """The hash of a file, which is not computed again while its size and time stay."""
        status = path.stat()
        held = self._hashed.get(name)
        if held is None or held[:2] != (status.st_size, status.st_mtime_ns):
            held = self._hashed[name] = status.st_size, status.st_mtime_ns, hash_file(path)
        return held[2]


def train_remotely(
    config: ExperimentConfig, train: Callable[[ExperimentConfig, Callable[[], None]], dict[str, Any]]
) -> dict[str, Any]:
    """Train a run whose `run.dir` is a URL.

    Args:
        config: the experiment.
        train: trains it in the local folder that its config then names, and calls its second argument after each
            checkpoint.

    Raises:
        UserError: the store cannot be read or written; what is trained stays in the local folder.
    """
    assert config.run.dir is not None, "a run by URL"
    run = RemoteRun(config.run.dir, config.cache_dir)
    run.restore()
    local = config.model_copy(update={"run": config.run.model_copy(update={"dir": str(run.folder)})})
    try:
        result = train(local, run.pushed)
    except BaseException:
        if run.folder.exists():
            run.pushed()
        raise
    try:
        run.push()
    except UserError as error:
        hint = f"the run is in {run.folder}; the same command uploads it"
        raise UserError(*(Fault(fault.place, f"{fault.message}; {hint}") for fault in error.faults)) from None
    return {**result, "run_dir": shown(run.url)}
