"""The losses of outputs in training: what rows add to them, and what they are divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import Batch
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks

Counts = Mapping[str, Sequence[float]]
"""By output, for each term of its loss: how many rows or tokens are counted."""


def counted_rows(batch: Batch) -> int:
    """The rows of a batch that count."""
    return 0 if batch.get("uncounted") else len(batch["id"])


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
        found[name] = (counts.sum(dim=0, dtype=torch.float64) * (counted_rows(batch) > 0)).tolist()
    return found


def loss_terms(
    outputs: Mapping[str, FittedOutput], raw: Mapping[str, Tensor], batch: Batch, ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """What each row adds to the terms of each output's loss, (batch, terms); nothing where it has no target.

    Of rows that are mixed, the terms of both targets, weighted by their shares. Losses that compare the rows of a batch
    compare those of all processes.
    """
    labelled, found = batch.get("labelled", {}), {}
    for name, output in outputs.items():
        target, rows = batch["targets"][name], labelled.get(name)
        compared = ranks if output.config.compares_rows else ALONE
        found[name] = _terms(output, raw[name], target, rows, batch.get("uncounted", False), compared)
        if "mixing" in batch and output.config.has_row_losses:
            partner = batch["mixing"]["partner"]
            if rows is not None:
                rows = torch.isin(partner, rows).nonzero().flatten()
            found[name] = _by_shares(found[name], _terms(output, raw[name], target[partner], rows), batch)
    return {name: terms * 0 for name, terms in found.items()} if batch.get("uncounted") else found


def _terms(
    output: FittedOutput,
    raw: Tensor,
    target: Tensor,
    rows: Tensor | None,
    uncounted: bool = False,
    ranks: Ranks = ALONE,
) -> Tensor:
    """What each row adds to the terms of the loss, (batch, terms); nothing where it is not among `rows`."""
    if rows is None and not ranks.several:
        return output.loss_terms(raw, target)
    places = torch.arange(len(target), device=raw.device) if rows is None else rows
    if not ranks.several:
        return _in_place(output.loss_terms(raw[places], target[places]), places, len(target))
    if uncounted:
        places = places[:0]
    compared, own = ranks.rows_of_all(raw[places])
    terms = output.loss_terms(compared, ranks.rows_of_all(target[places])[0])[own]
    return _in_place(terms, places, len(target))


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
