"""Checkpoints are folders: tensors as safetensors, all else as JSON, and a manifest of hashes written last.

A folder is written next to its destination, flushed to the disk and then renamed, so that a reader finds a checkpoint
whole or not at all, whenever the process is killed. Nothing in it is pickled; reading one runs no code.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eir_seq import files
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.files import MEGABYTE, flush_to_disk, hash_file, read_text, reason
from eir_seq.machine import free_bytes

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_SHARD = "tensors-{}.safetensors"
"""Of the processes after rank 0, where tensors are in shards."""
WEIGHTS = "model.safetensors"
"""The weights of a network alone."""
FORMAT = 1
MOST_STATE = 256 * MEGABYTE
"""Bytes of a JSON file in a checkpoint."""
_PARTIAL = ".partial-"
_NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?")


# ------------------------------------------------------------------------------------------------ folders of files


def write_folder(destination: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into a new folder, which then appears at `destination` at once and for good.

    Raises:
        RunFailed: the disk is full or fails; what was next to the destination is as before.
        FileExistsError: `destination` exists and is not empty.
    """
    partial = destination.with_name(f"{_PARTIAL}{destination.name}-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fill(partial)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {
            "format": FORMAT,
            "files": {
                path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": _flushed_hash(path)}
                for path in files
            },
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        for path in files:  # safetensors makes its files unreadable for others, whatever the umask is
            path.chmod((partial / MANIFEST).stat().st_mode)
        flush_to_disk(partial / MANIFEST)
        for folder in {path.parent for path in files} | {partial}:
            flush_to_disk(folder)
        partial.rename(destination)
        flush_to_disk(destination.parent)
    except (OSError, SafetensorError) as error:
        if isinstance(error, FileExistsError) or (isinstance(error, OSError) and error.errno == errno.ENOTEMPTY):
            raise FileExistsError(str(destination)) from None
        written = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        raise RunFailed(
            f"{destination} could not be written: {_reason(error)} "
            f"({written:,} bytes of it were; {free_bytes(destination):,} bytes are free)"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def verify_folder(folder: Path) -> str | None:
    """What is wrong with a folder that `write_folder` wrote; None if all its files are as they were written."""
    try:
        manifest = json.loads(read_text(folder / MANIFEST))
        if manifest["format"] > FORMAT:
            return f"written by a newer version (format {manifest['format']}; this one reads up to {FORMAT})"
        for name, expected in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != expected["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {expected['bytes']:,}"
            if hash_file(path) != expected["sha256"]:
                return f"{name} is not what was written (its sha256 differs)"
    except OSError as error:
        return f"{Path(error.filename).name if error.filename else MANIFEST}: {reason(error)}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"
    return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def linked(file: Path, other: Path) -> bool:
    """Give a file a second name, if the file system has hard links and both names are on it."""
    try:
        os.link(file, other)
    except OSError:
        return False
    return True


def share(file: Path, copy: Path) -> None:
    """Make a copy of a file another name of it, if the file system has hard links."""
    twin = copy.with_name(f"{copy.name}.link")
    if linked(file, twin):
        twin.replace(copy)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a process killed on the way leaves nothing that looks like a whole one."""
    doomed = folder.with_name(f"{_PARTIAL}{folder.name}-removed-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _flushed_hash(path: Path) -> str:
    flush_to_disk(path)
    return hash_file(path)


# ------------------------------------------------------------------------------------------- one tree of any state


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a tree of dicts, lists, tuples, numbers, texts and tensors as `TENSORS` and `STATE`."""
    tensors: dict[str, Tensor] = {}
    tree = _to_json(state, "", tensors, {})
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(tree, indent=1), encoding="utf-8")


def write_shard(folder: Path, state: Mapping[str, Any], rank: int) -> None:
    """Write the shards of a process other than rank 0 beside what `write_state` writes."""
    tensors: dict[str, Tensor] = {}
    tree = _to_json(state, "", tensors, {})
    shards = {name: tensors[name] for name in _shards_in(tree)}
    save_file(shards, folder / _SHARD.format(rank))


def read_state(folder: Path) -> dict[str, Any]:
    """The tree that `write_state` wrote; tensors on the CPU, tied ones tied, and those in shards put together."""
    tree = read_json(folder / STATE)
    tensors, ranks = load_file(folder / TENSORS), itertools.count(1)
    shards = {name: [tensors[name]] for name in _shards_in(tree)}
    while shards and (path := folder / _SHARD.format(next(ranks))).exists():
        for name, shard in load_file(path).items():
            shards[name].append(shard)
    tensors |= {name: torch.cat(parts) for name, parts in shards.items()}
    state = _from_json(tree, tensors)
    assert isinstance(state, dict), type(state)
    return state


def read_json(path: Path) -> Any:
    """The contents of a JSON file."""
    return files.read_json(path, MOST_STATE)


def _shards_in(tree: Any) -> set[str]:
    """The names of the tensors of which there are shards in a tree of JSON."""
    if isinstance(tree, dict):
        own = {tree["$tensor"]} if "$shards" in tree else set()
        return own.union(*map(_shards_in, tree.values()))
    return set().union(*map(_shards_in, tree)) if isinstance(tree, list) else set()


def _to_json(value: Any, path: str, tensors: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    if hasattr(value, "to_local"):  # a DTensor, sharded by rows
        return {**_to_json(value.to_local(), path, tensors, names), "$shards": True}
    if isinstance(value, Tensor):
        # Tied weights are one tensor under several names, which safetensors refuses to write: they share one entry.
        place = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, str(value.device))
        name = names.setdefault(place, path) if value.numel() else path
        if name == path:
            tensors[path] = value.detach().cpu().contiguous().clone()
        return {"$tensor": name}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _to_json(item, f"{path}/{key}", tensors, names) for key, item in value.items()}
        return {"$items": [[key, _to_json(item, f"{path}/{key}", tensors, names)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_to_json(item, f"{path}/{index}", tensors, names) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    assert _is_plain(value), f"{path}: {type(value)} cannot be saved"
    return value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def unsavable(value: Any, path: str = "") -> str | None:
    """Where a tree holds what `write_state` cannot write, and what it is; None if it can write all of it."""
    if isinstance(value, Mapping):
        items: Any = value.items()
        if bad := next((key for key in value if not _is_plain(key)), None):
            return f"{path}: a key of type {type(bad).__name__}"
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif _is_plain(value) or isinstance(value, Tensor):
        return None
    else:
        return f"{path}: a {type(value).__name__} (numbers, texts, lists, mappings and tensors can be saved)"
    found = (unsavable(item, f"{path}.{key}" if path else str(key)) for key, item in items)
    return next(filter(None, found), None)


def _from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_from_json(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$tuple" in value:
        return tuple(_from_json(value["$tuple"], tensors))
    if "$items" in value:
        return {key: _from_json(item, tensors) for key, item in value["$items"]}
    return {key: _from_json(item, tensors) for key, item in value.items()}


# ------------------------------------------------------------------------------------------- the checkpoints of a run


class CheckpointStore:
    """The ``checkpoints/`` folder of a run.

    ``step-NNNNNNNN`` are resumable; the newest few are kept. ``best-NNNNNNNN`` hold the weights of the best
    evaluation; one stays as long as a kept resumable checkpoint names it as its best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def clean(self) -> None:
        """Remove what a killed process left half-written; call it as the run's only owner."""
        for path in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)

    def resumable(self) -> list[Path]:
        """The resumable checkpoints, newest first, whether intact or not."""
        found = [(match, path) for path in self.folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda item: _order(item[0]), reverse=True)]

    def newest_intact(self, say: Callable[[str], None]) -> Path | None:
        """The newest checkpoint whose files are as written; damaged newer ones are named to `say` and removed."""
        for path in self.resumable():
            problem = verify_folder(path)
            if problem is None:
                return path
            say(f"checkpoint {path.name} is damaged ({problem}); falling back to the one before")
            remove_folder(path)
        return None

    def next_path(self, step: int) -> Path:
        """Where the checkpoint of `step` goes; a second one of the same step is the newer of the two."""
        taken = [int(match[2] or 1) for path in self.resumable() if (match := _matched(path)) and int(match[1]) == step]
        return self.folder / (f"step-{step:08d}-{max(taken) + 1}" if taken else f"step-{step:08d}")

    def write_best(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights of the best evaluation so far."""
        destination = self.best(step)
        if destination.exists():  # a resumed run meets the same best again
            if verify_folder(destination) is None:
                return
            remove_folder(destination)
        write_folder(destination, lambda folder: save_file(dict(weights), folder / WEIGHTS))

    def best(self, step: int) -> Path:
        """Folder of the best weights of `step`."""
        return self.folder / f"best-{step:08d}"

    def read_best(self, step: int) -> dict[str, Tensor]:
        """The weights that `write_best` wrote.

        Raises:
            UserError: the folder is damaged.
        """
        problem = verify_folder(self.best(step))
        if problem is not None:
            raise UserError(Fault(str(self.best(step)), f"is damaged: {problem}"))
        if (self.best(step) / STATE).exists():  # a run that an earlier version began
            return read_state(self.best(step))
        return load_file(self.best(step) / WEIGHTS)

    def prune(self, best_of: Callable[[Path], int | None]) -> None:
        """Keep the newest resumable checkpoints and the best weights that `best_of` says they refer to."""
        newest = self.resumable()
        for path in newest[self.keep :]:
            remove_folder(path)
        kept = {self.best(step) for path in newest[: self.keep] if (step := best_of(path)) is not None}
        for path in self.folder.glob("best-*"):
            if path not in kept:
                remove_folder(path)

    def finish(self, best_of: Callable[[Path], int | None], *, resumable: bool) -> None:
        """The run is finished and its best weights are in the bundle: keep what extends it, or nothing."""
        if resumable:
            CheckpointStore(self.folder, 1).prune(best_of)
            for path in self.resumable():  # a run that was stopped at its last step has another one of that step
                path.rename(path.with_name("-".join(path.name.split("-")[:2])))
            return
        for path in [*self.resumable(), *self.folder.glob("best-*")]:
            remove_folder(path)


def _matched(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)


def _order(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2] or 1)
