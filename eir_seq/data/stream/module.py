"""The batches of streamed training rows; evaluations read their rows as ever."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from eir_seq.data.batching import batches_within
from eir_seq.data.dataset import Batch, as_it_is
from eir_seq.data.module import DataModule, outlive_signals
from eir_seq.data.stream.order import EpochOrder
from eir_seq.data.stream.windows import Encoder, EpochWindows, PassWindows, StreamLoader, Window, WindowSampler


class StreamedDataModule(DataModule):
    """Serves streamed training rows. What is measured on training rows beside training is measured on the sample.

    `world_size` processes have disjoint rows of every batch, the same number of batches, and together the batches that
    one process would have.
    """

    _stream: _Epochs | _Passes | None = None

    def setup(self) -> None:
        """Encode the sample and the other splits. Raises `UserError` if rows or sizes do not fit."""
        if self._stream is None:
            self._stream = self._build()
        super().setup()

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of this process: of a pass over the rows, or of the whole run where rows are not counted."""
        return len(self._position)

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = (0, 0)) -> None:
        """The next training batches are those of `epoch` after the first `batches_done`.

        Where batches are not counted, those from `window` on: the number of a window, and batches of it that are done.
        """
        self._position.set_position(epoch, batches_done, window)

    def costliest_batches(
        self, epoch: int, batches_done: int, batches: int, beyond: Sequence[int] = ()
    ) -> tuple[Batch | None, Batch | None]:
        """The costliest batch of an epoch of the sample, for that of the streamed rows, and of an evaluation."""
        del epoch, batches_done, batches, beyond
        return super().costliest_batches(0, 0, len(self._training_sampler))

    def train_dataloader(self) -> Any:
        """Training batches from the position on."""
        position = self._position
        if "stream" not in self._loaders:
            workers = self._workers
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="This DataLoader will create")
                windows: DataLoader[Window] = DataLoader(
                    position.windows,  # type: ignore[arg-type]
                    batch_size=None,
                    sampler=position.sampler,
                    collate_fn=as_it_is,
                    num_workers=workers,
                    worker_init_fn=outlive_signals,
                    persistent_workers=workers > 0,
                    prefetch_factor=1 if workers else None,
                    generator=torch.Generator().manual_seed(0),
                )
            self._loaders["stream"] = windows  # type: ignore[assignment]
        return StreamLoader(self._loaders["stream"], position, len(position))  # type: ignore[arg-type]

    def repeat_first_epoch(self) -> None:
        """From now on the batches of every epoch are those of the first."""
        self._position.sampler.fixed = True

    @property
    def counted(self) -> bool:  # type: ignore[override]
        """Whether batches are counted within epochs."""
        return self._position.counted

    @property
    def _position(self) -> _Epochs | _Passes:
        self.setup()
        assert self._stream is not None
        return self._stream

    @property
    def _epoch_batches(self) -> int:
        return self._position.whole

    def _build(self) -> _Epochs | _Passes:
        table, config = self.splits.stream, self.config
        assert table is not None, "a module of streamed rows"
        data, settings = config.data, config.trainer
        dropout = {name: rate for name, declared in config.inputs.items() if (rate := declared.modality_dropout)}
        encoder = Encoder(self.inputs, self.outputs, config.seed, dropout, settings.mixing)
        place = {"rank": self.rank, "world_size": self.world_size}
        if table.counts is not None and data.max_tokens is None and not self._is_arranged:
            order = EpochOrder(table.counts, batch_size=data.batch_size, buffer=data.shuffle_buffer, seed=config.seed)
            windows = EpochWindows(table, order, encoder, by_length=data.length_buckets, **place)
            found = _Epochs(windows, order, batches_within(settings.limit_of("train"), order.num_batches))
            found.sampler.fixed = settings.overfit_batches is not None
            return found
        assert settings.max_steps is not None, "the rules demand it"
        passes = PassWindows(
            table,
            encoder,
            buffer=data.shuffle_buffer,
            batch_size=data.batch_size,
            max_tokens=data.max_tokens,
            by_length=data.length_buckets,
            **place,
        )
        return _Passes(passes, settings.max_steps * settings.accumulate)

    @property
    def _is_arranged(self) -> bool:
        """Whether rows of batches are cut from texts, or put together of several."""
        config = self.config
        conversing = any(output.conversation is not None for output in config.outputs.values())
        return config.document_layout is not None or conversing


class _Epochs:
    """The position in epochs whose batches are counted."""

    counted = True

    def __init__(self, windows: EpochWindows, order: EpochOrder, batches: int) -> None:
        self.windows, self.order, self.batches, self.whole = windows, order, batches, order.num_batches
        self.sampler = WindowSampler(-(-batches // order.window_batches))
        self._done = 0

    def __len__(self) -> int:
        return self.batches

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = ()) -> None:
        """Continue after that many batches of an epoch."""
        del window
        assert 0 <= batches_done <= self.batches, f"{batches_done} of {self.batches} batches done"
        self.sampler.epoch, self._done = epoch, batches_done
        self.sampler.number = batches_done // self.order.window_batches

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells the epoch before each; the place within an epoch that was resumed stays."""
        if epoch != self.sampler.epoch:
            self.set_position(epoch, 0)

    def begin(self) -> tuple[int, int, int]:
        """The window to begin with, batches of it that are done, and batches that are left."""
        return self.sampler.number, self._done % self.order.window_batches, self.batches - self._done


class _Passes:
    """The position in passes whose batches are not counted; the whole run is one epoch."""

    counted = False

    def __init__(self, windows: PassWindows, batches: int) -> None:
        self.windows, self.batches, self.whole = windows, batches, batches
        self.sampler = WindowSampler(None)
        self._skip, self._left = 0, batches

    def __len__(self) -> int:
        return self.batches

    def set_position(self, epoch: int, batches_done: int, window: Sequence[int] = (0, 0)) -> None:
        """Continue in a window, after some of its batches."""
        self.sampler.epoch, self._left = epoch, self.batches - batches_done
        self.sampler.number, self._skip = window

    def set_epoch(self, epoch: int) -> None:
        """The epoch changes nothing here."""

    def begin(self) -> tuple[int, int, int]:
        """The window to begin with, batches of it that are done, and batches that are left."""
        return self.sampler.number, self._skip, self._left
