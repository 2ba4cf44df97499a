"""Cross-validation: a run for each fold of the training rows, in folders below one, and what all of them say together.

``RUN/fold_0``, ``RUN/fold_1`` ... are run folders as any other. ``RUN/out_of_fold.csv`` has the predictions of every
row by the run that did not train on it, ``RUN/folds.csv`` each metric by fold, with mean and standard deviation.
"""

from __future__ import annotations

import csv
import io
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.source import load_folds
from eir_seq.errors import Fault, UserError
from eir_seq.files import open_text
from eir_seq.machine import say
from eir_seq.training.folder import CONFIG, RESULT, RunFolder, write_json, write_text
from eir_seq.training.launch import launched_rank
from eir_seq.training.monitor import monitor_of
from eir_seq.training.run import Finish, train

OUT_OF_FOLD, TABLE = "out_of_fold.csv", "folds.csv"
FOLD = "fold"
"""The column of the fold in the table of predictions."""


@dataclass(frozen=True)
class FoldMetric:
    """A metric on the rows that each run was not trained on."""

    output: str
    metric: str
    values: tuple[float | None, ...]
    """By fold; None if it is undefined."""

    @property
    def mean(self) -> float | None:
        """Over the folds that have it."""
        known = [value for value in self.values if value is not None]
        return statistics.fmean(known) if known else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation; None for fewer than two values."""
        known = [value for value in self.values if value is not None]
        return statistics.stdev(known) if len(known) > 1 else None


def fold_config(config: ExperimentConfig, fold: int, folder: Path) -> ExperimentConfig:
    """The experiment of one fold of a cross-validation whose files are in `folder`."""
    data = config.data.model_copy(update={"fold": fold})
    run = config.run.model_copy(update={"dir": str(folder / f"fold_{fold}")})
    return config.model_copy(update={"data": data, "run": run})


def cross_validate(
    config: ExperimentConfig,
    *,
    finish: Finish | None = None,
    conclude: Callable[[Path, Sequence[FoldMetric]], object] | None = None,
) -> dict[str, Any]:
    """Train a model for each of `data.folds` folds, which is its test rows; finished folds are not trained again.

    Args:
        config: the experiment.
        finish: as in `eir_seq.training.run.train`, for each fold.
        conclude: called with the folder and the metrics of all folds, to make the report.

    Returns:
        What ``RUN/result.json`` holds: ``folds``, the mean of each metric under ``test``, its standard deviation under
        ``deviation``, and under ``monitor`` the mean of the monitored one.

    Raises:
        UserError: config, data or folder are invalid.
        RunFailed: of a fold; the finished ones stay.
        Stopped: SIGTERM or SIGINT; the state of the fold is saved.
    """
    folds = config.data.folds
    assert folds is not None, "it is for experiments with data.folds"
    monitor = monitor_of(config)
    if launched_rank() is not None:
        message = "cannot be used where torchrun or srun starts the processes; start one run for each data.fold"
        raise UserError(Fault("data.folds", message))
    with RunFolder(config) as folder:
        numbers = load_folds(config)
        if not folder.resumed or folder.extended:
            folder.forget_result()
            folder.write_config()
        results = []
        for fold in range(folds):
            say(f"fold {fold} ({fold + 1} of {folds})", sys.stdout)
            part = fold_config(config, fold, folder.path)
            try:
                results.append(train(part, finish=finish))
            except UserError:
                if not folder.kept and not Path(str(part.run.dir)).exists():  # nothing came of it
                    (folder.path / CONFIG).unlink(missing_ok=True)
                raise
            finally:
                if Path(str(part.run.dir)).exists():
                    folder.keep()
        metrics = list(_metrics(results))
        write_text(folder.path / OUT_OF_FOLD, _out_of_fold(folder.path, numbers, folds))
        write_text(folder.path / TABLE, _table(metrics, folds))
        found = {(metric.output, metric.metric): metric for metric in metrics}
        monitored = found.get((monitor.output, monitor.metric))
        result = {
            "status": "finished",
            "name": config.name,
            "run_dir": str(folder.path),
            "seed": config.seed,
            "folds": folds,
            "monitor": {**vars(monitor), "value": None if monitored is None else monitored.mean},
            "test": _nested(metrics, lambda metric: metric.mean),
            "deviation": _nested(metrics, lambda metric: metric.deviation),
        }
        write_json(folder.path / RESULT, result)
        if conclude is not None:
            conclude(folder.path, metrics)
        say(f"done: {folder.path}", sys.stdout)
        return result


def _metrics(results: Sequence[Mapping[str, Any]]) -> Iterator[FoldMetric]:
    """The metrics of the test rows; the sum of all losses has no output."""
    tables = [{"": {"loss": result["loss"].get("test")}, **result.get("test", {})} for result in results]
    names = dict.fromkeys((output, metric) for table in tables for output in table for metric in table[output])
    for output, metric in names:
        values = tuple(table.get(output, {}).get(metric) for table in tables)
        if any(value is not None for value in values):
            yield FoldMetric(output, metric, values)


def _nested(metrics: Sequence[FoldMetric], value: Callable[[FoldMetric], float | None]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for metric in metrics:
        if metric.output and (number := value(metric)) is not None:
            found.setdefault(metric.output, {})[metric.metric] = number
    return found


def _table(metrics: Sequence[FoldMetric], folds: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["output", "metric", *(f"fold_{fold}" for fold in range(folds)), "mean", "deviation"])
    for metric in metrics:
        numbers = (*metric.values, metric.mean, metric.deviation)
        writer.writerow([metric.output, metric.metric, *("" if x is None else repr(x) for x in numbers)])
    return text.getvalue()


def _out_of_fold(folder: Path, numbers: Mapping[str, int], folds: int) -> str:
    """The tables of predictions of all folds as one, its rows in the order of the data; `numbers`: folds by id."""
    columns: dict[str, None] = {}
    rows: list[tuple[int, dict[str, str]]] = []
    order = {row_id: place for place, row_id in enumerate(numbers)}
    for fold in range(folds):
        with open_text(folder / f"fold_{fold}" / "predictions" / "test.csv") as file:
            for row in csv.DictReader(file):
                columns.update(dict.fromkeys(row))
                rows.append((order.get(row["id"], len(order)), {FOLD: str(fold), **row}))
    rows.sort(key=lambda found: found[0])  # stable: rows that the data do not name stay by fold
    names = ["id", FOLD, *(name for name in columns if name != "id")]
    text = io.StringIO()
    returns = any("\r" in value for _, row in rows for value in row.values())
    # A lone carriage return ends a line for readers, and Python's writer quotes it only where it ends its own.
    quoting: Any = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(row for _, row in rows)
    return text.getvalue()
