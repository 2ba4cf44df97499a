"""What the processes of a training do that are not rank 0: they compute their share and write nothing."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from eir_seq.config.metrics import AVERAGE
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.kernels import Kernels, used
from eir_seq.outputs.generation.writing import build_writers
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.calibration import calibrate_on_train
from eir_seq.training.callbacks import build_callbacks
from eir_seq.training.checkpoints import CheckpointStore
from eir_seq.training.console import Console
from eir_seq.training.evaluation import Evaluation, calibrate, evaluate
from eir_seq.training.fit import fit, flags_restored
from eir_seq.training.folder import CACHE, CONFIG
from eir_seq.training.kernels import follow_kernels
from eir_seq.training.launch import Launch
from eir_seq.training.monitor import Monitor
from eir_seq.training.ranks import Ranks
from eir_seq.training.run_state import RunState
from eir_seq.training.samples import Samples
from eir_seq.training.signals import SignalGuard


def follow(launch: Launch, device: torch.device, monitor: Monitor) -> dict[str, Any]:
    """Take part in the run of rank 0.

    Returns:
        The result of the run; empty if there was nothing to do.

    Raises:
        UserError: this machine does not see the run folder.
    """
    ranks = launch.join()
    with launch.failures():
        begun = ranks.broadcast()
        if begun is None:
            return {}
        config = ExperimentConfig.model_validate_json(json.dumps(begun["config"]))
        follow_kernels(begun["kernels"])
        path = Path(begun["dir"])
        if not (path / CONFIG).is_file():
            message = f"{path} is not seen by process {ranks.rank}; all machines have to share its file system"
            raise UserError(Fault("run.dir", message))
        with (
            open(os.devnull, "w") as nowhere,
            Console(nowhere) as console,
            SignalGuard(console.say) as signals,
            used(Kernels.of(begun["products"])),
        ):
            parts = assemble(config, console, fallback_cache=str(path / CACHE), ranks=ranks)
            with contextlib.closing(parts.data), flags_restored():
                ranks.barrier()
                loop = fit(
                    config,
                    parts.network,
                    parts.outputs,
                    parts.data,
                    run_dir=path,
                    device=device,
                    monitor=monitor,
                    progress=console,
                    signals=signals,
                    validate=parts.splits.validation is not None,
                    callbacks=build_callbacks(config),
                    samples=Samples(config, parts.inputs, parts.outputs, path, dict(parts.splits.items())),
                    ranks=ranks,
                )
                store = CheckpointStore(path / "checkpoints", config.trainer.keep_checkpoints)
                evaluate_best(
                    config, parts, loop.state, store, monitor, device=device, ranks=ranks, known=loop.best_evaluation
                )
        result: dict[str, Any] = ranks.broadcast()
        return result


def evaluate_best(
    config: ExperimentConfig,
    parts: Parts,
    state: RunState,
    store: CheckpointStore,
    monitor: Monitor,
    *,
    device: torch.device,
    ranks: Ranks,
    known: Evaluation | None = None,
) -> dict[str, Evaluation]:
    """Evaluate the best weights on validation and test rows, and calibrate the outputs of `parts`, in rank 0.

    Args:
        config: the experiment.
        parts: the network gets the best weights.
        state: of the finished training.
        store: where the best weights are.
        monitor: of the run.
        device: where the network computes; it is on the CPU afterwards.
        ranks: the processes that share the rows.
        known: what was found on the validation rows with the best weights, if they are the last ones. It is not
            computed again, unless outputs write texts, or have yet to be calibrated.
    """
    if any(output.config.calibrated_on_train for output in parts.outputs.values()):
        known = None
    if state.best_step is not None:
        parts.network.load_tensors(store.read_best(state.best_step))
    network = parts.network.to(device)
    if ranks.is_first:
        calibrate_on_train(network, parts, config, device=device)
    found: dict[str, Evaluation] = {}
    for split in ("validation", "test"):
        batches = parts.batches(split)
        if batches is not None:
            rows = dict(parts.splits.items())[split]
            writers = build_writers(
                network, parts.inputs, parts.outputs, rows, seed=config.seed, all_rows=split == "test"
            )
            if split == "validation" and known is not None and not writers:
                found[split] = known
            else:
                found[split] = evaluate(
                    network,
                    parts.outputs,
                    batches,
                    device=device,
                    precision=str(config.trainer.precision),
                    writers=writers,
                    average=monitor.metric == AVERAGE,
                    ranks=ranks,
                )
        if split == "validation" and split in found and ranks.is_first:
            calibrated, found[split] = calibrate(parts.outputs, found[split])
            parts.outputs.update(calibrated)
    network.to("cpu")
    return found
