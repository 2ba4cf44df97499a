"""One run, from its config to its result. The same call again continues a run that did not come to its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from eir_seq import machine
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.models.layers.kernels import used
from eir_seq.outputs.generation.writing import check_writing
from eir_seq.remote import is_url
from eir_seq.training.assemble import Parts, assemble, resolved
from eir_seq.training.attributions import check_interpretations, interpretations_of
from eir_seq.training.bundle import WEIGHTS, write_models
from eir_seq.training.callbacks import build_callbacks, shows_progress
from eir_seq.training.checkpoints import CheckpointStore
from eir_seq.training.checksums import CHECKSUMS, wrong_files
from eir_seq.training.console import Console, duration
from eir_seq.training.devices import device_count, memory_failure, out_of_memory, pick_device
from eir_seq.training.diagram import diagram_of
from eir_seq.training.evaluation import Evaluation
from eir_seq.training.finished import missing_of, note_checksums, tidy_up
from eir_seq.training.fit import fit, flags_restored, resumable, schedule_from
from eir_seq.training.folder import (
    CACHE,
    LOG,
    METRICS,
    REPORT,
    RESULT,
    RunFolder,
    write_json,
)
from eir_seq.training.follow import evaluate_best, follow
from eir_seq.training.kernels import choose_kernels
from eir_seq.training.latents import check_layers
from eir_seq.training.launch import Launch, launched_rank, place_of
from eir_seq.training.lightning import Callback
from eir_seq.training.loop import RunLoop
from eir_seq.training.manifest import RunManifest
from eir_seq.training.metrics_file import Measurement, MetricsFile
from eir_seq.training.monitor import Monitor
from eir_seq.training.optimization import total_steps
from eir_seq.training.outcome import Outcome, result_of
from eir_seq.training.preflight import check_config, check_parts
from eir_seq.training.remote_run import train_remotely
from eir_seq.training.report_data import ReportData, length_summary
from eir_seq.training.run_state import RunState
from eir_seq.training.samples import Samples
from eir_seq.training.signals import SignalGuard, Stopped
from eir_seq.training.threads import threads_for
from eir_seq.training.trackers import build_trackers, finish_trackers, log_to_trackers
from eir_seq.training.trackers.background import BackgroundTracker

Finish = Callable[[Path], object]


def train(
    config: ExperimentConfig, *, finish: Finish | None = None, saved: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Train, evaluate, and leave all that belongs to the run in its folder.

    Args:
        config: the experiment. With `run.dir` set, an unfinished run in that folder is continued, and a finished one
            is not trained again.
        finish: called with the run folder once the result is written, or the run has failed, to make the report.
        saved: called after each checkpoint.

    Returns:
        The result, as ``result.json`` holds it: ``status``, ``run_dir``, ``best_step``, ``steps``, ``monitor``, and
        under ``validation`` and ``test`` the metrics of the best weights by output.

    Raises:
        UserError: config, data or run folder are invalid; nothing is written.
        RunFailed: a value is not finite, or memory or disk are full; the last checkpoint stays.
        Stopped: SIGTERM or SIGINT; the state is saved.
    """
    if config.data.folds is not None and config.data.fold is None:
        message = "is missing; eir_seq.training.folds.cross_validate trains one run for each"
        raise UserError(Fault("data.fold", message))
    if is_url(config.run.dir) and not launched_rank():  # rank 0 sends the others the local folder
        return train_remotely(config, lambda local, uploaded: train(local, finish=finish, saved=uploaded))
    device, monitor = check_config(config)
    place = place_of(config.trainer, device_count(config.trainer, device))
    if place.local_rank:
        device = pick_device(config.trainer.accelerator, place.local_rank)
    if place.rank:
        with Launch(config, place, device) as launch:
            launch.start()
            return follow(launch, device, monitor)
    callbacks = build_callbacks(config)
    with (
        Console() as console,
        SignalGuard(console.say) as signals,
        RunFolder(config) as folder,
        Launch(config, place, device) as launch,
    ):
        console.log_to(folder.path / LOG)
        if faults := [
            Fault("run.dir", f"{folder.path / name} is a folder, not a file; remove it")
            for name in (CHECKSUMS, REPORT)
            if (folder.path / name).is_dir()
        ]:
            raise UserError(*faults)
        result = folder.result
        if result is not None and folder.extended is None:
            wrong = dict(wrong_files(folder.path))
            missing = missing_of(folder.path, config, result, wrong)
            if missing is None:
                console.say(f"{folder.path}: this run is finished; nothing was trained")
                manifest = RunManifest(folder.path, config, device)
                if manifest.status != "finished":  # killed while it was tidied up
                    tidy_up(folder, config, manifest)
                if finish is not None and (REPORT in wrong or not (folder.path / REPORT).is_file()):
                    finish(folder.path)
                note_checksums(folder.path)
                return result
            kept, unfit = resumable(folder.path)
            if not kept:
                without = unfit or "no checkpoint is left to make it from"
                hint = f"{without}; remove {folder.path / RESULT} to train the run again"
                raise UserError(Fault("run.dir", f"the run in {folder.path} is finished, but {missing}; {hint}"))
            console.say(f"{folder.path}: {missing}; it is rebuilt")
        if result is not None and folder.extended is not None:
            kept, unfit = resumable(folder.path)
            if not kept:
                why = f"the run in {folder.path} is finished and {unfit or 'kept no optimizer state'}"
                hint = "with trainer.keep_optimizer_state=true if that run is to be extended later"
                message = f"{why}, so that it cannot continue; train in another run.dir, {hint}"
                raise UserError(Fault(folder.extended, message))
        if config.note:
            console.log(config.note)  # the command has said it
        manifest = RunManifest(folder.path, config, device)
        run = _Run(config, folder, manifest, console, signals, device, monitor, callbacks, launch, saved)
        try:
            result = run.execute()
        except BaseException as raised:
            failure = failure_of(raised)
            error = failure or raised
            run.failed(error)
            if isinstance(error, RunFailed) and folder.kept and finish is not None:
                # How far it came helps to find out why; what comes in the way here is not the cause.
                with contextlib.suppress(OSError, UserError, RunFailed):
                    run.report.save(folder.path)
                    finish(folder.path)
            if failure is not None:
                raise failure from raised
            raise
        try:
            if finish is not None:
                finish(folder.path)
                console.say(f"report: {folder.path / REPORT}")
        finally:
            finish_trackers(run.trackers, run_dir=folder.path, result=result)
        note_checksums(folder.path)
        return result


def failure_of(error: BaseException) -> RunFailed | None:
    """The one-line failure that an error stands for, if memory, disk or the like are at fault."""
    if out_of_memory(error):
        return memory_failure("evaluation", "data.eval_batch_size rows")
    return machine.failure_of(error)


class _Run:
    """The phases of a run, in order."""

    def __init__(
        self,
        config: ExperimentConfig,
        folder: RunFolder,
        manifest: RunManifest,
        console: Console,
        signals: SignalGuard,
        device: torch.device,
        monitor: Monitor,
        callbacks: Sequence[Callback],
        launch: Launch,
        saved: Callable[[], None],
    ) -> None:
        self.config = config
        self.folder = folder
        self.path = folder.path
        self.manifest = manifest
        self.console = console
        self.signals = signals
        self.device = device
        self.monitor = monitor
        self.callbacks = callbacks
        self.saved = saved
        self.launch = launch
        self.store = CheckpointStore(self.path / "checkpoints", config.trainer.keep_checkpoints)
        self.report = ReportData()
        self.trackers: list[BackgroundTracker] = []

    def execute(self) -> dict[str, Any]:
        with used(self.manifest.products):
            return self._execute()

    def _execute(self) -> dict[str, Any]:
        start = time.monotonic()
        self.launch.start()
        kernels = choose_kernels(self.device, self.path, self.manifest.kernels, self.console.say)
        self.manifest.describe_kernels(kernels)
        self.config = resolved(self.config, self.console)
        ranks = self.launch.ranks
        parts = assemble(self.config, self.console, fallback_cache=str(self.path / CACHE), ranks=ranks)
        with contextlib.closing(parts.data), flags_restored(), self.launch.failures():
            result = self._phases(parts, start)
            ranks.broadcast(result)
        self.console.say(f"done in {duration(time.monotonic() - start)}: {self.path}")
        return result

    def _phases(self, parts: Parts, start: float) -> dict[str, Any]:
        self._check_data(parts)
        with threads_for(self.config, parts.network, parts.outputs, parts.data, self.device) as threads:
            self.manifest.describe_threads(threads)
            return self._train(parts, start)

    def _train(self, parts: Parts, start: float) -> dict[str, Any]:
        self._begin(parts)
        self._join()
        self.report.seconds["prepare"] = time.monotonic() - start
        loop = self._fit(parts)
        evaluations = self._evaluate_best(parts, loop)
        result = result_of(self.config, self.path, loop.state, self.monitor, evaluations)
        Outcome(self.config, self.path, parts, evaluations, self.report, self.device, self.console).write()
        best = loop.state.best_step
        weights = None if best is None else self.store.best(best) / WEIGHTS
        write_models(self.path, self.config, parts.inputs, parts.outputs, parts.network, weights=weights)
        self.report.save(self.path)
        write_json(self.path / RESULT, result)  # it is what makes the run a finished one
        tidy_up(self.folder, self.config, self.manifest)
        return result

    def failed(self, error: BaseException) -> None:
        """Record how the run ended; the caller reports the error."""
        self.console.end_bar()
        if isinstance(error, Stopped):
            reason = f"stopped by signal {error.signum}"
            code = int(error.code or 1)
            if self.folder.kept:
                self.console.say(f"stopped; run.dir={self.path} continues the run")
        else:
            reason = str(error) if isinstance(error, UserError | RunFailed) else f"{type(error).__name__}: {error}"
            code = 1
            self.console.log(reason)
        finish_trackers(self.trackers, exit_code=code)
        if self.folder.kept:
            with contextlib.suppress(OSError):  # on a full disk the error itself is what matters
                self.manifest.end(reason.splitlines()[0] if reason else type(error).__name__)

    # --------------------------------------------------------------------------------------------------- phases

    def _check_data(self, parts: Parts) -> None:
        before = self.manifest.data
        if self.folder.resumed and before is not None and before["fingerprint"] != parts.splits.fingerprint:
            raise UserError(
                Fault("data", f"the rows are not those that the run in {self.path} began with; name another run.dir")
            )
        started = self.manifest.started
        if self.folder.resumed and started is not None and started.get("sha256") != (parts.started or {}).get("sha256"):
            message = f"is not the run that {self.path} began with: its files have changed"
            raise UserError(Fault("start_from.run", message))
        check_parts(self.config, parts.splits, parts.outputs, self.monitor, parts.targets)
        if self.config.trainer.latents is not None:
            check_layers(parts.network, self.config.trainer.latents, parts.outputs, "trainer.latents")
        if interpreted := interpretations_of(self.config.inputs):
            check_interpretations(interpreted, parts.network, parts.inputs, parts.outputs, parts.data.encoded)
        newest = next(iter(self.store.resumable()), None)
        schedule_from(self.config, newest, total_steps(self.config.trainer, parts.data.batches_per_epoch))
        check_writing(parts.network, parts.inputs, parts.outputs, parts.splits.train, seed=self.config.seed)
        if parts.splits.validation is None:
            self.console.say("no validation rows: the last weights count as the best")

    def _begin(self, parts: Parts) -> None:
        self.manifest.describe_data(parts.splits.describe())
        if parts.started is not None:
            self.manifest.describe_start(parts.started)
        self.folder.forget_result()  # before the config says what the run is going to be
        if not self.folder.resumed or self.folder.extended:
            self.folder.write_config()
        self.manifest.write()
        self.folder.keep()
        self.console.say(f"run folder: {self.path}")
        self.report.rows = parts.splits.counts
        self.report.warnings = [*parts.splits.warnings, *parts.data.warnings]
        self.report.missing = {split: dict(found) for split, found in parts.splits.missing.items()}
        for row in parts.splits.skipped:
            reasons = self.report.skipped.setdefault(row.split, {})
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
        self.report.outputs = {name: output.describe() for name, output in parts.outputs.items()}
        if parts.network.fusion is not None:
            self.report.fusion = self.config.fusion.describe(list(self.config.inputs))
        self.report.diagram = diagram_of(self.config, parts.network)
        self.report.parameters = parts.network.count_parameters()
        for name, fitted in parts.inputs.items():
            limit = fitted.describe().get("max_length")
            if tokens := parts.tokens(name):
                self.report.lengths[name] = {split: length_summary(rows, limit) for split, rows in tokens.items()}
        self.trackers = build_trackers(self.config, self.path)

    def _join(self) -> None:
        """Have the other processes prepare the same run, and wait for them."""
        if not self.launch.ranks.several:
            return
        ranks = self.launch.join()
        ranks.broadcast(
            {
                "dir": str(self.path),
                "config": json.loads(self.config.model_dump_json()),
                "products": self.manifest.products.state(),
                "kernels": self.manifest.session["kernels"],
            }
        )
        with self.console.phase("starting the other processes") as found:
            ranks.barrier()
            found.append(f"{ranks.world_size} processes share each batch")

    def _fit(self, parts: Parts) -> RunLoop:
        start = time.monotonic()
        self.console.shows_bar = not shows_progress(self.callbacks)
        loop = fit(
            self.config,
            parts.network,
            parts.outputs,
            parts.data,
            run_dir=self.path,
            device=self.device,
            monitor=self.monitor,
            progress=self.console,
            signals=self.signals,
            validate=parts.splits.validation is not None,
            trackers=self.trackers,
            callbacks=self.callbacks,
            samples=Samples(self.config, parts.inputs, parts.outputs, self.path, dict(parts.splits.items())),
            saved=self.saved,
            ranks=self.launch.ranks,
        )
        self.console.end_bar()
        seconds = time.monotonic() - start
        self.report.seconds["train"] = seconds - loop.seconds_evaluating
        self.report.seconds["evaluate"] = loop.seconds_evaluating
        if loop.steps_done and seconds > loop.seconds_evaluating:
            self.report.speed = {
                "steps_per_second": loop.steps_done / (seconds - loop.seconds_evaluating),
                "rows_per_second": loop.rows_done / (seconds - loop.seconds_evaluating),
            }
        return loop

    def _evaluate_best(self, parts: Parts, loop: RunLoop) -> dict[str, Evaluation]:
        state, ranks = loop.state, self.launch.ranks
        if state.best_step is None and parts.splits.validation is not None:
            self.console.say(f"{self.monitor} was undefined in every evaluation: the last weights count as the best")
        found = evaluate_best(
            self.config,
            parts,
            state,
            self.store,
            self.monitor,
            device=self.device,
            ranks=ranks,
            known=loop.best_evaluation,
        )
        parts.data.keep_all()  # what follows is done by this process alone
        self.report.outputs |= {name: output.describe() for name, output in parts.outputs.items()}
        self._measure_test(found, state)
        return found

    def _measure_test(self, found: dict[str, Evaluation], state: RunState) -> None:
        if "test" not in found:
            return
        step = state.best_step if state.best_step is not None else state.step
        epoch = state.best_epoch if state.best_epoch is not None else state.epoch + (state.batches_done > 0)
        measurements = [
            Measurement(epoch, step, "test", output, metric, value)
            for (output, metric), value in sorted(found["test"].values.items())
        ]
        MetricsFile(self.path / METRICS).append(measurements)
        self.console.evaluated(measurements, best=False)
        log_to_trackers(self.trackers, measurements, step=state.step)
