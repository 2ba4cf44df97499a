"""Facts about a run that trackers log once: hyperparameters, group, and the id that a resumed run continues."""

from __future__ import annotations

import os
from pathlib import Path

from eir_seq.config.schema import ExperimentConfig
from eir_seq.files import read_text
from eir_seq.training.folder import flat, plain

SWEEP_VARIABLE = "EIR_SEQ_SWEEP"
"""Environment variable in which a sweep tells its jobs its id."""
_APART = ("run", "tracker", "cache", "callbacks", "note", "name")
"""Sections that are no hyperparameters."""


def hyperparameters(config: ExperimentConfig) -> dict[str, str | bool | int | float]:
    """The config as ``a.b.c: value``, without what does not change what is computed."""
    values = flat({name: section for name, section in plain(config).items() if name not in _APART})
    return {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values}


def group_of(config: ExperimentConfig, run_dir: Path) -> str | None:
    """What the run belongs to: a sweep, which tells its jobs so, or a cross-validation."""
    if (sweep := os.environ.get(SWEEP_VARIABLE)) is not None:
        return sweep
    return None if config.data.fold is None else "-".join(run_dir.absolute().parent.parts[-2:])


def kept_id(path: Path) -> str | None:
    """The id that a file keeps; None if there is none."""
    return read_text(path).strip() or None if path.is_file() else None


def keep_id(path: Path, content: str) -> str:
    """Keep an id in a file, which is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(f"{content}\n", encoding="utf-8")
    os.replace(partial, path)
    return content
