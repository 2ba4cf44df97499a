"""Trackers beside metrics.csv: Weights & Biases and TensorBoard, as Lightning loggers.

A tracker never decides whether a run lives: without a key or a connection, Weights & Biases writes offline, to be sent
later with ``wandb sync``.
"""

from __future__ import annotations

import logging
import netrc
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.trackers import TrackerBase, WandbTrackerConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_text
from eir_seq.registry import imported
from eir_seq.training.folder import plain
from eir_seq.training.metrics_file import Measurement
from eir_seq.training.module import metric_key
from eir_seq.training.redaction import redact

if TYPE_CHECKING:
    from wandb import Run

SWEEP_VARIABLE = "EIR_SEQ_SWEEP"
"""Environment variable in which a sweep tells its jobs its id."""

logger = logging.getLogger(__name__)


def build_trackers(config: ExperimentConfig, run_dir: Path) -> list[Logger]:
    """The loggers that ``tracker`` asks for, writing inside the run folder; none for csv.

    A resumed run continues the same Weights & Biases run, whose id is kept in ``RUN/wandb/run_id``.
    End each with `finish_trackers`.

    Raises:
        UserError: the tracker's package is not installed.
    """
    tracker = config.tracker
    if tracker.PACKAGE is not None and not is_installed(tracker.PACKAGE):
        raise UserError(Fault("tracker.type", missing_package(tracker.PACKAGE)))
    return [] if tracker.IMPLEMENTATION is None else [imported(tracker.IMPLEMENTATION)(tracker, config, run_dir)]


def finish_trackers(trackers: Sequence[Logger], exit_code: int = 0) -> None:
    """Flush and close all trackers; `exit_code` other than 0 marks the run as failed. Safe to call twice."""
    for tracker in trackers:
        tracker.finalize("success" if exit_code == 0 else "failed")
        if isinstance(tracker, WandbLogger) and _first_process():
            tracker.experiment.finish(exit_code=exit_code)
        elif isinstance(tracker, TensorBoardLogger):
            tracker.experiment.close()


def tensorboard_logger(_tracker: TrackerBase, config: ExperimentConfig, run_dir: Path) -> TensorBoardLogger:
    """Event files in the run folder."""
    board = TensorBoardLogger(save_dir=run_dir, name="tensorboard", version="")
    board.log_hyperparams({"cfg": plain(config)})
    return board


def wandb_logger(tracker: WandbTrackerConfig, config: ExperimentConfig, run_dir: Path) -> WandbLogger:
    """A run of Weights & Biases, offline where it has to be."""
    import wandb

    mode = tracker.mode or os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not _has_wandb_key():
        logger.warning("tracker: no Weights & Biases key (WANDB_API_KEY); writing offline")
        mode = "offline"
    folder = run_dir / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        "name": config.name,
        "project": tracker.project,
        "entity": tracker.entity,
        "group": tracker.group or os.environ.get(SWEEP_VARIABLE),
        "tags": tracker.tags,
    }
    options: dict[str, Any] = {
        **redact(named),
        "config": {"cfg": plain(config)},
        "id": _run_id(folder / "run_id"),
        "dir": run_dir,
        # The run folder has its own log, and capturing the console would break the progress bar. wandb's own metadata
        # hold the command line as it was typed; the run's manifest has it without passwords.
        "settings": wandb.Settings(console="off", disable_code=True, silent=True, x_disable_meta=True),
    }
    if not _first_process():
        return WandbLogger(save_dir=run_dir)
    if mode == "online":
        try:
            return _logger(wandb.init(mode="online", resume="allow", **options))
        except wandb.errors.Error as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("tracker: Weights & Biases cannot be reached (%s); writing offline", reason)
            mode = "offline"
    # Offline, nobody can be asked what to resume; the same id joins the parts when they are sent.
    return _logger(wandb.init(mode=cast(Any, mode), **options))


def _logger(run: Run) -> WandbLogger:
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _run_id(path: Path) -> str:
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
        os.replace(partial, path)
    return read_text(path).strip()


def _has_wandb_key() -> bool:
    """Whether a key is in the environment or where ``wandb login`` keeps it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def log_to_trackers(trackers: Sequence[Logger], measurements: Sequence[Measurement], step: int) -> None:
    """Give measurements to Lightning loggers as ``split/output/metric``."""
    named = {metric_key(m.split, m.output, m.metric): m.value for m in measurements}
    for tracker in trackers:
        tracker.log_metrics(named, step=step)
