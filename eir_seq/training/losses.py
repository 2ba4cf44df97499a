"""The losses of outputs in training: what rows add to them, and what they are divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import Batch
from eir_seq.training.network import Network

Counts = Mapping[str, Sequence[float]]
"""By output, for each term of its loss: how many rows or tokens are counted."""


def loss_counts(network: Network, outputs: Mapping[str, FittedOutput], batch: Batch) -> dict[str, list[float]]:
    """What the terms of each output's loss are divided by, for one batch alone."""
    inputs, labelled = network.with_predicted_labels(batch["inputs"]), batch.get("labelled", {})
    found = {}
    for name, output in outputs.items():
        own, target = inputs, batch["targets"][name]
        if (rows := labelled.get(name)) is not None:
            own = {key: {tensor: x[rows] for tensor, x in tensors.items()} for key, tensors in inputs.items()}
            target = target[rows]
        counts = output.loss_counts(own, target)
        if "mixing" in batch and output.config.has_row_losses:
            counts = _in_place(counts, rows, len(batch["id"])).double()
            counts = _by_shares(counts, counts[batch["mixing"]["partner"]], batch)
        found[name] = counts.sum(dim=0, dtype=torch.float64).tolist()
    return found


def loss_terms(outputs: Mapping[str, FittedOutput], raw: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """What each row adds to the terms of each output's loss, (batch, terms); nothing where it has no target.

    Of rows that are mixed, the terms of both targets, weighted by their shares.
    """
    labelled, found = batch.get("labelled", {}), {}
    for name, output in outputs.items():
        target, rows = batch["targets"][name], labelled.get(name)
        found[name] = _terms(output, raw[name], target, rows)
        if "mixing" in batch and output.config.has_row_losses:
            partner = batch["mixing"]["partner"]
            if rows is not None:
                rows = torch.isin(partner, rows).nonzero().flatten()
            found[name] = _by_shares(found[name], _terms(output, raw[name], target[partner], rows), batch)
    return found


def _terms(output: FittedOutput, raw: Tensor, target: Tensor, rows: Tensor | None) -> Tensor:
    """What each row adds to the terms of the loss, (batch, terms); nothing where it is not among `rows`."""
    if rows is None:
        return output.loss_terms(raw, target)
    return _in_place(output.loss_terms(raw[rows], target[rows]), rows, len(target))


def _in_place(values: Tensor, rows: Tensor | None, batch: int) -> Tensor:
    """Values of some rows, (rows, terms), among those of all, (batch, terms), which are zeros."""
    if rows is None:
        return values
    return values.new_zeros(batch, values.shape[1]).index_copy(0, rows, values)


def _by_shares(own: Tensor, others: Tensor, batch: Batch) -> Tensor:
    """Values (batch, terms) of rows and of what is mixed into them, weighted by their shares."""
    share: Tensor = batch["mixing"]["share"].to(own.dtype)[:, None]
    return share * own + (1 - share) * others


def training_outputs(network: Network, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
    """Raw outputs of a training batch, and the batch with the shares of the rows that were mixed, if any were."""
    if network.mixer is not None and "mixing" in batch:
        return network.mixer.outputs(network, batch)
    return network.run(batch), batch


def mean_loss(sums: Tensor, counts: Sequence[float]) -> Tensor:
    """The loss of an output from the sums (terms,) and counts of its terms; a term without rows or tokens is zero."""
    return torch.stack([total / (count or 1.0) for total, count in zip(sums, counts, strict=True)]).sum()


def weighted_loss(outputs: Mapping[str, FittedOutput], terms: Mapping[str, Tensor], counts: Counts) -> Tensor:
    """The weighted sum over outputs of their losses.

    Args:
        outputs: the fitted outputs by name.
        terms: by output, what each row adds to the terms of the loss, (batch, terms).
        counts: what their sums are divided by.
    """
    losses = mean_losses(terms, counts)
    return torch.stack([output.config.loss_weight * losses[name] for name, output in outputs.items()]).sum()


def mean_losses(terms: Mapping[str, Tensor], counts: Counts) -> dict[str, Tensor]:
    """The loss of each output from what each row adds to its terms, (batch, terms), and their counts."""
    return {name: mean_loss(rows.sum(dim=0), counts[name]) for name, rows in terms.items()}


class RunningLosses:
    """Mean training losses since the last look, without waiting for the device at each step."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, list[float]] = {}

    def add(self, terms: Mapping[str, Tensor], counts: Counts) -> None:
        """Add what the rows of a batch add to the terms of each output's loss, (batch, terms), and their counts."""
        for name, value in terms.items():
            total = value.detach().sum(dim=0)
            self.sums[name] = self.sums[name] + total if name in self.sums else total
            before = self.counts.get(name, [0.0] * len(counts[name]))
            self.counts[name] = [old + new for old, new in zip(before, counts[name], strict=True)]

    def means(self) -> dict[str, float]:
        """The loss of each output over all rows so far."""
        return {name: float(mean_loss(total, self.counts[name])) for name, total in self.sums.items()}

    def reset(self) -> None:
        """Forget all rows."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        self.sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.counts = dict(state["counts"])
