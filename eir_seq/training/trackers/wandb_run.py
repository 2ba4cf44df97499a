"""Weights & Biases: offline without a login, continued when the run is, in one group with the jobs of its sweep.

Without a key or a connection it writes offline, to be sent later with ``wandb sync``.
"""

from __future__ import annotations

import logging
import netrc
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.trackers import WandbTrackerConfig
from eir_seq.training.folder import REPORT, plain
from eir_seq.training.redaction import redact
from eir_seq.training.report_data import ReportData
from eir_seq.training.samples import Sample
from eir_seq.training.trackers.base import Tracker
from eir_seq.training.trackers.facts import group_of, keep_id, kept_id

if TYPE_CHECKING:
    from wandb import Run

STEP = "trainer/global_step"
"""The axis of all metrics: optimizer steps."""
_OF_AGENT = "WANDB_SWEEP_ID"
"""Set by ``wandb agent``, which names project, entity and id of the runs that it starts."""

logger = logging.getLogger(__name__)


def wandb_tracker(tracker: WandbTrackerConfig, config: ExperimentConfig, run_dir: Path) -> Tracker:
    """A run of Weights & Biases, offline where it has to be."""
    import wandb

    mode = tracker.mode or os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not _has_key():
        logger.warning("tracker: no Weights & Biases key (WANDB_API_KEY); writing offline")
        mode = "offline"
    (run_dir / "wandb").mkdir(parents=True, exist_ok=True)
    named: dict[str, Any] = {"name": config.name, "tags": tracker.tags}
    if _OF_AGENT not in os.environ:
        named |= {"project": tracker.project, "entity": tracker.entity}
        named["group"] = tracker.group or group_of(config, run_dir)
    options: dict[str, Any] = {
        **redact(named),
        "config": {"cfg": plain(config)},
        "id": _run_id(run_dir / "wandb" / "run_id"),
        "dir": run_dir,
        # The run folder has its own log, and capturing the console would break the progress bar. wandb's own metadata
        # hold the command line as it was typed; the run's manifest has it without passwords.
        "settings": wandb.Settings(console="off", disable_code=True, silent=True, x_disable_meta=True),
    }
    if mode == "online":
        try:
            return WandbRun(wandb.init(mode="online", resume="allow", **options), tracker)
        except wandb.errors.Error as error:
            reason = str(error).strip().splitlines()[0]
            logger.warning("tracker: Weights & Biases cannot be reached (%s); writing offline", redact(reason))
            mode = "offline"
    # Offline, the server cannot say what to resume; the same id joins the parts when they are sent.
    return WandbRun(wandb.init(mode=cast(Any, mode), **options), tracker)


class WandbRun(Tracker):
    """A run of Weights & Biases that has begun."""

    def __init__(self, run: Run, config: WandbTrackerConfig) -> None:
        self.run, self.config = run, config
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Measurements over optimizer steps."""
        self.run.log({**values, STEP: step})

    def write(self, samples: Sequence[Sample], step: int) -> None:
        """The texts of an evaluation as a table."""
        import wandb

        rows = [[sample.output, sample.prompt, sample.text, sample.true] for sample in samples]
        self.run.log({"samples": wandb.Table(columns=["output", "prompt", "text", "true"], data=rows), STEP: step})

    def conclude(self, run_dir: Path, result: Mapping[str, Any]) -> None:
        """The best values as the summary, tables of the worst errors, and the report as an artifact."""
        import wandb

        monitor = result.get("monitor") or {}
        self.run.summary.update({"best_step": result.get("best_step"), "best_value": monitor.get("value")})
        for split, outputs in ReportData.load(run_dir).worst.items():
            for output, worst in outputs.items():
                inputs = list(dict.fromkeys(name for row in worst for name in row.inputs))
                rows = [[row.id, row.error, *(row.inputs.get(name, "") for name in inputs)] for row in worst]
                table = wandb.Table(columns=["id", "error", *inputs], data=redact(rows))
                self.run.log({f"worst/{split}/{output}": table, STEP: result.get("steps", 0)})
        page = run_dir / REPORT
        if self.config.report and page.is_file():
            name = re.sub(r"[^\w.-]", "-", f"report-{self.run.id}")
            artifact = wandb.Artifact(name, type="report")
            artifact.add_file(str(page))
            self.run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        """Send what is left."""
        self.run.finish(exit_code=exit_code)


def _run_id(path: Path) -> str:
    """The id of the run: that of ``wandb agent``, that of the sessions before, or a new one."""
    given = os.environ.get("WANDB_RUN_ID") if _OF_AGENT in os.environ else None
    return kept_id(path) or keep_id(path, given or secrets.token_hex(4))


def _has_key() -> bool:
    """Whether a key is in the environment or where ``wandb login`` keeps it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
