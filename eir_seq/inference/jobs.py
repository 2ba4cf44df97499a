"""The jobs of a sweep as its folder remembers them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

JOBS = "jobs"
"""Folder of the status and the output of jobs inside a sweep's folder."""

Status = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass(frozen=True)
class Job:
    """One job of a sweep and how it stands."""

    number: int
    overrides: tuple[str, ...]
    status: Status = "waiting"
    exit_code: int | None = None
    message: str = ""
    started: str | None = None
    seconds: float | None = None
    pid: int | None = None


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep folder by number; empty where the folder is none."""
    jobs = []
    for path in (folder / JOBS).glob("*.json"):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        jobs.append(Job(**{**content, "overrides": tuple(content["overrides"])}))
    return sorted(jobs, key=lambda job: job.number)
