"""The micro-batches of an optimizer step, and what its losses are divided by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from eir_seq.outputs.base import FittedOutput
from eir_seq.training.evaluation import Batch, to_device
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks

Counts = Mapping[str, Sequence[float]]
"""By output, for each term of its loss: how many rows or tokens are counted."""


class Batches(Protocol):
    """Batches of a known number."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class Groups:
    """Training batches with the counts of their losses, and those of the optimizer step that they are part of.

    The mean over the tokens of several micro-batches is not the mean of their means. Each output's sum has to be
    divided by the tokens of all of them before the first backward pass: afterwards the gradients of several outputs are
    one sum. So the batches of a step are read before its first one is given out.

    Args:
        batches: those of an epoch, or from the beginning of a step on.
        network: what is trained.
        outputs: the fitted outputs by name.
        size: batches per optimizer step; the last step of an epoch may have fewer.
        ranks: the processes that share the rows of each batch.
    """

    def __init__(
        self,
        batches: Batches,
        network: Network,
        outputs: Mapping[str, FittedOutput],
        size: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.batches, self.network, self.outputs, self.size, self.ranks = batches, network, outputs, size, ranks

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def sampler(self) -> Any:
        """That of the batches, whose ``set_epoch`` the trainer calls; None if they have none."""
        return getattr(self.batches, "sampler", None)

    def __iter__(self) -> Iterator[Batch]:
        """Each batch with `counts` of its own, and `step_counts` and `step_rows` of the whole optimizer step, of all
        processes."""
        return self._grouped(iter(self.batches))  # the sampler reads its position now, not at the first batch

    def _grouped(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while group := list(islice(batches, self.size)):
            counts = [loss_counts(self.network, self.outputs, batch) for batch in group]
            total = {
                name: [sum(values) for values in zip(*(own[name] for own in counts), strict=True)]
                for name in self.outputs
            }
            rows = sum(counted_rows(batch) for batch in group)
            if self.ranks.several:
                flat = iter(self.ranks.sum([rows, *(value for values in total.values() for value in values)]))
                rows = int(next(flat))
                total = {name: [next(flat) for _ in values] for name, values in total.items()}
            for batch, own in zip(group, counts, strict=True):
                yield {**batch, "counts": own, "step_counts": total, "step_rows": rows}


def counted_rows(batch: Batch) -> int:
    """The rows of a batch that count."""
    return 0 if batch.get("uncounted") else len(batch["id"])


def loss_counts(network: Network, outputs: Mapping[str, FittedOutput], batch: Batch) -> dict[str, list[float]]:
    """What the terms of each output's loss are divided by, for one batch alone."""
    inputs, labelled = network.learnt(batch["inputs"]), batch.get("labelled", {})
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


def batch_loss(network: Network, outputs: Mapping[str, FittedOutput], batch: Batch, device: torch.device) -> Tensor:
    """The weighted loss of a batch that is a whole optimizer step, and the losses of adversaries."""
    from eir_seq.training.adversaries import adversary_losses  # which imports this module

    counts = loss_counts(network, outputs, batch)
    batch = to_device(batch, device)
    raw, batch = training_outputs(network, batch)
    loss = weighted_loss(outputs, loss_terms(outputs, raw, batch), counts)
    opposed = adversary_losses(network, outputs, batch).total(counts, len(batch["id"]))
    return loss if opposed is None else loss + opposed


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
    """Mean training losses since the last look, without waiting for the device at each step.

    Args:
        ranks: the processes that share the rows of each batch; each keeps its own.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, list[float]] = {}

    def add(self, terms: Mapping[str, Tensor], counts: Counts) -> None:
        """Add what the rows of a batch add to the terms of each output's loss, (batch, terms), and their counts."""
        for name, value in terms.items():
            self._add(name, value.detach().sum(dim=0), counts[name])

    def _add(self, name: str, total: Tensor, counts: Sequence[float]) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        before = self.counts.get(name, [0.0] * len(counts))
        self.counts[name] = [old + new for old, new in zip(before, counts, strict=True)]

    def means(self) -> dict[str, float]:
        """The loss of each output over all rows of this process so far."""
        return {name: float(mean_loss(total, self.counts[name])) for name, total in self.sums.items()}

    def of_all(self) -> RunningLosses:
        """Those of all processes, for rank 0; nothing for the others."""
        found = RunningLosses()
        for sums, counts in self.ranks.gather(self.sums, self.counts):
            for name, total in sums.items():
                found._add(name, total, counts[name])
        return found

    def reset(self) -> None:
        """Forget all rows."""
        self.sums, self.counts = {}, {}

    def state(self) -> dict[str, Any]:
        """For `restore`, exactly; complete in rank 0."""
        return parts_of_all([{"sums": s, "counts": c} for s, c in self.ranks.gather(self.sums, self.counts)])

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state`."""
        self.reset()
        for part in own_parts(state, self.ranks):
            for name, total in part["sums"].items():
                self._add(name, total.to(device), part["counts"][name])


def parts_of_all(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The states of all processes as one, for `own_parts`; of one process its own."""
    if not parts:
        return {}
    return parts[0] if len(parts) == 1 else {"parts": parts}


def own_parts(state: Mapping[str, Any], ranks: Ranks) -> Sequence[Mapping[str, Any]]:
    """The states that this process continues: its own, or all of them in rank 0 where there were more or fewer."""
    parts = state.get("parts", [state])
    if len(parts) == ranks.world_size:
        return [parts[ranks.rank]]
    return parts if ranks.is_first else []
