"""Batches: training in counted order from any position, evaluation over every row once."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.batching import Rows, TrainingOrder, batch_costs, batches_within, part_of
from eir_seq.data.dataset import Batch, BatchKey, BatchKeys, EncodedSplit, as_it_is, encode_split
from eir_seq.data.encoded import EncodingCache, Progress
from eir_seq.data.loaded import Splits
from eir_seq.data.missing import Missing
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.machine import loader_processes
from eir_seq.modalities.base import FittedModality
from eir_seq.outputs.base import FittedOutput
from eir_seq.randomness import derive_seed

log = logging.getLogger(__name__)

STATISTICS_BATCHES = 100
"""Batches of training rows that statistics of batch norms are taken from."""
COMPARED_ROWS = 2**22
"""Rows whose batches are compared for the costliest one: a second or two."""


class EpochSampler(Sampler[BatchKey]):
    """The batches of one epoch, from a position on; of each, the rows that are this process's.

    The position is set from outside and read when an iterator is made, never moved by iterating: loader processes run
    ahead of training, and what they have taken says nothing about what was trained on.
    """

    def __init__(
        self,
        order: TrainingOrder,
        split: EncodedSplit,
        rank: int = 0,
        world_size: int = 1,
        limit: int | float | None = None,
    ) -> None:
        self.order, self.split = order, split
        self.rank, self.world_size, self.limit = rank, world_size, limit
        self.epoch = self.skip = 0
        self.fixed = False
        """Whether the batches of every epoch are those of the first."""

    def set_position(self, epoch: int, batches_done: int) -> None:
        """The next iterator begins after `batches_done` batches of `epoch`."""
        assert 0 <= batches_done <= len(self), f"{batches_done} of {len(self)} batches done"
        self.epoch, self.skip = epoch, batches_done

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells the epoch before each; the place within an epoch that was resumed stays."""
        if epoch != self.epoch:
            self.set_position(epoch, 0)

    @property
    def whole(self) -> int:
        """Batches of an epoch without the limit."""
        return self.order.batches_per_epoch

    def __len__(self) -> int:
        return batches_within(self.limit, self.whole)

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self.epoch
        batches = self._whole_batches(epoch)[self.skip :]
        return (self._key(batch, epoch) for batch in batches)

    def batches(self, epoch: int) -> list[Rows]:
        """The rows of each batch of an epoch that are this process's, or of similar lengths where rows are mixed."""
        whole = self._whole_batches(epoch)
        return [own if len(own := part_of(batch, self.rank, self.world_size)) else batch[:1] for batch in whole]

    def _whole_batches(self, epoch: int) -> list[Rows]:
        return self.order.batches(0 if self.fixed else epoch)[: len(self)]

    def _key(self, batch: Rows, epoch: int) -> BatchKey:
        return self.split.own_key(batch, epoch, self.rank, self.world_size)


class FixedSampler(SequentialSampler):
    """The same batches each time."""

    def __init__(self, keys: Sequence[BatchKey]) -> None:
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[BatchKey]:  # type: ignore[override]  # the dataset makes whole batches
        return iter(self.keys)


class DataModule:
    """Encodes the splits (once, in `setup`) and serves their batches.

    `world_size` processes share the rows of each training batch, which are the same for any number of processes; in
    evaluation each row goes to exactly one of them. A trainer must be built with ``use_distributed_sampler=False``.
    """

    counted = True
    """Whether batches are counted within epochs."""

    def __init__(
        self,
        config: ExperimentConfig,
        splits: Splits,
        inputs: Mapping[str, FittedModality],
        outputs: Mapping[str, FittedOutput],
        *,
        fallback_cache: str | None = None,
        progress: Progress | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.config, self.splits, self.inputs, self.outputs = config, splits, inputs, outputs
        self.rank, self.world_size = rank, world_size
        self.encoded: dict[str, EncodedSplit] = {}
        self.warnings: list[str] = []
        self._cache = EncodingCache(
            config.cache_dir,
            fallback_cache,
            max_size=config.cache.max_bytes,
            source=config.source,
        )
        self._progress = progress
        self._sampler: EpochSampler | None = None
        self._loaders: dict[str, DataLoader[Batch]] = {}

    def setup(self) -> None:
        """Encode all splits; a second call does nothing. Raises `UserError` if rows or sizes do not fit."""
        if self.encoded:
            return
        for split, rows in self.splits.items():
            self.encoded[split], warnings = encode_split(
                rows,
                split,
                self.inputs,
                self.outputs,
                seed=self.config.seed,
                cache=self._cache,
                progress=self._progress,
                missing=Missing.of(self.config),
                dropout={
                    name: rate for name, declared in self.config.inputs.items() if (rate := declared.modality_dropout)
                },
                mixing=self.config.trainer.mixing,
            )
            self.warnings += warnings
        if "train" in self.encoded:
            limit = self.config.trainer.limit_of("train")
            self._sampler = EpochSampler(
                self._training_order(), self.encoded["train"], self.rank, self.world_size, limit
            )
            self._sampler.fixed = self.config.trainer.overfit_batches is not None
        self.warnings += [warning for output in self.outputs.values() for warning in output.review()]
        self.warnings += self._limits()
        for warning in self.warnings:
            log.warning(warning)

    def keep_all(self) -> None:
        """From now on this process evaluates all rows."""
        if self.world_size > 1:
            self.close()
            self.rank, self.world_size, self._loaders = 0, 1, {}

    def close(self) -> None:
        """End the processes that prepare batches, which otherwise outlive the last batch by half a minute."""
        for loader in self._loaders.values():
            if loader._iterator is not None:
                loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
                loader._iterator = None

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of this process, the same number in every epoch."""
        return len(self._training_sampler)

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = ()) -> None:
        """The next training batches are those of `epoch` after the first `batches_done`."""
        del window  # of streamed rows
        self._training_sampler.set_position(epoch, batches_done)

    def costliest_batches(
        self, epoch: int, batches_done: int, batches: int, beyond: Sequence[int] = ()
    ) -> tuple[Batch | None, Batch | None]:
        """Of training batches from a position on, and of those of an evaluation, the ones for most memory, by estimate.

        Args:
            epoch: the first epoch.
            batches_done: how many of its batches do not count.
            batches: how many from there on do; where they hold more than `COMPARED_ROWS`, fewer.
            beyond: rows of a batch. One that takes no more is left out, and so is an evaluation's next to training's.
        """
        split, sampler = self.encoded["train"], self._training_sampler
        cost = float(batch_costs(split.lengths, [np.array(beyond)])[0]) if beyond else 0.0
        batches = min(batches, max(1, COMPARED_ROWS // len(split)) * len(sampler))
        train = evaluated = None
        while batches > 0:
            chosen = sampler.batches(epoch)[batches_done:][:batches]
            costs = batch_costs(split.lengths, chosen)
            if costs.max() > cost:
                cost, train = float(costs.max()), BatchKey(tuple(chosen[costs.argmax()].tolist()), epoch)
            epoch, batches_done, batches = epoch + 1, 0, batches - len(chosen)
        if "validation" in self.encoded:
            keys = self.evaluation_keys("validation")
            costs = batch_costs(self.encoded["validation"].lengths, keys.batches)
            if costs.max() > cost:
                evaluated = self.encoded["validation"][keys[int(costs.argmax())]]
        return None if train is None else split[train], evaluated

    def train_dataloader(self) -> Any:
        """Training batches from the position on."""
        return self._loader("train", self._training_sampler)

    def repeat_first_epoch(self) -> None:
        """From now on the batches of every epoch are those of the first."""
        self._training_sampler.fixed = True

    def statistics_batches(self) -> Iterator[Batch]:
        """Training rows in batches as those of an evaluation, spread over all: up to `STATISTICS_BATCHES` of them."""
        self.setup()
        keys = self.encoded["train"].in_order(self.config.data)
        return (self.encoded["train"][key] for key in keys.spread(min(STATISTICS_BATCHES, len(keys))))

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Every validation row once; no batches if there is no validation split."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Every test row once; no batches if there is no test split."""
        return self._evaluation_loader("test")

    @property
    def _training_sampler(self) -> EpochSampler:
        self.setup()
        assert self._sampler is not None, "there are no training rows"
        return self._sampler

    @property
    def _epoch_batches(self) -> int:
        """Training batches of an epoch without the limit."""
        return self._training_sampler.whole

    def trial_keys(self) -> BatchKeys:
        """Batches of `encoded["train"]` as those of the first epoch, by which a run is tried."""
        return BatchKeys(self._training_sampler.batches(0), 0)

    def _training_order(self) -> TrainingOrder:
        data = self.config.data
        return TrainingOrder(
            self.encoded["train"].lengths,
            batch_size=data.batch_size,
            seed=self.config.seed,
            max_tokens=data.max_tokens,
            length_buckets=data.length_buckets,
            classes=self._classes(),
        )

    def _classes(self) -> list[list[str]]:
        """The classes of the training rows, for each output by whose classes they are drawn."""
        found, place = [], "data.weighted_sampling"
        for name in self.config.data.sampled_by:
            output = self.config.outputs.get(name)
            if output is None:
                raise UserError(Fault(place, f"there is no output {name!r}{nearest(name, self.config.outputs)}"))
            if (column := output.class_column) is None:
                raise UserError(Fault(place, f"output {name!r} is a {output.type} and has no classes"))
            assert self.splits.train is not None
            classes = list(self.splits.train[column])
            if lacking := classes.count(None):
                raise UserError(
                    Fault(place, f"{lacking} training rows have no class of {name!r}, by which they would be drawn")
                )
            found.append(classes)
        return found

    @cached_property
    def _workers(self) -> int:
        """Processes per loader: fewer than were requested where the machine's limits allow no more."""
        wanted = self.config.data.num_workers
        workers, reason = loader_processes(wanted, len(self.encoded))
        if workers < wanted:
            others = f"{workers} of the processes are started" if workers else "batches are made by the main process"
            log.warning("data.num_workers=%d: %s, since %s", wanted, others, reason)
        return workers

    def _evaluation_loader(self, split: str) -> DataLoader[Batch] | list[Any]:
        self.setup()
        if split not in self.encoded:
            return []
        if split in self._loaders:
            return self._loaders[split]
        return self._loader(split, FixedSampler(self.evaluation_keys(split)[self.rank :: self.world_size]))

    def evaluation_keys(self, split: str) -> BatchKeys:
        """The batches of an evaluation. Where not all are used, those are spread over all, which go by length."""
        keys = self.encoded[split].in_order(self.config.data)
        return keys.spread(batches_within(self.config.trainer.limit_of(split), len(keys)))

    def _limits(self) -> Iterator[str]:
        """What is to be said where not all batches are used."""
        settings = self.config.trainer
        for split, encoded in self.encoded.items():
            if (limit := settings.limit_of(split)) is None:
                continue
            whole = self._epoch_batches if split == "train" else len(encoded.in_order(self.config.data))
            same = ", the same in every epoch" if split == "train" and settings.overfit_batches is not None else ""
            yield f"only {batches_within(limit, whole):,} of {whole:,} batches of {split} are used{same}"

    def _loader(self, split: str, sampler: Sampler[Any]) -> DataLoader[Batch]:
        if split not in self._loaders:
            workers = self._workers
            with warnings.catch_warnings():  # more processes than cores are the user's choice
                warnings.filterwarnings("ignore", message="This DataLoader will create")
                self._loaders[split] = DataLoader(
                    self.encoded[split],  # type: ignore[arg-type]
                    batch_size=None,  # the sampler names whole batches, and the dataset makes them
                    sampler=sampler,
                    collate_fn=as_it_is,
                    num_workers=workers,
                    worker_init_fn=outlive_signals,
                    persistent_workers=workers > 0,
                    pin_memory=torch.cuda.is_available(),
                    generator=torch.Generator().manual_seed(derive_seed(self.config.seed, "loader", split)),
                )
        return self._loaders[split]


def outlive_signals(_: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM go to the whole process group: batches must come until the run has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(30))
