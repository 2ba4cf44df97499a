"""Command lines of ``key=value`` for the bundle of a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from eir_seq.config.errors import faults_of
from eir_seq.config.folders import home_fault
from eir_seq.config.overrides import parse_overrides
from eir_seq.config.schema import Strict
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.remote import fetched_bundle, is_url, local_file, shown, url_fault

T = TypeVar("T", bound=Strict)


def read_keys(arguments: Sequence[str], keys: type[T], paths: Sequence[str], existing: Sequence[str]) -> T:
    """The keys of a command line.

    Args:
        arguments: its words.
        keys: which there are.
        paths: keys that name files or folders.
        existing: those of them that must exist.

    Raises:
        UserError: unknown keys, wrong values, no such run or file.
    """
    if faults := [
        Fault(word, f"not of the form key=value{_meant(word)}", "command line") for word in arguments if "=" not in word
    ]:
        raise UserError(*faults)
    tree: dict[str, Any] = {}
    for override in parse_overrides(arguments):
        *parents, last = override.key_or_group.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {}) if isinstance(inner, dict) else {}
        if override.is_delete() or override.is_sweep_override():
            raise UserError(Fault(str(override.input_line), "not of the form key=value", "command line"))
        inner[last] = override.value()
    try:
        config = keys.model_validate(tree)
    except ValidationError as error:
        raise UserError(*faults_of(error, keys, tree)) from None
    named = {place: path for place in paths if (path := _value(config, place)) is not None}
    misplaced = [
        Fault(place, problem, "command line")
        for place, path in named.items()
        if (problem := home_fault(path)) is not None
    ]
    if misplaced:
        raise UserError(*misplaced)
    faults = [
        Fault(place, f"no such file or folder: {path!r}{_nearest_file(path)}", "command line")
        for place, path in named.items()
        if place in existing and not is_url(path) and not Path(path).expanduser().exists()
    ]
    for place, path in named.items():
        if is_url(path) and place not in existing:
            faults.append(Fault(place, f"{shown(path)}: a local file is written; name one", "command line"))
        elif is_url(path) and (fault := url_fault(path, place)) is not None:
            faults.append(fault)
    if faults:
        raise UserError(*faults)
    return config


def local_run(run: str) -> Path:
    """A run folder or bundle; of one by URL, a copy of the bundle in the cache. Raises `UserError` if there is none."""
    return fetched_bundle(run) if is_url(run) else Path(run).expanduser()


def local_test(test: str | None) -> str | None:
    """A file with rows; of one by URL, a copy in the cache. Raises `UserError` if it cannot be fetched."""
    return test if test is None else local_file(test, "data.test")


def described_keys(keys: type[Strict], data: type[Strict]) -> str:
    """A line for each key of a command, those of its section `data` first."""
    lines = [(f"data.{name}", field.description) for name, field in data.model_fields.items()]
    lines += [(name, field.description) for name, field in keys.model_fields.items() if field.description is not None]
    return "\n".join(f"  {name:<19} {meaning}" for name, meaning in lines)


def _value(config: Any, place: str) -> Any:
    for key in place.split("."):
        config = getattr(config, key)
    return config


def _meant(word: str) -> str:
    """The key whose value a file or folder without a key must be."""
    path = Path(word).expanduser()
    if not path.exists():
        return ""
    is_run = path.is_dir() and ((path / "bundle").is_dir() or (path / "manifest.json").is_file())
    return f"; did you mean {shlex.quote(f'run={word}' if is_run else f'data.test={word}')}?"


def _nearest_file(path: str) -> str:
    parent = Path(path).expanduser().parent
    return nearest(Path(path).name, [entry.name for entry in parent.iterdir()]) if parent.is_dir() else ""
