"""The losses of adversaries, which learn beside the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eir_seq.broker.adversary import ramp
from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import Batch
from eir_seq.training.losses import Counts, loss_terms, mean_losses
from eir_seq.training.network import Network


@dataclass(frozen=True)
class AdversaryLosses:
    """What each row of a batch adds to the losses of adversaries.

    Attributes:
        terms: by adversary, (batch, terms).
        predicted: by adversary the output whose targets it predicts; of others the rows are counted.
    """

    terms: Mapping[str, Tensor]
    predicted: Mapping[str, str]

    def counts(self, of_outputs: Counts, rows: float) -> dict[str, Sequence[float]]:
        """What sums are divided by, of a batch or of an optimizer step.

        Args:
            of_outputs: the divisors of the losses of outputs.
            rows: how many there are.
        """
        return {name: of_outputs[self.predicted[name]] if name in self.predicted else [rows] for name in self.terms}

    def total(self, of_outputs: Counts, rows: float) -> Tensor | None:
        """The sum of the losses; None without adversaries."""
        if not self.terms:
            return None
        return torch.stack([*mean_losses(self.terms, self.counts(of_outputs, rows)).values()]).sum()


def adversary_losses(
    network: Network, outputs: Mapping[str, FittedOutput], batch: Batch, *, step: int = 0, total_steps: int = 0
) -> AdversaryLosses:
    """The losses of the adversaries of a network after its forward pass of a batch.

    Args:
        network: which has just run.
        outputs: fitted, by name.
        batch: that it has run, on its device.
        step: optimizer steps done, by which the reversed gradient grows.
        total_steps: of the run, of which a warm-up may be a fraction.
    """
    terms: dict[str, Tensor] = {}
    predicted: dict[str, str] = {}
    broker = network.broker
    for adversary in () if broker is None else broker.listed_adversaries:
        assert broker is not None
        taken = broker.held.get(adversary.source)
        if taken is None:  # no row has its input
            continue
        warmup = adversary.config.warmup
        steps = warmup if isinstance(warmup, int) else round(warmup * total_steps)
        raw = adversary(taken.clean(), taken.mask, adversary.config.weight * ramp(step, steps))
        there = taken.there
        if (name := adversary.config.output) is not None:
            predicted[adversary.name] = name
            found = loss_terms({name: outputs[name]}, {name: raw}, batch)[name]
        else:
            assert adversary.predicted is not None
            other = broker.held.get(adversary.predicted)
            if other is None:
                continue
            found = adversary.errors(raw, other.clean(), other.mask)
            if other.there is not None:
                there = other.there if there is None else there & other.there
        terms[adversary.name] = found if there is None else found.masked_fill(~there[:, None], 0.0)
    return AdversaryLosses(terms, predicted)
