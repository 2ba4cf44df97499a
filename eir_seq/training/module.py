"""The network as a LightningModule: losses, counted randomness, and no step on values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.outputs.base import FittedOutput, row_names
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.randomness import derive_seed
from eir_seq.training.adversaries import adversary_losses
from eir_seq.training.averaging import averaged_rate
from eir_seq.training.evaluation import Batch, Gathered
from eir_seq.training.lightning import LightningModule, Trainer
from eir_seq.training.losses import counted_rows, loss_terms, mean_losses, training_outputs, weighted_loss
from eir_seq.training.network import Network
from eir_seq.training.optimization import build_optimizer, build_scheduler, learning_rate_factor
from eir_seq.training.ranks import ALONE, Ranks
from eir_seq.training.running import RunningLosses, TrainingRows
from eir_seq.training.sharding import full, shard_like
from eir_seq.training.weighting import build_weighting


class TrainingModule(LightningModule):
    """One optimizer step at a time.

    In a run a `RunLoop` evaluates and notes the losses. In a user's own ``lightning.Trainer`` (`load_experiment`) the
    trainer does both by its hooks: ``train/loss`` is logged at each step, ``validation/OUTPUT/METRIC`` and
    ``test/OUTPUT/METRIC`` at the end of each evaluation, and the schedule covers the trainer's own number of steps.

    Args:
        network: encoders, fusion and heads.
        outputs: the fitted outputs by name.
        config: the experiment.
        batches_per_epoch: batches in every epoch.
        total_steps: optimizer steps of the whole run.
        schedule_steps: those that the schedule covers; all of them if absent.
        in_run: whether a `RunLoop` is among the trainer's callbacks.
        ranks: the processes that share the rows of each batch.
    """

    def __init__(
        self,
        network: Network,
        outputs: Mapping[str, FittedOutput],
        config: ExperimentConfig,
        *,
        batches_per_epoch: int,
        total_steps: int,
        schedule_steps: int | None = None,
        in_run: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.network = network
        self.outputs = dict(outputs)
        self.config = config
        self.batches_per_epoch = batches_per_epoch
        self.total_steps = total_steps
        self.schedule_steps = total_steps if schedule_steps is None else schedule_steps
        self.in_run = in_run
        self.ranks = ranks
        self.running = RunningLosses(ranks)
        self.train_rows = TrainingRows(self.outputs, ranks) if in_run and config.trainer.train_metrics else None
        self.weighting = build_weighting(config.trainer.loss_weighting, outputs, network)
        self.reduction = 1.0
        """Factor on the learning rate by a schedule that follows the monitored value."""
        self._gathered = Gathered(self.outputs)
        self._group: list[tuple[list[str], dict[str, Tensor]]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """What one batch adds to the loss of its optimizer step: the weighted sum over outputs.

        Sums over rows or tokens are divided by the counts of the whole step (see `Groups`), so that the micro-batches
        of a step give the gradient that one batch of all their rows would give.
        """
        number = self.trainer.current_epoch * self.batches_per_epoch + batch_idx
        process = (self.ranks.rank,) if self.ranks.rank else ()  # dropout differs between processes
        seed = derive_seed(self.config.seed, "step", number, *process)
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:  # this takes a millisecond, and notes the stack, for each kind of device that is not in use
            torch.manual_seed(seed)
        for name in self.outputs:
            if isinstance(head := self.network.head(name), Seq2SeqLmHead):
                head.tokens_per_text = batch["step_counts"][name][0] / batch["step_rows"]
        raw, batch = training_outputs(self.network, batch)
        terms = loss_terms(self.outputs, raw, batch, self.ranks)
        rows = counted_rows(batch)
        done = self.trainer.global_step
        opposed = adversary_losses(self.network, self.outputs, batch, step=done, total_steps=self.total_steps)
        self._group.append((batch["id"], {name: rows.detach().isfinite().all(dim=1) for name, rows in terms.items()}))
        if self.train_rows is not None and rows:
            self.train_rows.add(raw, batch)
        if self.in_run and rows:
            own_counts = opposed.counts(batch["counts"], rows)
            self.running.add({**terms, **opposed.terms}, {**batch["counts"], **own_counts})
        elif not self.in_run:
            own = weighted_loss(self.outputs, {name: rows.detach() for name, rows in terms.items()}, batch["counts"])
            self.log("train/loss", own, prog_bar=True, batch_size=len(batch["id"]))
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        total: Tensor = self.weighting(
            mean_losses(terms, batch["step_counts"]),
            share=rows / batch["step_rows"],
            present=[name for name, counts in batch["step_counts"].items() if any(counts)],
            scale=1.0 if scaler is None else scaler.get_scale(),
        )
        if (penalty := self.network.penalty()) is not None:
            total = total + penalty * (rows / batch["step_rows"])
        if (loss := opposed.total(batch["step_counts"], batch["step_rows"])) is not None:
            total = total + (loss if rows else loss * 0)
        # By the first the trainer divides, by the second DDP and FSDP, which average.
        return total * (self.trainer.accumulate_grad_batches * self.ranks.world_size)

    def on_validation_epoch_start(self) -> None:
        """Forget the rows of the evaluation before."""
        self._gathered = Gathered(self.outputs)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs of a batch: metrics are functions of all rows at once, however these are cut."""
        self._gathered.add(batch, self.network.run(batch), self.network.token_inputs)

    def on_validation_epoch_end(self) -> None:
        """Log ``validation/loss`` and ``validation/OUTPUT/METRIC``.

        Raises:
            RunFailed: the loss is not finite.
        """
        self._log_measured("validation")

    def on_test_epoch_start(self) -> None:
        """Forget the rows of the evaluation before."""
        self._gathered = Gathered(self.outputs)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep the outputs of a batch."""
        self._gathered.add(batch, self.network.run(batch), self.network.token_inputs)

    def on_test_epoch_end(self) -> None:
        """Log ``test/loss`` and ``test/OUTPUT/METRIC``; raises `RunFailed` if the loss is not finite."""
        self._log_measured("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The ids of a batch under ``id``, and the columns of each output's predictions under its name."""
        raw = self.network.run(batch)
        return {"id": batch["id"], **{name: out.decode(raw[name].float().cpu()) for name, out in self.outputs.items()}}

    def _log_measured(self, split: str) -> None:
        gathered, self._gathered = self._gathered, Gathered(self.outputs)
        self.log_dict({metric_key(split, *key): value for key, value in gathered.measured().values.items()})

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Refuse gradients that are not finite, clip their norm, and add noise.

        The trainer calls this before every optimizer step, whether or not it clips.

        Raises:
            RunFailed: a loss or a gradient is not finite; the weights are as before.
        """
        group, self._group = self._group, []
        parameters = [p for held in optimizer.param_groups for p in held["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        self._refuse_non_finite(group, full(norm))
        if gradient_clip_val is not None:  # that of a user's own trainer
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif (clip := self.config.trainer.gradient_clip) is not None:
            clip_grads_with_norm_(parameters, clip, norm)
        self.weighting.end_step(self.ranks)
        if (deviation := self.config.trainer.gradient_noise) is not None:
            self._add_noise(gradients, deviation)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Nothing in a run, whose loop forgets gradients after each step."""
        if not self.in_run:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def _add_noise(self, gradients: list[Tensor], deviation: float) -> None:
        """Normal noise (Neelakantan et al. 2015, arXiv:1511.06807), a function of the seed and the step."""
        draw = torch.Generator(self.device)
        draw.manual_seed(derive_seed(self.config.seed, "gradient noise", self.trainer.global_step))
        for gradient in gradients:
            noise = torch.empty(gradient.shape, dtype=gradient.dtype, device=gradient.device)
            gradient.add_(shard_like(noise.normal_(std=deviation, generator=draw), gradient))

    def _refuse_non_finite(self, group: list[tuple[list[str], dict[str, Tensor]]], norm: Tensor) -> None:
        finite = [rows.all() for _, losses in group for rows in losses.values()]
        if self.trainer.precision != "16-mixed":  # there the gradient scaler skips steps that overflow
            finite.append(norm.isfinite())
        if torch.stack([value.to(norm.device) for value in finite]).all():
            return
        step = self.trainer.global_step + 1
        for name in self.outputs:
            bad = [row for ids, losses in group for row, ok in zip(ids, losses[name], strict=True) if not ok]
            if not norm.isfinite():  # which it is in no process
                bad = self._of_all(bad)
            if bad:
                raise RunFailed(f"step {step}: the loss of outputs.{name} is not finite on {_named(bad)}; {HINT}")
        rows = [row for ids, _ in group for row in ids]
        if not norm.isfinite():
            rows = self._of_all(rows)
        raise RunFailed(f"step {step}: the gradient is not finite (batch of {_named(rows)}); {HINT}")

    def _of_all(self, ids: list[str]) -> list[str]:
        """The rows of all processes."""
        found = self.ranks.gather({}, ids)
        rows: list[str] = self.ranks.broadcast([row for _, part in found for row in part])
        return rows

    def learning_rate(self, step: int) -> float:
        """The learning rate of one step, counted from 1 (of the heads, where layers have their own rates)."""
        return self.config.optimizer.lr * self._rate_factor()(step - 1)

    def _rate_factor(self) -> Callable[[int], float]:
        """The factor on the learning rate by the steps done: by schedule, averaging and reductions."""
        config, total = self.config, self.schedule_steps
        scheduled = learning_rate_factor(config.scheduler, total)
        factor = averaged_rate(scheduled, config.trainer.averaging if self.in_run else None, config.optimizer, total)
        return lambda step: factor(step) * self.reduction

    def configure_optimizers(self) -> Any:
        """The optimizer and the schedule, which advances with every optimizer step."""
        if not self.in_run:
            self.schedule_steps = _steps_of(self.trainer)
        fused = self.trainer.precision != "16-mixed" and self.device.type in ("cpu", "cuda", "mps")
        beside = self.weighting.parameters()
        optimizer = build_optimizer(self.network, self.config.optimizer, fused=fused, beside=beside)
        scheduler = build_scheduler(optimizer, self.config.scheduler, self.schedule_steps, self._rate_factor())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


HINT = "the weights of the last checkpoint are sound; a lower optimizer.lr or a look at these rows may help"


def metric_key(split: str, output: str, metric: str) -> str:
    """What trackers and callbacks call a value: ``split/output/metric``, without what is empty."""
    return "/".join(filter(None, (split, output, metric)))


def _steps_of(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        raise UserError(Fault("lightning.Trainer", "has no end; give it max_epochs or max_steps, which schedules need"))
    return int(steps)


def _named(ids: list[str]) -> str:
    return row_names(range(len(ids)), ids)
