"""The run folder: who may write to it, what it holds, and whether a config continues the run in it."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from eir_seq.config.fusion import of_earlier_version
from eir_seq.config.heads import of_earlier_version as output_of_earlier_version
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.yaml_source import parse_yaml
from eir_seq.errors import Fault, UserError
from eir_seq.files import flush_to_disk, read_text, reason, within
from eir_seq.machine import cannot_write, writing
from eir_seq.remote import is_url, shown, url_fault
from eir_seq.training.checksums import CHECKSUMS
from eir_seq.training.redaction import redact

CONFIG, MANIFEST, RESULT, REPORT, LOG, METRICS, OWNER = (
    "config.yaml",
    "manifest.json",
    "result.json",
    "report/index.html",
    "log.txt",
    "metrics.csv",
    ".owner",
)

MAY_CHANGE = (
    "run",
    "tracker",
    "note",
    "data.num_workers",
    "cache",
    "data.cache_dir",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.keep_checkpoints",
    "trainer.keep_optimizer_state",
    "scheduler.extend",
    "trainer.checkpoint_every",
    "trainer.profiler",
    "trainer.latents",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.detect_anomaly",
)
"""Config keys that a continued run may have other values for: none of them changes what a step computes. With other
limits `scheduler.extend` says how the learning rate continues."""

CACHE = ".cache"
"""Where encoded rows go if the cache cannot take them."""
_PARTIAL, _PROBE = ".partial-", ".probe-"
_MOST_CHANGES = 12
"""Changed keys that are listed one by one; more of them are another experiment."""
_BEFORE = frozenset((OWNER, LOG, CACHE))
"""What a folder may hold before its config, which is what makes it a run's and is written before all else."""

_FLOCK = "hhqqi4x"
"""C's ``struct flock`` of 64-bit Linux: kind, whence, start, length, process."""

LIMITS = ("trainer.max_epochs", "trainer.max_steps")


class RunFolder:
    """The folder of one run, owned by this process while it is entered.

    Entering makes the folder if needed, takes its lock, and checks what is in it. A folder that this call made is
    removed again on leaving if the run came to nothing (`keep` was not called).

    Raises, on entering:
        UserError: not writable, not a folder, owned by a living process, holding another run or foreign files.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        self.config = config
        self.path = Path()
        self.resumed = False
        """Whether the folder held this run before."""
        self.extended: str | None = None
        """The limit by which the run is to end elsewhere than it was before."""
        self._lock: int | None = None
        self._made: list[Path] = []
        self._keep = False

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def keep(self) -> None:
        """From now on the folder holds something worth keeping."""
        self._keep = True

    @property
    def kept(self) -> bool:
        """Whether the folder stays."""
        return self._keep

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of the run if it is finished.

        Raises:
            UserError: the file is damaged.
        """
        return read_object(self.path / RESULT, "remove it to train what is missing of the run again")

    def forget_result(self) -> None:
        """A finished run continues, with another end: its result and its report are out of date."""
        (self.path / CHECKSUMS).unlink(missing_ok=True)
        (self.path / RESULT).unlink(missing_ok=True)
        (self.path / REPORT).unlink(missing_ok=True)

    def write_config(self) -> None:
        """Write config.yaml."""
        text = yaml.safe_dump(plain(self.config), sort_keys=False, allow_unicode=True)
        write_text(self.path / CONFIG, text)

    # ------------------------------------------------------------------------------------------------ internals

    def _open(self) -> None:
        named = self.config.run.dir
        place = "run.dir" if named is not None else "run.root"
        try:
            if named is not None:
                self.path = Path(named).expanduser().absolute()
                self._make(self.path)
                self._take(place)
                self._check_contents()
            else:
                self._make_new()
                self._take(place)
            with tempfile.TemporaryFile(dir=self.path, prefix=_PROBE):
                pass
        except OSError as error:
            raise cannot_write(self.path, error, place) from None

    def _make(self, path: Path) -> None:
        missing = []
        while not path.exists():
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            try:
                folder.mkdir()
                self._made.append(folder)
            except FileExistsError:  # another run has just made it
                if not folder.is_dir():
                    raise

    def _make_new(self) -> None:
        parent = Path(self.config.run.root).expanduser().absolute() / self.config.name
        self._make(parent)
        moment = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{moment}-{config_hash(self.config)[:6]}"
        for attempt in range(1, 10_000):
            self.path = parent / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                self.path.mkdir()
            except FileExistsError:
                continue
            self._made.append(self.path)
            return
        raise AssertionError("10,000 runs in one second")

    def _take(self, place: str) -> None:
        """Lock the folder. The lock is the kernel's and ends with the process, however that ends."""
        lock = os.open(self.path / OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(lock).st_mode):
                raise UserError(Fault(place, f"{self.path / OWNER} is not a regular file; remove it"))
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = _noted_owner(lock)
            os.close(lock)
            self._made.clear()
            raise UserError(Fault(place, f"{self.path} is in use by {owner}")) from None
        except UserError:
            os.close(lock)
            raise
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _check_contents(self) -> None:
        changed = changed_keys(self.path, self.config)
        for pattern in (f"{_PARTIAL}*", ".*.partial", f"{_PROBE}*"):  # by a process that was killed
            for left in self.path.rglob(pattern):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        if changed is None:
            return
        self.resumed = True
        self._keep = True
        self.extended = next((key for key in changed if key in LIMITS), None)

    def _close(self) -> None:
        if not self._keep and self._made:
            for folder in reversed(self._made):
                if folder == self.path:
                    shutil.rmtree(folder, ignore_errors=True)
                elif not any(folder.iterdir()):
                    folder.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


# ---------------------------------------------------------------------------------------------------------- helpers


def owner_of(path: Path) -> str | None:
    """The living process that owns a run folder, ``process 12 on host``; None if there is none. Locks nothing."""
    try:
        lock = os.open(path / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, asked))[0]
        if kind == fcntl.F_UNLCK:
            return None
        return _noted_owner(lock)
    except OSError:
        return None
    finally:
        os.close(lock)


def _noted_owner(lock: int) -> str:
    """What the owner of a lock writes there right after it has locked the file: ``process 12 on host``."""
    for _ in range(20):
        if owner := os.pread(lock, 1000, 0).decode(errors="replace").strip():
            return owner
        time.sleep(0.05)
    return "another process"


@contextlib.contextmanager
def taken(path: Path) -> Iterator[None]:
    """Own a run folder, so that no run begins or continues in it meanwhile.

    Raises:
        BlockingIOError: a process owns it.
        OSError: it cannot be written.
    """
    lock = os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def check_destination(config: ExperimentConfig) -> None:
    """Look whether a run could write where its config says, without writing anything.

    Raises:
        UserError: not writable, not a folder, holding another run or foreign files.
    """
    place, named = ("run.root", config.run.root) if config.run.dir is None else ("run.dir", config.run.dir)
    if is_url(named):
        if (fault := url_fault(named, place, written=place == "run.dir")) is not None:
            raise UserError(fault)
        if place == "run.root":
            raise UserError(Fault(place, f"{shown(named)}: name the run's own folder, by run.dir"))
        return
    path = Path(named).expanduser().absolute()
    try:
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        if not existing.is_dir():
            raise UserError(Fault(place, f"{existing} is not a folder"))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(Fault(place, f"{existing} cannot be written"))
        if existing == path and config.run.dir is not None:
            changed_keys(path, config)
    except OSError as error:
        raise UserError(Fault(place, f"{error.filename or path} cannot be read: {error.strerror}")) from None


def changed_keys(path: Path, config: ExperimentConfig) -> list[str] | None:
    """The keys in which `config` differs from that of the run in a folder; None if there is no run in it.

    Raises:
        UserError: foreign files, or a run that this config cannot continue.
    """
    entries = {entry.name for entry in path.iterdir() if not entry.name.startswith((_PARTIAL, _PROBE))} - _BEFORE
    if not entries:
        return None
    if CONFIG not in entries:
        shown = ", ".join(sorted(entries)[:3])
        raise UserError(Fault("run.dir", f"{path} holds files that are not a run's ({shown}): it has no {CONFIG}"))
    if faults := [
        Fault("run.dir", f"{found} is a link that leads out of the run's folder; nothing is written through it")
        for found in sorted(path.rglob("*"))
        if found.is_symlink() and not within(found, path) and path / "wandb" not in found.parents  # it links its logs
    ]:
        raise UserError(*faults)
    try:
        before: Any = read_config(path / CONFIG)
    except UserError as error:
        raise UserError(*(Fault("run.dir", f"{fault.place} {fault.message}") for fault in error.faults)) from None
    earlier = None
    try:
        with contextlib.suppress(ValueError):  # else an earlier version wrote it, and other keys are compared as well
            earlier = ExperimentConfig.model_validate(before)
            before = plain(earlier)  # keys that are new since then have their defaults
        then, now = dict(flat(before)), dict(flat(plain(config)))
    except AttributeError:
        raise UserError(Fault("run.dir", f"{path / CONFIG} is not a run's config")) from None
    differing = {key for key in then.keys() | now.keys() if then.get(key) != now.get(key)}
    changed = sorted(differing - {"callbacks"})  # which is a leaf if there are none
    may_change = (
        *MAY_CHANGE,
        *_observers(earlier, config),
        *(f"inputs.{name}.interpretation" for name in config.inputs),
    )
    faults = [
        Fault(
            key,
            f"was {then.get(key)!r} and is {now.get(key)!r}; {path / CONFIG} has the former (name another run.dir, or "
            "remove the folder)",
        )
        for key in changed
        if not any(key == allowed or key.startswith(f"{allowed}.") for allowed in may_change)
    ]
    if len(faults) > _MOST_CHANGES:
        keys = ", ".join(fault.place for fault in faults[:3])
        raise UserError(
            Fault(
                "run.dir",
                f"{path / CONFIG} is that of another experiment, or damaged: {len(faults)} keys differ ({keys}, ...); "
                "name another run.dir, or remove the folder",
            )
        )
    if faults:
        raise UserError(*faults)
    return changed


def _observers(*configs: ExperimentConfig | None) -> list[str]:
    """Config paths of callbacks that leave training as it is, in all of the configs that have them."""
    found = [item for config in configs if config is not None for item in config.callbacks.items()]
    steering = {name for name, callback in found if not callback.OBSERVES}
    return [f"callbacks.{name}" for name in dict(found).keys() - steering]


def plain(config: ExperimentConfig) -> dict[str, Any]:
    """The config as plain data, without secrets."""
    content = config.model_dump(mode="json")
    redacted = redact(content)
    assert isinstance(redacted, dict)
    redacted["data"]["rename"] = content["data"]["rename"]  # names of columns, which may be called so
    return redacted


def config_hash(config: ExperimentConfig) -> str:
    """A hash of the whole config."""
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``a.b.c: value`` for every leaf of nested mappings; an empty mapping is a leaf."""
    for key, value in tree.items():
        place = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{place}.")
        else:
            yield place, value


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a config.yaml of a run or bundle.

    Raises:
        UserError: there is none.
    """
    try:
        content = yaml.safe_load(parse_yaml(path).text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # a UserError is a ValueError
        detail = " ".join(str(error).split()).removeprefix(f"{path}: ")[:200]
        raise UserError(Fault(str(path), f"is not a run's config ({detail})")) from None
    if not isinstance(content, dict):
        raise UserError(Fault(str(path), "is not a run's config (it is empty)"))
    if isinstance(outputs := content.get("outputs"), dict):
        content["outputs"] = {name: output_of_earlier_version(output) for name, output in outputs.items()}
    if isinstance(fusion := content.get("fusion"), dict):
        content["fusion"] = of_earlier_version(fusion, list(content.get("inputs") or ()))
    return content


def read_object(path: Path, remedy: str) -> dict[str, Any] | None:
    """The mapping in a JSON file of a run; None if there is no such file.

    Raises:
        UserError: it holds none; `remedy` says what can be done.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(Fault(str(path), f"cannot be read: {reason(error)}")) from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(Fault(str(path), f"is damaged (it holds no JSON object); {remedy}"))
    return content


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(f".partial-{path.name}-{os.getpid()}")
    with writing(path, partial):
        partial.write_text(text, encoding="utf-8")
        flush_to_disk(partial)
        partial.replace(path)
        flush_to_disk(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of JSON, without secrets."""
    write_text(path, json.dumps(redact(value), ensure_ascii=False, indent=2) + "\n")
