"""What is minimized: the losses of outputs and of adversaries."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.adversaries import adversary_losses
from eir_seq.training.evaluation import Batch, to_device
from eir_seq.training.losses import loss_counts, loss_terms, training_outputs, weighted_loss
from eir_seq.training.network import Network


def batch_loss(network: Network, outputs: Mapping[str, FittedOutput], batch: Batch, device: torch.device) -> Tensor:
    """The weighted loss of a batch that is a whole optimizer step, and the losses of adversaries."""
    counts = loss_counts(network, outputs, batch)
    batch = to_device(batch, device)
    raw, batch = training_outputs(network, batch)
    loss = weighted_loss(outputs, loss_terms(outputs, raw, batch), counts)
    opposed = adversary_losses(network, outputs, batch).total(counts, len(batch["id"]))
    return loss if opposed is None else loss + opposed
