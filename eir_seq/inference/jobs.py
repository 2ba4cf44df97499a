"""The jobs of a sweep, read from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eir_seq.errors import Fault, UserError
from eir_seq.files import read_text

JOBS = "jobs"
"""Folder of the status and the output of jobs inside a sweep's folder."""

Status = Literal["waiting", "running", "done", "failed", "stopped", "pruned", "timeout"]


@dataclass(frozen=True)
class Job:
    """One job of a sweep and its status.

    Attributes:
        pid: of its process, on the machine that runs it.
        place: where it runs and what it has there, in words.
    """

    number: int
    overrides: tuple[str, ...]
    status: Status = "waiting"
    exit_code: int | None = None
    message: str = ""
    started: str | None = None
    seconds: float | None = None
    pid: int | None = None
    place: str = ""


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep folder by number; empty where the folder is none."""
    jobs = []
    for path in (folder / JOBS).glob("*.json"):
        try:
            content: dict[str, Any] = json.loads(read_text(path))
            jobs.append(Job(**{**content, "overrides": tuple(content["overrides"])}))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            detail = " ".join(str(error).split())[:200]
            raise UserError(
                Fault(str(path), f"is not the status of a job ({detail}); remove it to run the job again")
            ) from None
    return sorted(jobs, key=lambda job: job.number)
