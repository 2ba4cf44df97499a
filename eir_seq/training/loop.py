"""What happens between the steps: evaluations, early stopping, the best weights, checkpoints, signals.

`RunLoop` is the trainer's checkpoint callback, which is called after all others. The trainer's own validation loop
stays off: evaluation and saving happen here, at the end of optimizer steps only (after the last one of an epoch, at the
end of the epoch), so that every checkpoint is a state between two steps and a resumed run continues exactly as an
uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eir_seq.config.metrics import AVERAGE
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import RunFailed
from eir_seq.outputs.base import FittedOutput
from eir_seq.training.averaging import Averaging
from eir_seq.training.checkpoints import CheckpointStore, unsavable
from eir_seq.training.evaluation import Batch, Evaluation, evaluate
from eir_seq.training.lightning import Checkpoint, LightningModule, Trainer
from eir_seq.training.metrics_file import Measurement, MetricsFile
from eir_seq.training.module import TrainingModule
from eir_seq.training.monitor import Monitor
from eir_seq.training.network import Network
from eir_seq.training.optimization import set_rates, steps_per_epoch
from eir_seq.training.plateau import Plateau, warmup_steps
from eir_seq.training.protocols import Position, Progress
from eir_seq.training.ranks import ALONE, Ranks
from eir_seq.training.recorder import Recorder
from eir_seq.training.rehearsal import rehearse
from eir_seq.training.run_state import STATE_KEY, RunState, best_step_of, put_between_steps
from eir_seq.training.samples import Samples
from eir_seq.training.sharding import Sharded, all_finite
from eir_seq.training.signals import SignalGuard
from eir_seq.training.trackers import samples_to_trackers
from eir_seq.training.trackers.background import BackgroundTracker

POINTS = 200
"""How many times a run notes its training loss, at most; evaluations come on top."""
AVERAGING_KEY = "averaging"
REHEARSED_STEPS = 50
"""Steps that have to be ahead for the largest batches to be tried first: they cost up to three or four."""


class RunLoop(Checkpoint):
    """Steers a run between its steps.

    Args:
        config: the experiment.
        module: the training module.
        outputs: the fitted outputs by name.
        position: the data module.
        validation: returns new batches of the validation rows; None without validation rows.
        store: the run's checkpoints.
        metrics: the run's metrics.csv.
        monitor: what makes an evaluation the best.
        progress: the console.
        signals: SIGTERM and SIGINT.
        trackers: what gets every measurement, too.
        samples: what has language models write texts at each evaluation.
        averaging: the average of the weights that is evaluated and kept in their place.
        saved: called after each checkpoint.
        ranks: the processes that train; all of them take part in each evaluation and save, and rank 0 writes.
        sharded: the network that is trained, where it is in shards.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        module: TrainingModule,
        outputs: Mapping[str, FittedOutput],
        *,
        position: Position,
        validation: Callable[[], Any] | None,
        store: CheckpointStore,
        metrics: MetricsFile,
        monitor: Monitor,
        progress: Progress,
        signals: SignalGuard,
        trackers: Sequence[BackgroundTracker] = (),
        samples: Samples | None = None,
        averaging: Averaging | None = None,
        saved: Callable[[], None] = lambda: None,
        ranks: Ranks = ALONE,
        sharded: Sharded | None = None,
    ) -> None:
        self.config = config
        self.module = module
        self.outputs = outputs
        self.position = position
        self.validation = validation
        self.store = store
        self.metrics = metrics
        self.monitor = monitor
        self.progress = progress
        self.signals = signals
        self.trackers, self.samples = trackers, samples
        self.averaging, self.saved = averaging, saved
        self.recorder = Recorder(module, outputs, metrics, trackers, ranks)
        self.ranks, self.sharded = ranks, sharded
        self.state = RunState()
        self.best_evaluation: Evaluation | None = None  # if it is the one after the last step
        self.seconds_evaluating = 0.0
        self.batch: Batch | None = None
        self.steps_done = self.rows_done = 0  # by this process
        self._saved: tuple[int, bool] | None = None
        self._consistent = True  # the state, the weights and metrics.csv belong to the same step
        self._unsettled = False  # an epoch ends, and so does its last step
        self._asked_to_stop = self._agreed = False  # by a callback here; by any process, so that all of them stop
        self.every = math.ceil(module.total_steps / POINTS)

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        return self.state.stopped_early or self.state.step >= self.module.total_steps

    # ------------------------------------------------------------------------------------------- Lightning's hooks

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the run's state, and put the trainer's counters between two steps (or two epochs)."""
        if (problem := unsavable(checkpoint["callbacks"])) is not None:
            raise RunFailed(f"a callback's state holds what a checkpoint cannot: {problem}")
        checkpoint[STATE_KEY] = asdict(self.state)
        if self.averaging is not None:
            checkpoint[AVERAGING_KEY] = self.averaging.state()
        put_between_steps(checkpoint["loops"], self.state)
        checkpoint["epoch"] = self.state.epoch

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go back to where the checkpoint was written."""
        self.state = RunState(**checkpoint[STATE_KEY])
        if self.averaging is not None:
            self.averaging.restore(checkpoint[AVERAGING_KEY])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring data, metrics.csv and running losses to where the weights are."""
        if self.state.running.keys() & {"counts", "parts"}:  # what earlier versions have noted counts other things
            self.module.running.restore(self.state.running, self.module.device)
        if self.module.train_rows is not None:
            self.module.train_rows.restore(self.state.train_rows, self.module.device)
        self.module.reduction = Plateau(**self.state.plateau).factor
        if self.averaging is not None:
            self.averaging.begin(self.state.step, self.module.device)
        self.state.schedule_steps = self.module.schedule_steps
        self._saved = (self.state.step, self.state.evaluation_due) if self.state.step else None
        if self.ranks.is_first:
            self.metrics.restart(self.state.metrics_bytes)
            if self.samples is not None and self.samples.file is not None:
                self.samples.file.restart(self.state.samples_bytes)
        self.position.set_position(self.state.epoch, self.state.batches_done, self.state.window)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Catch up on an evaluation that a signal cut short; do not train on when all is done."""
        self.signals.install()  # the trainer has just set its own handlers
        self._set_rates(trainer)  # those that were loaded are those of the schedule as it was
        if trainer.progress_bar_callback is not None:  # it says of how many epochs this is one
            steps = steps_per_epoch(self.module.batches_per_epoch, self.config.trainer.accumulate)
            trainer.fit_loop.max_epochs = max(math.ceil(self.module.total_steps / steps), self.state.epoch + 1)
        self._settle(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A whole epoch is ahead; epochs that a checkpoint cut do not come here."""
        self.position.set_position(trainer.current_epoch, 0, self.state.window)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """From here on the weights move and the state does not."""
        self._consistent = False
        self.batch = batch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """After an optimizer step: measure, evaluate, save, stop, as is due."""
        done, settings = batch_idx + 1, self.config.trainer
        epoch_ends = done == self.module.batches_per_epoch
        if trainer.should_stop:  # a callback wants the run to end: at the end of a step
            self._asked_to_stop, trainer.should_stop = True, False
        if done % settings.accumulate and not epoch_ends:
            return
        self.rows_done += batch["step_rows"]
        if self.ranks.several:
            self._agree()
        state = self.state
        state.step = trainer.global_step
        state.epoch, state.batches_done = (trainer.current_epoch + epoch_ends), (0 if epoch_ends else done)
        state.window = list(batch.get("window", state.window))
        state.stopped_early |= self._asked_to_stop
        at_end = self.finished
        state.evaluation_due = at_end or (
            epoch_ends if settings.validate_every is None else state.step % settings.validate_every == 0
        )
        self.steps_done += 1
        if self.averaging is not None:
            self.averaging.after_step(self.module.network, state.step, epoch_ends=epoch_ends)
        trainer.optimizers[0].zero_grad()  # not in the next step: gradients would lie among what its forward pass keeps
        self.progress.step(state.step, self.module.total_steps, self._epoch(), self.recorder.training_loss)
        if state.evaluation_due or state.step % self.every == 0:
            self.recorder.record_training(self._epoch(), state.step)
        if trainer.progress_bar_callback is not None and (loss := self.recorder.training_loss()) is not None:
            pl_module.log("loss", loss, prog_bar=True, logger=False, batch_size=1)
        self._consistent = True
        if epoch_ends:
            self._unsettled = True  # until the callbacks have seen the end of the epoch
        else:
            self._after_step(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same after the last step of an epoch."""
        if not self._unsettled:  # a run that ends within an epoch
            return
        self._unsettled = False
        if trainer.should_stop:
            self.state.stopped_early = self.state.evaluation_due = True
        self._after_step(trainer)

    def _after_step(self, trainer: Trainer) -> None:
        self._settle(trainer)
        if (
            self.sharded is None
            and self.steps_done == 1
            and self.module.total_steps - self.state.step >= REHEARSED_STEPS
        ):
            self._rehearse()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A signal to the whole process group may end the loader's workers first: save all the same."""
        alone = not self.ranks.several  # the others do not save now
        if alone and self.signals.received is not None and self._consistent and isinstance(exception, Exception):
            self._save(trainer)

    # ------------------------------------------------------------------------------------------------ between steps

    def _rehearse(self) -> None:
        """Try the largest batches ahead."""
        assert self.batch is not None
        module, settings = self.module, self.config.trainer
        ahead = (module.total_steps - self.state.step) * settings.accumulate
        train, evaluated = self.position.costliest_batches(
            self.state.epoch, self.state.batches_done, ahead, beyond=self.batch["row"].tolist()
        )
        rehearse(
            module.network,
            self.outputs,
            train,
            evaluated if self.validation is not None else None,
            device=module.device,
            precision=str(settings.precision),
            accumulates=settings.accumulate > 1,
        )

    def _agree(self) -> None:
        """Stop all processes if one of them has received a signal, or a callback of one has asked to stop."""
        if received := self.ranks.maximum(self.signals.received or 0):
            self.signals.received, self._agreed = received, True
        self._asked_to_stop = bool(self.ranks.maximum(int(self._asked_to_stop)))

    @property
    def _signalled(self) -> bool:
        """Whether a signal has come, of which all processes know."""
        return self._agreed if self.ranks.several else self.signals.received is not None

    def _settle(self, trainer: Trainer) -> None:
        state, settings = self.state, self.config.trainer
        if self._signalled:
            self._stop(trainer)
        evaluated = state.evaluation_due
        if evaluated:
            self._evaluate(trainer)
            self.state.stopped_early |= trainer.should_stop  # by a callback
        save = evaluated if settings.checkpoint_every is None else state.step % settings.checkpoint_every == 0
        if state.step and (save or self.finished):
            self._save(trainer)
        if self._signalled:
            self._stop(trainer)
        if self.finished:
            trainer.should_stop = True

    def _stop(self, trainer: Trainer) -> None:
        if self.state.step:
            self._save(trainer)
        self.signals.check()

    def _save(self, trainer: Trainer) -> None:
        point = (self.state.step, self.state.evaluation_due)
        if self._saved == point:
            return
        if self.ranks.is_first:
            self.state.metrics_bytes, self.state.metrics_sha256 = self.metrics.flush()
            if self.samples is not None and self.samples.file is not None:
                self.state.samples_bytes, self.state.samples_sha256 = self.samples.file.flush()
        self.state.running = self.module.running.state()
        if self.module.train_rows is not None:
            self.state.train_rows = self.module.train_rows.state()
        if not all_finite(self.module.parameters(), self.ranks):
            raise RunFailed(f"step {self.state.step}: the weights are not finite; no checkpoint was written")
        trainer.save_checkpoint(self.store.next_path(self.state.step))
        self._saved = point
        if self.ranks.is_first:
            self.store.prune(best_step_of)
            self.saved()

    def _evaluate(self, trainer: Trainer) -> None:
        state = self.state
        if self.validation is None:
            state.evaluation_due = False
            return
        start = time.perf_counter()
        self._call_hooks(trainer, "on_validation_start", "on_validation_epoch_start")
        network = self.evaluated_network()
        self.ranks.share_statistics(network)
        found = evaluate(
            network,
            self.outputs,
            self.validation(),
            device=self.module.device,
            precision=str(self.config.trainer.precision),
            between=lambda: self._between_batches(trainer),
            writers=() if self.samples is None else self.samples.writers(network),
            average=self.monitor.metric == AVERAGE,
            ranks=self.ranks,
        )
        self.seconds_evaluating += time.perf_counter() - start
        self._consistent = False
        self._compare(found, network)
        self._follow(found, trainer)
        measurements = [
            Measurement(self._epoch(), state.step, "validation", output, metric, value)
            for (output, metric), value in sorted(found.values.items())
        ]
        self.recorder.record(measurements, state.step)
        written = []
        if self.samples is not None and self.ranks.is_first:
            written = self.samples.write(network, self._epoch(), state.step, found)
            samples_to_trackers(self.trackers, written, step=state.step)
        self._call_hooks(trainer, "on_validation_epoch_end", "on_validation_end")
        state.evaluation_due = False
        self._consistent = True
        if self.sharded is not None:
            network.to("cpu")
        self.progress.evaluated(measurements, best=state.best_step == state.step)
        for sample in written:
            self.progress.say(f"{sample.output} writes: {sample.shown}\n")

    def _between_batches(self, trainer: Trainer) -> None:
        if self.ranks.several:
            self._agree()
        if self._signalled:
            self._stop(trainer)

    def _call_hooks(self, trainer: Trainer, *names: str) -> None:
        """Those of the other callbacks, around an evaluation that is not the trainer's own."""
        for name in names:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if callback is not self:
                    getattr(callback, name)(trainer, self.module)

    def evaluated_network(self) -> Network:
        """The network as trained, or that of averaged weights where there are such already."""
        averaging = self.averaging if self.averaging is not None and self.averaging.active else None
        whole = None
        if self.sharded is not None:
            whole = self.sharded.gather(None if averaging is None else averaging.network).to(self.module.device)
        if averaging is None:
            return self.module.network if whole is None else whole
        return averaging.renewed(
            self.module.network,
            self.position.statistics_batches,
            device=self.module.device,
            precision=str(self.config.trainer.precision),
            whole=whole,
        )

    def _follow(self, found: Evaluation, trainer: Trainer) -> None:
        """Reduce the learning rate where the schedule follows the monitored value, and that no longer improves."""
        schedule: Any = self.config.scheduler
        value = found.values.get((self.monitor.output, self.monitor.metric))
        if not schedule.FOLLOWS_MONITOR or value is None or not math.isfinite(value):
            return
        if self.state.step <= warmup_steps(schedule, self.module.schedule_steps):
            return
        plateau = Plateau(**self.state.plateau)
        if plateau.evaluated(value, schedule, self.monitor.better):
            self.module.reduction = plateau.factor
            self._set_rates(trainer)
            rate = self.module.learning_rate(self.state.step + 1)
            self.progress.say(f"{self.monitor} no longer improves: the learning rate is now {rate:.3g}")
        self.state.plateau = asdict(plateau)

    def _set_rates(self, trainer: Trainer) -> None:
        for held in trainer.lr_scheduler_configs:
            set_rates(held.scheduler)  # type: ignore[arg-type]

    def _compare(self, found: Evaluation, network: Network) -> None:
        state, early = self.state, self.config.trainer.early_stopping
        value = found.values.get((self.monitor.output, self.monitor.metric))
        if value is None or not math.isfinite(value):
            if not state.undefined:
                self.progress.say(
                    f"warning: {self.monitor} is undefined at step {state.step:,} (as the correlation of predictions "
                    "that are all the same is); such evaluations are not compared and use up no patience"
                )
            state.undefined += 1
            return
        improved_enough = self.monitor.better(value, state.best_value, early.min_delta if early else 0.0)
        if self.monitor.better(value, state.best_value):
            if self.ranks.is_first:
                self.store.write_best(state.step, network.tensors())
            state.best_value, state.best_step, state.best_epoch = value, state.step, self._epoch()
            self.best_evaluation = found if self.finished else None
        spared = early is not None and (state.step <= early.after_steps or self._epoch() <= early.after_epochs)
        state.without_improvement = 0 if improved_enough or spared else state.without_improvement + 1
        if early is not None and state.without_improvement >= early.patience:
            state.stopped_early = True

    # ------------------------------------------------------------------------------------------------- measurements

    def _epoch(self) -> int:
        """The epoch of the last step, counted from 1."""
        return self.state.epoch + (self.state.batches_done > 0)

    def note(self, values: Mapping[str, float]) -> None:
        """Write what callbacks have measured."""
        epoch, step = self._epoch(), self.state.step
        self.recorder.record([Measurement(epoch, step, "train", "", *item) for item in values.items()], step)
