"""manifest.json: what a run was computed from and with, so that it can be reproduced."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eir_seq import __version__, plugins
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.kernels import SWITCH, Kernels, kernels, machine_name
from eir_seq.training.folder import MANIFEST, config_hash, read_object, write_json
from eir_seq.training.kernels import TORCH
from eir_seq.training.redaction import redact, redact_words

PACKAGES = ("torch", "lightning", "torchmetrics", "tokenizers", "datasets", "numpy", "safetensors", "pydantic")


class RunManifest:
    """The manifest of a run; each start of the command adds a session to it.

    It holds no environment variables and no secrets of the command line.

    Raises:
        UserError: the manifest of earlier sessions is damaged.
    """

    def __init__(self, folder: Path, config: ExperimentConfig, device: torch.device) -> None:
        self.path = folder / MANIFEST
        remedy = "remove it if the rows are still those that the run began with: it holds their fingerprint"
        before = read_object(self.path, remedy) or {}
        sessions, data = before.get("sessions", []), before.get("data")
        if not (
            isinstance(sessions, list)
            and all(isinstance(session, dict) for session in sessions)
            and (data is None or (isinstance(data, dict) and isinstance(data.get("fingerprint"), str)))
        ):
            raise UserError(Fault(str(self.path), f"is damaged; {remedy}"))
        for session in sessions:
            session["exit_reason"] = session.get("exit_reason") or "killed"
        self.data: dict[str, Any] | None = data
        self.started: dict[str, Any] | None = before.get("start_from")
        """What the run began with, if it is another run's."""
        self.products = self._products_of(before.get("products"), remedy)
        """What multiplies matrices, from the first session on: kernels round differently."""
        self.kernels: str | None = sessions[-1].get("kernels", TORCH) if sessions else None
        """What the session before computed with, see `eir_seq.training.kernels`; None if there was none."""
        self.status = before.get("status")
        """How the session before ended."""
        self._content = {
            "name": config.name,
            "status": "running",
            "config_sha256": config_hash(config),
            "seed": config.seed,
            "split_seed": config.data.split_seed,
            "data": self.data,
            **({"start_from": self.started} if self.started is not None else {}),
            "products": self.products.state(),
            "versions": versions(),
            "plugins": plugins.registered(),
            "git": git_state(),
            "sessions": sessions,
        }
        self.session: dict[str, Any] = {
            "started": _now(),
            "ended": None,
            "exit_reason": None,
            "command_line": command_line(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "platform": platform.platform(),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "kernels": self.kernels or TORCH,
        }
        sessions.append(self.session)

    def _products_of(self, before: Any, remedy: str) -> Kernels:
        """Those that the run began with, if it was on such a machine and nothing else is asked for; else this one's."""
        if before is not None and SWITCH not in os.environ:
            try:
                found = Kernels.of(before)
            except ValueError:
                raise UserError(Fault(str(self.path), f"is damaged (products); {remedy}")) from None
            if found.machine == machine_name():
                return found
        return replace(kernels(), machine=machine_name())

    def describe_data(self, data: dict[str, Any]) -> None:
        """Note files, hashes and rows of the data."""
        self.data = self._content["data"] = redact(data)

    def describe_start(self, started: dict[str, Any]) -> None:
        """Note the run whose weights this one began with, and their hashes."""
        self.started = self._content["start_from"] = redact(started)

    def describe_kernels(self, kernels: str) -> None:
        """Note what the run computes with."""
        self.session["kernels"] = kernels

    def describe_threads(self, threads: int) -> None:
        """Note how many threads compute."""
        self.session["threads"] = threads

    def write(self) -> None:
        """Write the manifest."""
        write_json(self.path, self._content)

    def end(self, reason: str) -> None:
        """Note how this session ended."""
        self._content["status"] = redact(reason)
        self.session |= {"ended": _now(), "exit_reason": redact(reason)}
        self.write()


def command_line() -> str:
    """The command that started this process, without passwords."""
    program = Path(sys.argv[0])
    started = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return shlex.join([*started, *redact_words(sys.argv[1:])])


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with."""
    found = {"python": platform.python_version(), "eir_seq": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the code (of the working directory if the code is installed), and whether and how it was changed."""
    for folder in (Path(__file__).parent, Path.cwd()):
        commit = _git(folder, "rev-parse", "HEAD")
        if commit is None or _git(folder, "ls-files", "--error-unmatch", ".") is None:
            continue
        changes = _git(folder, "diff", "HEAD") or ""
        state: dict[str, Any] = {"commit": commit.strip(), "dirty": bool(changes)}
        if changes:
            state["diff_sha256"] = hashlib.sha256(changes.encode()).hexdigest()
        return state
    return None


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *words],  # noqa: S607
            cwd=folder,
            capture_output=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
