"""A split that is ready for batches: encoded inputs, targets, lengths, ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eir_seq.config.mixing import MixingConfig
from eir_seq.config.schema import DataConfig
from eir_seq.data.batching import Rows as BatchRows
from eir_seq.data.batching import evaluation_batches, part_of
from eir_seq.data.encoded import Progress
from eir_seq.data.missing import Mask, Missing, PresentRows, drop_inputs, no_tensors, rows_where
from eir_seq.data.mixing import pair_rows, part_of_pairs, places_of
from eir_seq.data.rows import ID
from eir_seq.errors import Fault, UserError
from eir_seq.modalities.base import BYTES, LENGTH, Collator, FittedModality, RowSource
from eir_seq.outputs.base import FittedOutput
from eir_seq.randomness import Draw
from eir_seq.rows import Texts

if TYPE_CHECKING:
    from eir_seq.rows import Rows

Batch = dict[str, Any]
"""`row` (batch,) places in the split, `id` their ids, `inputs` and `targets` tensors by name.

Where rows lack something: `present`, by input which rows have it (batch,), True or False; `labelled`, by output the
places in the batch of the rows that have a target (labelled rows,). What all rows have is not among them.
Where training rows are mixed: `mixing`, see `eir_seq.data.mixing.pair_rows`. Where they do not count: `uncounted`.
"""


@dataclass(frozen=True)
class BatchKey:
    """Names one batch: its rows, and the epoch (None outside training) that random windows depend on."""

    rows: tuple[int, ...]
    epoch: int | None = None
    counted: bool = True
    """Whether the rows count in the loss. Those of a process do not that had none of its own in a small batch."""
    whole: tuple[int, ...] = ()
    """The rows of all processes, where they are mixed by several."""
    places: tuple[int, ...] = ()
    """The places of `rows` among them."""


def own_key(batch: BatchRows, epoch: int, rank: int, world_size: int) -> BatchKey:
    """The part of a training batch that is a process's; of a batch with fewer rows than processes, maybe none of them.

    Every process takes part in every step: one without a row of its own gets one that does not count.
    """
    own = part_of(batch, rank, world_size)
    return BatchKey(tuple((own if len(own) else batch[:1]).tolist()), epoch, counted=len(own) > 0)


class BatchKeys(Sequence[BatchKey]):
    """The keys of many batches, made when they are looked up: Python numbers of all rows would be large.

    Args:
        batches: the rows of each.
        epoch: of all of them.

    Example:
        >>> keys = BatchKeys([np.array([2, 0]), np.array([1])])
        >>> keys[0].rows, len(keys[1:])
        ((2, 0), 1)
    """

    def __init__(self, batches: Sequence[BatchRows], epoch: int | None = None) -> None:
        self.batches, self.epoch = batches, epoch

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, key: int) -> BatchKey: ...
    @overload
    def __getitem__(self, key: slice) -> BatchKeys: ...
    def __getitem__(self, key: int | slice) -> BatchKey | BatchKeys:
        if isinstance(key, slice):
            return BatchKeys(self.batches[key], self.epoch)
        return BatchKey(tuple(self.batches[key].tolist()), self.epoch)

    def spread(self, count: int) -> BatchKeys:
        """That many of them, spread over all."""
        return BatchKeys([self.batches[index * len(self) // count] for index in range(count)], self.epoch)


class NarrowIntegers:
    """Integers of 64 bits, (rows, ...), held in as few as all of them take: classes mostly in one byte instead of 8.

    >>> held = NarrowIntegers(torch.tensor([3, 0, 200]))
    >>> held.values.dtype, held[torch.tensor([2, 2])]
    (torch.int16, tensor([200, 200]))
    """

    def __init__(self, values: Tensor) -> None:
        low, high = (0, 0) if not values.numel() else map(int, values.aminmax())
        kinds = (torch.int8, torch.int16, torch.int32, torch.int64)
        kind = next(kind for kind in kinds if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max)
        self.values = values.to(kind)

    def __getitem__(self, rows: Any) -> Tensor:
        """Those of some rows, in 64 bits."""
        return self.values[rows].long()


@dataclass(frozen=True)
class EncodedSplit:
    """A map from `BatchKey` to batches. Small when pickled: encoded rows stay in their files."""

    ids: Sequence[str]
    inputs: Mapping[str, RowSource]
    collators: Mapping[str, Collator]
    targets: Mapping[str, Tensor | NarrowIntegers]
    seed: int
    costs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By input the features that rows cost, `LENGTH` by default."""
    present: Mapping[str, Mask] = field(default_factory=dict)
    """By input which rows have it, (rows,); of inputs that some rows lack."""
    labelled: Mapping[str, Mask] = field(default_factory=dict)
    """By output which rows have a target, (rows,); of outputs whose targets some rows lack. The targets of others are
    zeros."""
    dropout: Mapping[str, float] = field(default_factory=dict)
    """By input the probability that a row loses it in training."""
    mixing: MixingConfig | None = None
    """How the rows of a training batch are mixed."""
    row_numbers: NDArray[np.int64] | None = None
    """The numbers of the rows in their table, (rows,), by which random numbers are drawn; None: these are all rows."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: BatchKey) -> Batch:
        """The batch of these rows, in this order."""
        draw, index, rows = Draw(self.seed, key.epoch), torch.tensor(key.rows), list(key.rows)
        numbers = self._numbers(rows)
        batch: Batch = {
            "row": torch.tensor(numbers),
            "id": [self.ids[row] for row in key.rows],
            "inputs": {name: collate(self.inputs[name], numbers, draw) for name, collate in self.collators.items()},
            "targets": {name: values[index] for name, values in self.targets.items()},
        }
        if present := self._present(rows, draw):
            batch["present"] = {name: torch.from_numpy(mask) for name, mask in present.items()}
        if self.mixing is not None and key.epoch is not None:
            pairs = self._pairs(key.whole or key.rows, draw)
            batch["mixing"] = part_of_pairs(pairs, key.places) if key.whole else pairs
        if not key.counted:
            batch["uncounted"] = True
        if self.labelled:
            batch["labelled"] = {
                name: torch.from_numpy(np.flatnonzero(mask[rows])) for name, mask in self.labelled.items()
            }
        return batch

    def own_key(self, batch: BatchRows, epoch: int, rank: int, world_size: int) -> BatchKey:
        """`own_key` of a batch of these rows; those that are mixed with each other belong to the same process."""
        if self.mixing is None or world_size == 1:
            return own_key(batch, epoch, rank, world_size)
        whole = tuple(batch.tolist())
        places = tuple(places_of(self._pairs(whole, Draw(self.seed, epoch))["partner"], rank, world_size))
        own = places or (0,)
        return BatchKey(tuple(whole[place] for place in own), epoch, len(places) > 0, whole, own)

    def _numbers(self, rows: Sequence[int]) -> list[int]:
        """The numbers by which random numbers are drawn for rows."""
        return list(rows) if self.row_numbers is None else self.row_numbers[list(rows)].tolist()

    def _present(self, rows: Sequence[int], draw: Draw) -> dict[str, Mask]:
        """By input which of some rows have it, (rows,); of inputs that some lack."""
        present = {name: mask[list(rows)] for name, mask in self.present.items()}
        if self.dropout and draw.epoch is not None:
            return drop_inputs(present, self.inputs, self.dropout, self._numbers(rows), draw)
        return present

    def _pairs(self, rows: Sequence[int], draw: Draw) -> dict[str, Any]:
        assert self.mixing is not None, "rows are mixed"
        return pair_rows(self.mixing, self._numbers(rows), self._present(rows, draw), draw)

    def known_targets(self) -> dict[str, Tensor]:
        """Targets by output, (rows that have one, ...)."""
        masks = {name: torch.from_numpy(mask) for name, mask in self.labelled.items()}
        return {name: values[masks.get(name, slice(None))] for name, values in self.targets.items()}

    def numbers(self, name: str, feature: str) -> NDArray[Any]:
        """One number for each row that has the input, (rows that have it,); empty if there is no such feature."""
        source = self.inputs[name]
        if feature not in source.features:
            return np.empty(0, np.int64)
        numbers = source.numbers(feature)
        return numbers[self.present[name]] if name in self.present else numbers

    @property
    def lengths(self) -> NDArray[np.integer[Any]]:
        """What each row costs, ``(rows, features)``: lengths of inputs, and of what is written from them; 1 where
        nothing has a length."""
        costs = [(source, cost) for name, source in self.inputs.items() for cost in self.costs.get(name, (LENGTH,))]
        columns = [source.numbers(cost) for source, cost in costs if cost in source.features]
        for name, collator in self.collators.items():  # of texts that are corrupted in batches and written again
            if (target_lengths := getattr(collator, "target_lengths", None)) is not None:
                columns.append(target_lengths(self.inputs[name]))
        columns = columns or [np.ones(len(self), np.int8)]
        longest = max(int(column.max(initial=0)) for column in columns)
        return np.stack(columns, axis=1, dtype=np.min_scalar_type(-longest - 1), casting="same_kind")

    def in_order(self, data: DataConfig) -> BatchKeys:
        """Batches of every row once, the longest first; `row` tells where each result belongs."""
        batches = evaluation_batches(
            self.lengths,
            batch_size=data.eval_batch_size or data.batch_size,
            max_tokens=data.max_tokens,
            length_buckets=data.length_buckets,
        )
        return BatchKeys(batches)

    def batches(self, data: DataConfig) -> Iterator[Batch]:
        """The batches of `in_order`, made one after another in this process."""
        return (self[key] for key in self.in_order(data))


def as_it_is(batch: Any) -> Any:
    """The loaders' collate function: a split makes whole batches. Here, so that loader processes import little."""
    return batch


class Encodes(Protocol):
    """What encodes rows: a cache, or memory for a few of them."""

    def encode(
        self, rows: Rows, fitted: FittedModality, description: str, progress: Progress | None = None, /
    ) -> RowSource:
        """The encoded rows of an input."""
        ...


def encode_split(
    rows: Rows,
    split: str,
    inputs: Mapping[str, FittedModality],
    outputs: Mapping[str, FittedOutput],
    *,
    seed: int,
    cache: Encodes,
    progress: Progress | None = None,
    missing: Missing | None = None,
    dropout: Mapping[str, float] = MappingProxyType({}),
    mixing: MixingConfig | None = None,
    review: bool = True,
) -> tuple[EncodedSplit, list[str]]:
    """Encode all inputs of a split, and warnings about them.

    An output whose column has a missing label in any row has no targets, as in rows to be predicted; where rows may
    lack targets (`missing`), one whose column has no label at all. Raises `UserError` if the rows cannot be used
    (classes that training did not have, nothing but unknown tokens).

    `dropout`: by input the probability that a row loses it in training. `mixing`: how training rows are mixed.
    `review`: say what looks wrong, and refuse what cannot be used at all.
    """
    ids: Sequence[str] = Texts(rows.column(ID))
    collators: dict[str, Collator] = {name: fitted.collator for name, fitted in inputs.items()}
    for output in outputs.values():
        if output.config.corruption is not None:
            fitted = inputs[output.input]
            collators[output.input] = fitted.corrupted(output.config)
    encoded: dict[str, RowSource] = {}
    warnings: list[str] = []
    present = _some(missing.present(rows.table)) if missing is not None else {}
    having = _some(missing.labelled(rows.table)) if missing is not None else {}
    for name, fitted in inputs.items():
        if (mask := present.get(name)) is not None:
            some = None
            if mask.any():
                some = cache.encode(rows_where(rows, mask), fitted, f"{name}: {split}", progress)
                warnings += fitted.review(some, split)
            elif reading := [output for output in outputs.values() if _reads(output, name)]:
                message = f"no {split} row has it; outputs.{reading[0].name} reads its tokens"
                raise UserError(Fault(f"inputs.{name}", message))
            else:
                collators[name] = no_tensors
            encoded[name] = PresentRows.of(some, mask)
            continue
        encoded[name] = cache.encode(rows, fitted, f"{name}: {split}", progress)
        warnings += fitted.review(encoded[name], split) if review else []
        encoded[name], ids = fitted.arrange(encoded[name], ids, split)
    text_bytes = {name: source.numbers(BYTES) for name, source in encoded.items() if BYTES in source.features}
    targets: dict[str, Tensor] = {}
    scored: dict[str, Mask] = {}
    for name, output in outputs.items():
        columns = [column for column, read in output.config.columns().items() if not read.is_input]
        if (mask := having.get(name)) is not None:
            if mask.any():
                scored[name], targets[name] = mask, _some_targets(output, rows, ids, mask, text_bytes)
            continue
        if not output.config.has_targets:
            if columns and not any(_has_values(rows, column) for column in columns):
                continue
            of_rows = output.reads_contents
            targets[name] = output.targets(rows, ids) if of_rows else output.targets_of_texts(len(ids), text_bytes)
            continue
        nothing = np.zeros(len(ids), bool)
        given = [
            rows.column(column).is_valid().to_numpy() if column in rows.column_names else nothing for column in columns
        ]
        partial = missing is not None and output.config.PARTIAL
        labelled = (np.logical_or if partial else np.logical_and).reduce(given)
        if labelled.all():
            targets[name] = output.targets(rows, ids)
        elif labelled.any():
            lacking = f"{np.count_nonzero(~labelled)} of {len(labelled)} {split} rows have no label"
            warnings.append(f"outputs.{name}: {lacking}; {output.config.UNLABELLED}")
    costs = {name: fitted.COSTS for name, fitted in inputs.items()}
    held = {name: NarrowIntegers(values) if values.dtype == torch.int64 else values for name, values in targets.items()}
    return EncodedSplit(ids, encoded, collators, held, seed, costs, present, scored, dropout, mixing), warnings


def _some(masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """The masks of what some rows lack."""
    return {name: mask for name, mask in masks.items() if not mask.all()}


def _has_values(rows: Rows, column: str) -> bool:
    """Whether any row has a value there."""
    return column in rows.column_names and rows.table.column(column).null_count < rows.num_rows


def _reads(output: FittedOutput, name: str) -> bool:
    return output.config.reads_tokens and output.input == name


def _some_targets(
    output: FittedOutput, rows: Rows, ids: Sequence[str], mask: Mask, text_bytes: Mapping[str, NDArray[Any]]
) -> Tensor:
    """The targets of an output, (rows, ...), zeros where `mask` is false."""
    if not output.config.has_targets and not output.reads_contents:
        return output.targets_of_texts(len(ids), text_bytes)
    places = np.flatnonzero(mask)
    every = list(ids)
    known = output.targets(rows_where(rows, mask), [every[place] for place in places.tolist()])
    targets = known.new_zeros(len(ids), *known.shape[1:])
    targets[torch.from_numpy(places)] = known
    return targets
