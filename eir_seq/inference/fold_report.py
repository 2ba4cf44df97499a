"""The report of a cross-validation: its metrics by fold, and the way to the report of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eir_seq import __version__
from eir_seq.inference.page import environment
from eir_seq.inference.report import number_text
from eir_seq.training.folder import REPORT, read_config, write_text
from eir_seq.training.folds import OUT_OF_FOLD, FoldMetric


def write_fold_report(folder: Path, metrics: Sequence[FoldMetric]) -> Path:
    """Write ``report/index.html`` into the folder of a cross-validation, and give its path."""
    config: Mapping[str, Any] = read_config(folder / "config.yaml")
    templates = environment()
    templates.filters["number"] = number_text
    outputs = dict.fromkeys(metric.output for metric in metrics)
    page = templates.get_template("folds.html.j2").render(
        title=config["name"],
        folds=config["data"]["folds"],
        outputs={name: [metric for metric in metrics if metric.output == name] for name in outputs},
        table=OUT_OF_FOLD,
        version=__version__,
    )
    path = folder / REPORT
    path.parent.mkdir(exist_ok=True)
    write_text(path, page)
    return path


def table_of(metrics: Sequence[FoldMetric]) -> list[list[str]]:
    """Rows for the terminal: metric, mean and standard deviation, and the value of each fold; of no single classes."""
    return [
        [
            ".".join(filter(None, (metric.output, metric.metric))),
            number_text(metric.mean, 4),
            number_text(metric.deviation, 4),
            *(number_text(value, 4) for value in metric.values),
        ]
        for metric in metrics
        if "(" not in metric.metric
    ]
