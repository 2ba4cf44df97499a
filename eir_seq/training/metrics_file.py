"""metrics.csv: one line per value, in long format; an interrupted run writes the same bytes as an uninterrupted one."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from eir_seq.files import csv_text, flush_to_disk, hash_file, open_text
from eir_seq.machine import writing

HEADER = ("epoch", "step", "split", "output", "metric", "value")


class Measurement(NamedTuple):
    """One line of metrics.csv."""

    epoch: int
    """Counted from 1."""
    step: int
    """Optimizer steps done."""
    split: str
    output: str
    """Empty for what belongs to the whole run: the weighted sum of losses, the learning rate."""
    metric: str
    value: float


class AppendedFile:
    """A CSV file that grows; each append is one write."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path, self.header = path, header

    def append(self, rows: Iterable[tuple[object, ...]]) -> None:
        """Add lines at the end."""
        self._write(rows)

    def restart(self, size: int) -> None:
        """Drop all but the first `size` bytes; a new file gets the header."""
        if size == 0:
            self.path.unlink(missing_ok=True)
            self._write([tuple(self.header)])
        else:
            assert self.path.stat().st_size >= size, f"{self.path.name} is shorter than when the checkpoint was written"
            os.truncate(self.path, size)

    def flush(self) -> tuple[int, str]:
        """Wait until all lines are on the disk; returns the size in bytes and the sha256 of the file."""
        with writing(self.path):
            flush_to_disk(self.path)
        return self.path.stat().st_size, hash_file(self.path)

    def problem(self, size: int, sha256: str) -> str | None:
        """What is wrong with the first `size` bytes; None if they are those of that hash ("": not known)."""
        if not self.path.is_file():
            missing = None if size == 0 else f"{self.path} is missing"
            return f"{self.path} is not a regular file" if self.path.exists() else missing
        if self.path.stat().st_size < size:
            return f"{self.path} has {self.path.stat().st_size:,} bytes instead of {size:,}"
        if size and sha256 and hash_file(self.path, size) != sha256:
            return f"{self.path} is not what was written (its sha256 differs)"
        return None

    def _write(self, rows: Iterable[tuple[object, ...]]) -> None:
        with writing(self.path), self.path.open("ab") as file:
            file.write(csv_text(rows).encode())


class MetricsFile(AppendedFile):
    """metrics.csv."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, HEADER)


def read_metrics(path: Path) -> list[Measurement]:
    """All lines of a metrics.csv."""
    with open_text(path) as file:
        return [
            Measurement(
                int(row["epoch"]), int(row["step"]), row["split"], row["output"], row["metric"], float(row["value"])
            )
            for row in csv.DictReader(file)
        ]
