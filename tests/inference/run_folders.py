"""Run folders as training leaves them, with made-up contents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from eir_seq.outputs import build_output
from eir_seq.outputs.base import FittedOutput
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.predictions import write_predictions
from eir_seq.outputs.regression.config import RegressionOutputConfig
from eir_seq.training.metrics_file import Measurement, MetricsFile
from eir_seq.training.report_data import ReportData, length_summary

PHRASES = (
    "The plot drags in the middle, yet the last act is a quiet triumph.",
    "I wanted to like this; nobody in the cast seems to have read the script.",
    "Not bad at all, though hardly the masterpiece that the poster promises.",
    "An hour of brilliant ideas, buried under another hour of explosions.",
)


def classification(name: str, classes: Sequence[str], seed: int = 0, **options: Any) -> FittedOutput:
    values = [classes[i % len(classes)] for i in range(3 * len(classes))]
    return build_output(name, ClassificationOutputConfig(column="label", **options)).fit({"label": values})


def regression(name: str) -> FittedOutput:
    return build_output(name, RegressionOutputConfig(column="stars")).fit({"stars": [1.0, 2.0, 4.0, 5.0, 3.0]})


def draw(output: FittedOutput, rows: int, seed: int, only: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw outputs and targets that agree more often than not."""
    source = torch.Generator().manual_seed(seed)
    if output.output_size == 1:
        target = torch.randn(rows, generator=source)
        return target[:, None] * 0.8 + 0.4 * torch.randn(rows, 1, generator=source), target
    target = torch.randint(output.output_size, (rows,), generator=source)
    if only is not None:
        target = torch.full((rows,), only)
    raw = torch.randn(rows, output.output_size, generator=source) * 1.5
    raw[torch.arange(rows), target] += 2.2
    return raw, target


def make_run(
    folder: Path,
    outputs: Sequence[FittedOutput],
    *,
    splits: dict[str, int] | None = None,
    epochs: int = 8,
    inputs: Sequence[str] = ("review",),
    only: int | None = None,
    texts: Sequence[str] = PHRASES,
    status: str = "finished",
) -> Path:
    """A run folder; a `status` other than finished leaves out what a failed run lacks."""
    splits = {"validation": 200, "test": 200} if splits is None else splits
    folder.mkdir(parents=True)
    config = {
        "name": "reviews_longformer",
        "seed": 0,
        "inputs": {name: {"type": "sequence", "column": "text", "max_length": 512} for name in inputs},
        "outputs": {output.name: output.config.model_dump(mode="json") for output in outputs},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    session = {"started": "2026-11-20T12:00:00+00:00", "device": "cpu", "threads": 2, "host": "bench"}
    manifest = {
        "name": config["name"],
        "status": status,
        "seed": 0,
        "versions": {"torch": "2.13.0"},
        "sessions": [session],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "log.txt").write_text("run folder\ntraining\n")
    metrics = MetricsFile(folder / "metrics.csv")
    metrics.restart(0)
    steps = 60
    for step in range(6, epochs * steps + 1, 6):
        epoch = -(-step // steps)
        noise = 0.04 * float(torch.randn(1, generator=torch.Generator().manual_seed(step)))
        done = step / (epochs * steps)
        rows = [Measurement(epoch, step, "train", "", "learning_rate", 1e-3 * min(done * 10, (1 - done) * 1.11))]
        rows += [
            Measurement(epoch, step, "train", name, "loss", 0.25 + 0.45 * (1 - done) ** 2 + noise)
            for name in ("", *(output.name for output in outputs))
        ]
        if step % steps == 0:
            for output in outputs:
                raw, target = draw(output, splits.get("validation", 0), seed=step, only=only)
                values = output.evaluate(raw * (0.5 + done / 2), target) if len(raw) else {}
                rows += [
                    Measurement(epoch, step, "validation", output.name, key, value) for key, value in values.items()
                ]
            rows.append(Measurement(epoch, step, "validation", "", "loss", 0.6 - 0.3 * done))
        metrics.append(rows)
    report = ReportData(rows={"train": 1800, **splits})
    report.skipped = {"train": {"empty text": 3, "no label": 1}}
    report.warnings = ["a.csv lines 5-6: a quoted field holds rows"]
    report.outputs = {output.name: output.describe() for output in outputs}
    report.parameters = {"review": 182_000, "fusion": 66_000, "heads": 258, "total": 248_258, "trainable": 248_258}
    report.seconds = {"prepare": 4.2, "train": 131.7, "evaluate": 9.8}
    report.speed = {"steps_per_second": 3.64, "rows_per_second": 116.5, "tokens_per_second": 31_240.0}
    for name in inputs:
        report.lengths[name] = {
            split: length_summary(
                (torch.randn(rows, generator=torch.Generator().manual_seed(rows)) * 0.6 + 5).exp().int().numpy(), 512
            )
            for split, rows in {"train": 1800, **splits}.items()
        }
    if status == "finished":
        (folder / "predictions").mkdir()
        result: dict[str, Any] = {"status": "finished", "best_step": min(5, epochs) * steps}
        for number, (split, rows) in enumerate(splits.items()):
            ids = [f"{split}-{row}" for row in range(rows)]
            shown = [" ".join(texts[(row + k) % len(texts)] for k in range(1 + row % 5)) for row in range(rows)]
            columns: dict[str, Any] = {}
            for output in outputs:
                raw, target = draw(output, rows, seed=number, only=only)
                result.setdefault(split, {})[output.name] = output.evaluate(raw, target)
                true = (
                    [output.classes[i] for i in target.tolist()]  # type: ignore[attr-defined]
                    if output.output_size > 1
                    else output.decode(target[:, None])[output.name]
                )
                columns[output.name] = {f"{output.name}_true": true} | output.decode(raw)
                report.add_worst(split, output, raw, target, ids, dict.fromkeys(inputs, shown))
            write_predictions(folder / "predictions" / f"{split}.csv", ids, columns)
        (folder / "result.json").write_text(json.dumps(result))
    report.save(folder)
    return folder
