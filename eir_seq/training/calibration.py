"""What outputs learn of the training rows with the final weights, such as a baseline hazard."""

from __future__ import annotations

import torch

from eir_seq.config.schema import ExperimentConfig
from eir_seq.training.assemble import Parts
from eir_seq.training.evaluation import evaluate
from eir_seq.training.network import Network


def calibrate_on_train(network: Network, parts: Parts, config: ExperimentConfig, *, device: torch.device) -> None:
    """Calibrate those outputs of `parts` that are calibrated on the training rows, each row once, without dropout.

    Args:
        network: with its final weights.
        parts: whose `outputs` are replaced.
        config: the experiment.
        device: where the network is.
    """
    waiting = {name: output for name, output in parts.outputs.items() if output.config.calibrated_on_train}
    if not waiting:
        return
    batches = parts.data.encoded["train"].batches(config.data)
    found = evaluate(network, waiting, batches, device=device, precision=str(config.trainer.precision), metrics=False)
    for name, target in found.targets.items():
        parts.outputs[name] = waiting[name].calibrated(found.of_labelled(name)[0], target)
