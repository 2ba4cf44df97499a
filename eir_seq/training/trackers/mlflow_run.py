"""MLflow: metrics, config, report, and the bundle as a model that ``mlflow models`` can describe and serve."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from eir_seq import __version__
from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import columns_of
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.trackers import MlflowTrackerConfig
from eir_seq.training.folder import CONFIG, REPORT
from eir_seq.training.redaction import redact
from eir_seq.training.samples import Sample
from eir_seq.training.trackers.base import Tracker
from eir_seq.training.trackers.facts import group_of, hyperparameters, keep_id, kept_id

LOADER = "eir_seq.inference.mlflow_model"
"""The module that MLflow imports to load a model: no code or pickle comes with the model itself."""
MODEL = "model"
"""The artifact that is the model: ``runs:/ID/model``."""
_FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"
"""Without it MLflow 3 refuses folders of files, which it has stopped to extend."""
_MOST_PARAMS, _MOST_TEXT = 100, 500
"""How many parameters MLflow takes at once, and how long the value of one may be for all of its stores."""
_NOT_ALLOWED = re.compile(r"[^\w\-. /]")


def mlflow_tracker(tracker: MlflowTrackerConfig, config: ExperimentConfig, run_dir: Path) -> Tracker:
    """A run of MLflow; a continued run continues the one of the sessions before."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    uri = tracker.uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
    if "://" not in uri:
        uri = Path(uri).expanduser().absolute().as_uri()
    if uri.startswith("file:"):
        os.environ.setdefault(_FILE_STORE, "true")
    client: Any = MlflowClient(tracking_uri=uri)
    # A run is known to its server only, and the same run folder may be tracked by another one later.
    path = run_dir / "mlflow" / f"run_id-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    run_id = kept_id(path)
    if run_id is not None:
        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException:  # it was deleted there
            run_id = None
    if run_id is None:
        experiment = _experiment(client, tracker.experiment or config.name)
        group = group_of(config, run_dir)
        tags = {"eir_seq.version": __version__, "eir_seq.run_dir": str(run_dir), **tracker.tags}
        tags |= {"eir_seq.sweep": group} if group is not None else {}
        run_id = keep_id(path, client.create_run(experiment, run_name=config.name, tags=redact(tags)).info.run_id)
        params = [Param(key, _text(value)) for key, value in hyperparameters(config).items()]
        for start in range(0, len(params), _MOST_PARAMS):
            client.log_batch(run_id, params=params[start : start + _MOST_PARAMS])
    return MlflowRun(client, run_id, tracker, config, Metric, RunTag)


def _experiment(client: Any, name: str) -> str:
    """The id of an experiment, which is made if there is none; jobs of a sweep may do so at the same time."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


class MlflowRun(Tracker):
    """A run of MLflow that has begun."""

    def __init__(
        self, client: Any, run_id: str, tracker: MlflowTrackerConfig, config: ExperimentConfig, metric: Any, tag: Any
    ) -> None:
        self.client, self.run_id, self.tracker, self.config = client, run_id, tracker, config
        self._metric, self._tag = metric, tag

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Measurements over optimizer steps; of ``precision(a)`` the name is ``precision.a.``."""
        now = int(time.time() * 1000)
        metrics = [self._metric(_NOT_ALLOWED.sub(".", name), value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def write(self, samples: Sequence[Sample], step: int) -> None:
        """Texts of an evaluation as a file."""
        text = "\n\n".join(f"{sample.output}: {sample.shown}" for sample in samples)
        self.client.log_text(self.run_id, text + "\n", f"samples/step-{step:08d}.txt")

    def conclude(self, run_dir: Path, result: Mapping[str, Any]) -> None:
        """Config, report and model as artifacts."""
        monitor = result.get("monitor") or {}
        if monitor.get("value") is not None:
            self.client.log_metric(self.run_id, "best", float(monitor["value"]), step=int(result.get("best_step") or 0))
        self.client.log_artifact(self.run_id, str(run_dir / CONFIG))
        if self.tracker.report and (run_dir / REPORT).is_file():
            self.client.log_artifact(self.run_id, str(run_dir / REPORT), "report")
        if self.tracker.model and (run_dir / "bundle").is_dir():
            with tempfile.TemporaryDirectory(prefix="eir_seq-mlflow-") as folder:
                write_model(Path(folder) / MODEL, run_dir / "bundle", self.config, self.run_id)
                self.client.log_artifacts(self.run_id, str(Path(folder) / MODEL), MODEL)

    def finish(self, exit_code: int) -> None:
        """Say how the run ended."""
        status = "FINISHED" if exit_code == 0 else "KILLED" if exit_code > 128 else "FAILED"
        self.client.set_terminated(self.run_id, status)


def write_model(folder: Path, bundle: Path, config: ExperimentConfig, run_id: str | None = None) -> None:
    """Write a bundle in MLflow's folder layout, with the flavor ``python_function``.

    Args:
        folder: is made.
        bundle: of a run.
        config: of the run.
        run_id: of MLflow.
    """
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature

    folder.mkdir(parents=True)
    shutil.copytree(bundle, folder / "bundle", copy_function=_linked)
    (folder / "requirements.txt").write_text(f"eir_seq=={__version__}\n", encoding="utf-8")
    environment = {"python": _python(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(yaml.safe_dump(environment), encoding="utf-8")
    signature = ModelSignature(inputs=_schema(config))
    model = Model(artifact_path=MODEL, run_id=run_id, signature=signature, metadata={"eir_seq": __version__})
    pyfunc.add_to_model(model, loader_module=LOADER, data="bundle", python_env="python_env.yaml")
    model.save(str(folder / "MLmodel"))


def _schema(config: ExperimentConfig) -> Any:
    """The columns that the inputs read, as MLflow describes them."""
    from mlflow.types import ColSpec, DataType, Schema

    columns = columns_of(config.data, config.inputs, {})
    numbers = columns.of("input", ColumnType.NUMBER)
    types = {name: DataType.double if name in numbers else DataType.string for name in columns.of("input")}
    return Schema([ColSpec(type_, name, required=False) for name, type_ in types.items()])


def _linked(source: str, destination: str) -> None:
    """A second name of a file, or a copy on another file system."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


def _python() -> str:
    import platform

    return platform.python_version()


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"
