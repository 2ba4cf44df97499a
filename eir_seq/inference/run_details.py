"""One run in facts: what it was trained on and how, what it reached, and how it continues."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.inference.run_list import FoundRun, read_run
from eir_seq.training.folder import CONFIG, MANIFEST, flat

_KINDS = ("type", "model_type")
"""Keys that say what a section is, which are shown whatever they are."""
_APART = ("run.", "cache.")


def details_of(folder: Path) -> FoundRun:
    """The run in a folder.

    Raises:
        UserError: no run folder, or its files are damaged.
    """
    if not folder.is_dir():
        raise UserError(Fault(str(folder), "no such folder"))
    if not (folder / CONFIG).is_file() or not (folder / MANIFEST).is_file():
        inside = " (runs list shows those below it)" if any(folder.glob(f"*/{CONFIG}")) else ""
        raise UserError(Fault(str(folder), f"is not a run folder: it has no {CONFIG} and {MANIFEST}{inside}"))
    run = read_run(folder)
    if not run.config:
        raise UserError(Fault(str(folder), f"is damaged: {run.reason}"))
    return run


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config sets to something else than the default, as ``a.b.c: value``, and what each section is."""
    everything = dict(flat(config))
    try:
        given = ExperimentConfig.model_validate(config).model_dump(mode="json", exclude_defaults=True)
    except ValueError:  # of an earlier version
        return everything
    differing = dict(flat(given))
    sections = {key.rpartition(".")[0] for key in differing}
    return {
        key: value
        for key, value in everything.items()
        if not key.startswith(_APART)
        and (key in differing or (key.rpartition(".")[2] in _KINDS and key.rpartition(".")[0] in sections))
    }


def metrics(result: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """The metrics of a result, each with its value by split."""
    splits = [split for split in ("validation", "test") if isinstance(result.get(split), Mapping)]
    names = dict.fromkeys(
        (output, metric) for split in splits for output, values in result[split].items() for metric in values
    )
    for output, metric in names:
        found = {split: result[split].get(output, {}).get(metric) for split in splits}
        yield f"{output}.{metric}", {split: value for split, value in found.items() if value is not None}


def data_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The rows and files that a run was trained on."""
    data = manifest.get("data")
    if not isinstance(data, Mapping):
        return {}
    rows = data.get("rows") or {}
    found = {"rows": ", ".join(f"{count:,} {split}" for split, count in rows.items())}
    for file in data.get("files") or []:
        if isinstance(file, Mapping):
            found[str(file.get("split"))] = f"{file.get('path')} (sha256 {str(file.get('sha256'))[:12]})"
    if data.get("fingerprint"):
        found["fingerprint"] = str(data["fingerprint"])[:12]
    return found


def next_steps(run: FoundRun) -> list[str]:
    """What can be done with a run: the command that continues it, or those that use it."""
    folder = shlex.quote(str(run.folder))
    if run.status == "running":
        return []
    if run.status == "finished":
        found = [f"predict with it: python -m eir_seq predict run={folder} data.test=FILE"]
        if any((run.folder / "checkpoints").glob("step-*")):
            found.append(f"train on: {_command(run)} trainer.max_steps=STEPS")
        return found
    kept = any((run.folder / "checkpoints").glob("step-*"))
    return [f"{'continue' if kept else 'begin again'}: {_command(run)}"]


def _command(run: FoundRun) -> str:
    """The command line of the last session, in this folder."""
    sessions = run.sessions
    words = shlex.split(str(sessions[-1].get("command_line") or "")) if sessions else []
    if words[:2] != ["python", "-m"]:  # from Python, or of an earlier version
        words = ["python", "-m", "eir_seq", f"experiment={run.experiment}"]
    words = [word for word in words if not re.match(r"\+*run\.(dir|root)=", word)]
    return shlex.join([*words, f"run.dir={run.folder}"])
