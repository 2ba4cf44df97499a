"""What a run leaves for its report besides metrics, predictions and manifest: ``report/data.json``.

Training fills a `ReportData` and saves it; `eir_seq.inference.report` reads it. Every field may stay empty: the report
then leaves its section out. So a run that failed early has a report, too.

    report = ReportData()
    report.rows = {"train": 1800, "validation": 200}
    report.lengths["review"] = {"train": length_summary(lengths, max_length), ...}
    report.add_worst("validation", output, raw, target, ids, inputs={"review": texts})
    report.save(run_dir)                                             # atomic; may be called as often as wanted
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from eir_seq.files import MEGABYTE, read_text
from eir_seq.machine import writing
from eir_seq.outputs.reporting.sections import WorstRow
from eir_seq.training.diagram import Diagram
from eir_seq.training.redaction import redact

if TYPE_CHECKING:
    from torch import Tensor

    from eir_seq.outputs.base import FittedOutput

WORST_ROWS = 25
MAX_TEXT = 2000
BINS = 40
MOST_BYTES = 128 * MEGABYTE


class LengthSummary(BaseModel):
    """Lengths of one input's rows in one split, as a histogram."""

    rows: int
    mean: float
    median: float
    longest: int
    max_length: int | None
    truncated: float
    """Share of the rows that are longer than max_length."""
    edges: list[float]
    counts: list[int]


class ReportData(BaseModel):
    """The contents of ``report/data.json``."""

    model_config = ConfigDict(extra="ignore")

    rows: dict[str, int] = {}
    """Rows by split."""
    skipped: dict[str, dict[str, int]] = {}
    """Skipped rows by split and reason."""
    missing: dict[str, dict[str, int]] = {}
    """By split and config path of an input or output, the rows that lack it."""
    labelled: dict[str, dict[str, list[int]]] = {}
    """By split and output, the positions of the rows with a target, where some have none."""
    warnings: list[str] = []
    """What can be used of the rows and yet looks wrong."""
    outputs: dict[str, dict[str, Any]] = {}
    """`FittedOutput.describe` by output."""
    fusion: str | None = None
    """What fuses the inputs; None if no output reads it."""
    diagram: Diagram = Diagram()
    """The parts of the network, and what goes between them."""
    parameters: dict[str, int] = {}
    """Parameters by part of the network; ``total`` and ``trainable`` among them."""
    seconds: dict[str, float] = {}
    """Wall-clock seconds by phase, in order: preprocess, train, evaluate ..."""
    speed: dict[str, float] = {}
    """Training speed: steps_per_second, rows_per_second, tokens_per_second ..."""
    lengths: dict[str, dict[str, LengthSummary]] = {}
    """By input and split."""
    worst: dict[str, dict[str, list[WorstRow]]] = {}
    """By split and output, worst first."""
    thumbnails: dict[str, str] = {}
    """By the readable form of a picture in an input, a small PNG of it (base64)."""

    def add_worst(
        self,
        split: str,
        output: FittedOutput,
        raw: Tensor,
        target: Tensor,
        ids: Sequence[str],
        inputs: Mapping[str, Sequence[Any]],
    ) -> None:
        """Remember the rows on which `output` is most wrong.

        Args:
            split: validation or test.
            output: the fitted output.
            raw: its raw outputs (rows, output_size).
            target: its targets (rows,).
            ids: id of each row.
            inputs: what is in each row, by input name.
        """
        errors = output.errors(raw.cpu(), target.cpu())
        worst = errors.argsort(descending=True, stable=True)[:WORST_ROWS].tolist()
        self.worst.setdefault(split, {})[output.name] = [
            WorstRow(
                id=ids[row],
                error=float(errors[row]),
                inputs={name: shortened(str(values[row])) for name, values in inputs.items()},
            )
            for row in worst
        ]

    def shown_inputs(self, split: str) -> set[str]:
        """The readable form of all inputs of the rows of a split that are remembered."""
        return {text for rows in self.worst.get(split, {}).values() for row in rows for text in row.inputs.values()}

    def save(self, run_dir: Path) -> None:
        """Write ``report/data.json`` under the run folder, atomically."""
        folder = run_dir / "report"
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".data.json.{os.getpid()}.partial"
        content = self.model_dump(mode="json")
        content |= {name: redact(content[name]) for name in ("skipped", "warnings")}
        with writing(folder / "data.json", partial):
            partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(partial, folder / "data.json")

    @classmethod
    def load(cls, run_dir: Path) -> ReportData:
        """Read ``report/data.json``; empty where the run did not write one."""
        path = run_dir / "report" / "data.json"
        return cls.model_validate_json(read_text(path, MOST_BYTES)) if path.exists() else cls()


def length_summary(lengths: Sequence[int] | np.ndarray[Any, Any], max_length: int | None = None) -> LengthSummary:
    """Histogram of the rows' token counts (special tokens included, before truncation)."""
    values = np.asarray(lengths, dtype=np.int64)
    assert len(values), "no rows"
    longest = int(values.max())
    edges = np.unique(np.linspace(0, longest + 1, min(BINS, longest + 1) + 1).round().astype(int))
    counts, _ = np.histogram(values, bins=edges)
    return LengthSummary(
        rows=len(values),
        mean=float(values.mean()),
        median=float(np.median(values)),
        longest=longest,
        max_length=max_length,
        truncated=float((values > max_length).mean()) if max_length is not None else 0.0,
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """The text, cut in the middle where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]} … {text[-half:]}"
