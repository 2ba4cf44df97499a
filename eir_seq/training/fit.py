"""Runs Lightning's trainer from the newest checkpoint to the end."""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.machine import free_bytes
from eir_seq.outputs.base import FittedOutput
from eir_seq.training.averaging import Averaging
from eir_seq.training.callbacks import RunLogger, shows_progress
from eir_seq.training.checkpoint_io import FolderCheckpointIO
from eir_seq.training.checkpoints import (
    STATE,
    CheckpointStore,
    read_json,
    remove_folder,
    verify_folder,
)
from eir_seq.training.devices import batch_shape, memory_failure, out_of_memory
from eir_seq.training.evaluation import products_in
from eir_seq.training.groups import Groups
from eir_seq.training.launch import RankEnvironment
from eir_seq.training.lightning import (
    AdvancedProfiler,
    Callback,
    DDPStrategy,
    LightningEnvironment,
    Profiler,
    SimpleProfiler,
    Trainer,
)
from eir_seq.training.loop import RunLoop
from eir_seq.training.metrics_file import AppendedFile, MetricsFile
from eir_seq.training.module import TrainingModule
from eir_seq.training.monitor import Monitor
from eir_seq.training.network import Network
from eir_seq.training.optimization import learning_rate_factor, schedule_steps, total_steps
from eir_seq.training.protocols import Data, Progress
from eir_seq.training.ranks import ALONE, Ranks
from eir_seq.training.run_state import noted, recorded
from eir_seq.training.samples import SAMPLES, Samples
from eir_seq.training.sharding import Sharded, ShardedStrategy
from eir_seq.training.signals import SignalGuard
from eir_seq.training.trackers.background import BackgroundTracker


def fit(
    config: ExperimentConfig,
    network: Network,
    outputs: Mapping[str, FittedOutput],
    data: Data,
    *,
    run_dir: Path,
    device: torch.device,
    monitor: Monitor,
    progress: Progress,
    signals: SignalGuard,
    validate: bool = True,
    trackers: Sequence[BackgroundTracker] = (),
    callbacks: Sequence[Callback] = (),
    samples: Samples | None = None,
    saved: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> RunLoop:
    """Train `network`, from the newest intact checkpoint of the run if there is one.

    Returns the loop that steered the run, whose `state` tells where it ended.

    Raises:
        RunFailed: a loss or gradient is not finite, memory or disk is full.
        Stopped: a signal came; the state is saved.
    """
    total = total_steps(config.trainer, data.batches_per_epoch)
    store = CheckpointStore(run_dir / "checkpoints", config.trainer.keep_checkpoints)
    if ranks.is_first:
        store.folder.mkdir(exist_ok=True)
        store.clean()
    metrics = MetricsFile(run_dir / "metrics.csv")
    files: dict[str, AppendedFile] = {"metrics": metrics}
    if samples is not None and samples.file is not None:
        files["samples"] = samples.file
    checkpoint = _newest_fitting(store, files, progress.say) if ranks.is_first else None
    name = ranks.broadcast(None if checkpoint is None else checkpoint.name)
    checkpoint = None if name is None else store.folder / name
    if checkpoint is not None:
        progress.say(f"continuing from {checkpoint.name}")
    covered, said = schedule_from(config, checkpoint, total)
    if said is not None:
        progress.say(said)
    sharded = Sharded(network) if ranks.several and config.trainer.strategy == "fsdp" else None
    module = TrainingModule(
        network if sharded is None else sharded.trained,
        outputs,
        config,
        batches_per_epoch=data.batches_per_epoch,
        total_steps=total,
        schedule_steps=covered,
        ranks=ranks,
    )
    averaging = None
    if config.trainer.averaging is not None:
        averaging = Averaging(network, config.trainer.averaging, module.schedule_steps)
    if config.trainer.compile:
        # In place: names of parameters stay as they are. So do torch's random numbers, such as the noise of diffusion.
        network.compile(dynamic=True, options={"fallback_random": True})
    loop = RunLoop(
        config,
        module,
        outputs,
        position=data,
        validation=data.val_dataloader if validate else None,
        store=store,
        metrics=metrics,
        monitor=monitor,
        progress=progress,
        signals=signals,
        trackers=trackers,
        samples=samples,
        averaging=averaging,
        saved=saved,
        ranks=ranks,
        sharded=sharded,
    )
    if ranks.is_first:
        _refuse_full_disk(network, store.folder, averages=averaging is not None)
    plugins: list[Any] = [FolderCheckpointIO(), RankEnvironment(ranks) if ranks.several else LightningEnvironment()]
    with quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=ranks.local_world_size,
            num_nodes=ranks.world_size // ranks.local_world_size,
            strategy=_strategy(ranks, device, sharded, averaging),
            sync_batchnorm=ranks.several and device.type == "cuda",
            precision="32" if config.trainer.precision == "tf32" else config.trainer.precision,
            accumulate_grad_batches=config.trainer.accumulate,
            max_epochs=-1,  # the loop says when to stop: total steps come from both limits
            callbacks=[*callbacks, loop],
            plugins=plugins,
            default_root_dir=run_dir,
            logger=RunLogger(loop.note, run_dir) if callbacks else False,
            log_every_n_steps=loop.every,
            enable_progress_bar=shows_progress(callbacks),
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            profiler=_profiler(config, run_dir),
            detect_anomaly=config.trainer.detect_anomaly,
            deterministic=config.trainer.deterministic or None,
            benchmark=config.trainer.benchmark or None,
        )
        with signals.deferred(), products_in(str(config.trainer.precision)):
            _run(trainer, module, data, checkpoint, signals, loop, ranks)
    if loop.state.best_step is None and (last := loop.evaluated_network()) is not network:
        network.load_tensors(last.tensors())  # no evaluation has chosen: the average counts as the best
    return loop


_REFUSED = re.compile(r"Function '\w+' returned nan values.*|\S+ does not have a deterministic implementation")
"""What torch says under `trainer.detect_anomaly` and `trainer.deterministic`."""


def _profiler(config: ExperimentConfig, run_dir: Path) -> Profiler | None:
    kinds: dict[str | None, type[SimpleProfiler | AdvancedProfiler]]
    kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
    kind = kinds.get(config.trainer.profiler)
    return None if kind is None else kind(dirpath=run_dir / "profile", filename=config.trainer.profiler)


def _newest_fitting(
    store: CheckpointStore, files: Mapping[str, AppendedFile], say: Callable[[str], None]
) -> Path | None:
    """The newest intact checkpoint that was written with what `files` begin with; newer ones are removed.

    Raises:
        UserError: there are checkpoints, and none fits.
    """
    newest = store.newest_intact(say)
    rejected: list[tuple[Path, str]] = []
    for path in [None] if newest is None else store.resumable():
        if path is not None and path != newest and verify_folder(path) is not None:
            continue
        problem = _unfitting(path, store, files)
        if problem is None:
            for other, why in rejected:
                say(f"{why}: checkpoint {other.name} does not fit it; falling back to the one before")
                remove_folder(other)
            return path
        if path is not None:
            rejected.append((path, problem))
    hint = f"restore it, or remove {store.folder} to train the run again"
    raise UserError(Fault("run.dir", f"{rejected[0][1] if rejected else problem}, and no checkpoint fits it; {hint}"))


def _unfitting(path: Path | None, store: CheckpointStore, files: Mapping[str, AppendedFile]) -> str | None:
    """What an intact checkpoint refers to and is not there as it was; None if it all is."""
    state = {} if path is None else recorded(path)
    sizes = ((file, state.get(f"{name}_bytes", 0), state.get(f"{name}_sha256", "")) for name, file in files.items())
    problem = next((found for file, size, digest in sizes if (found := file.problem(size, digest))), None)
    if problem is None and (best := state.get("best_step")) is not None:
        damage = verify_folder(store.best(best))
        problem = None if damage is None else f"{store.best(best)} is damaged ({damage})"
    return problem


def resumable(run_dir: Path) -> tuple[list[Path], str | None]:
    """The checkpoints from which a run can continue, and what is wrong with the newest of the others."""
    store = CheckpointStore(run_dir / "checkpoints", 1)
    files = {"metrics": MetricsFile(run_dir / "metrics.csv"), "samples": AppendedFile(run_dir / SAMPLES, ())}
    problems = {
        path: f"checkpoint {path.name} is damaged ({problem})" if problem else _unfitting(path, store, files)
        for path in store.resumable()
        for problem in (verify_folder(path),)
    }
    return [path for path, problem in problems.items() if problem is None], next(filter(None, problems.values()), None)


def schedule_from(config: ExperimentConfig, checkpoint: Path | None, total: int) -> tuple[int, str | None]:
    """`schedule_steps` of a run of `total` steps that continues from a checkpoint; None: that begins.

    Raises:
        UserError: the rest of the run would be trained at a rate of 0.
    """
    step = None if checkpoint is None else noted(checkpoint, "step")
    before = None if checkpoint is None else noted(checkpoint, "schedule_steps")
    if checkpoint is not None and step is not None and before is None and step < total:
        return total, _unnoted_jump(config, checkpoint, step, total)
    return schedule_steps(config.scheduler, config.optimizer.lr, before=before, step=step or 0, total=total)


def _unnoted_jump(config: ExperimentConfig, checkpoint: Path, step: int, total: int) -> str | None:
    """What is to be said of a schedule of `total` steps where an earlier version did not note the one before."""
    held = read_json(checkpoint / STATE)["lr_schedulers"][0]
    was = held["_last_lr"][0] / held["base_lrs"][0]
    now = learning_rate_factor(config.scheduler, total)(step)
    if math.isclose(was, now, rel_tol=1e-9, abs_tol=1e-12):
        return None
    if config.scheduler.extend == "continue":
        raise UserError(
            Fault(
                "scheduler.extend",
                f"'continue' needs to know the schedule that the run had, which an earlier version did not note in "
                f"{checkpoint.name}; 'rescale' computes the rate over all {total:,} steps",
            )
        )
    lr = config.optimizer.lr
    return (
        f"warning: the schedule is now one of {total:,} steps: the learning rate at step {step + 1:,} is "
        f"{lr * now:.3g} instead of {lr * was:.3g}"
    )


def _strategy(ranks: Ranks, device: torch.device, sharded: Sharded | None, averaging: Averaging | None) -> Any:
    """How Lightning distributes the training."""
    if not ranks.several:
        return "auto"
    backend = "nccl" if device.type == "cuda" else "gloo"
    if sharded is not None:
        averaged = None if averaging is None else averaging.network
        return ShardedStrategy(ranks, averaged, process_group_backend=backend)
    # Rows may lack inputs or targets, so that which parameters a step uses differs between steps and processes.
    return DDPStrategy(
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        process_group_backend=backend,
    )


def _run(
    trainer: Trainer,
    module: TrainingModule,
    data: Data,
    checkpoint: Path | None,
    signals: SignalGuard,
    loop: RunLoop,
    ranks: Ranks,
) -> None:
    try:
        steps = module.config.trainer.accumulate
        batches = Groups(data.train_dataloader(), module.network, module.outputs, steps, ranks)
        trainer.fit(module, train_dataloaders=batches, ckpt_path=checkpoint)
    except RunFailed:
        raise
    except Exception as error:
        # A signal to the whole process group ends the loader's workers, too; what they raise is not the cause.
        signals.check()
        if out_of_memory(error):
            raise memory_failure(f"step {loop.state.step + 1}", batch_shape(loop.batch)) from error
        if isinstance(error, RuntimeError) and (match := _REFUSED.search(str(error))):
            raise RunFailed(f"step {loop.state.step + 1}: {match[0]}") from error
        raise


def _refuse_full_disk(network: Network, folder: Path, *, averages: bool) -> None:
    """Refuse to start where not even two checkpoints (weights, two moments and maybe an average each) would fit."""
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    trainable = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    needed, free = 2 * (weights * (1 + averages) + 2 * trainable), free_bytes(folder)
    if free < needed:
        raise RunFailed(f"{folder}: checkpoints need about {needed:,} bytes, {free:,} are free")


@contextmanager
def flags_restored() -> Iterator[None]:
    """Puts back what `trainer.deterministic` and `trainer.benchmark` set for the whole process."""
    cudnn = torch.backends.cudnn
    before, flags = _determinism(), (cudnn.deterministic, cudnn.benchmark)
    try:
        yield
    finally:
        if _determinism() != before:  # to set it torch imports its compiler
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = flags


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without the trainer's banners, tips and warnings about what this project decides on its own."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")  # costs a copy
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
