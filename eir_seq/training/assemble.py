"""From the config to what a run is made of: rows, fitted inputs and outputs, batches, the network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import pyarrow as pa
import torch
from numpy.typing import NDArray

from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.dataset import EncodedSplit
from eir_seq.data.loaded import Splits
from eir_seq.data.missing import Missing, rows_where
from eir_seq.data.module import DataModule
from eir_seq.data.resolve import resolve
from eir_seq.data.source import load_splits
from eir_seq.data.stream.module import StreamedDataModule
from eir_seq.errors import Fault, UserError
from eir_seq.files import default_folder
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import TOKENS, FittedModality, Purpose
from eir_seq.outputs import build_output
from eir_seq.outputs.base import FittedOutput
from eir_seq.rows import Rows
from eir_seq.tokenizers.cache import TokenizerCache
from eir_seq.training.build import build_network
from eir_seq.training.connect import connect
from eir_seq.training.console import Console
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks
from eir_seq.training.warm_start import WarmStart

ROWS_SHOWN = 1024
"""Rows whose readable form is made at once."""


class Shown(Sequence[str]):
    """What is in an input of a split, row by row, in readable form; it is made when it is asked for."""

    def __init__(self, fitted: FittedModality, rows: Rows, encoded: EncodedSplit, name: str) -> None:
        self._fitted, self._rows, self._source, self._count = fitted, rows, encoded.inputs[name], len(encoded)
        self._present = encoded.present.get(name)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, key: int) -> str: ...
    @overload
    def __getitem__(self, key: slice) -> list[str]: ...
    def __getitem__(self, key: int | slice) -> str | list[str]:
        places = range(self._count)[key]
        return self._of([places])[0] if isinstance(places, int) else self._of(list(places))

    def __iter__(self) -> Iterator[str]:
        for start in range(0, self._count, ROWS_SHOWN):
            yield from self[start : start + ROWS_SHOWN]

    def _of(self, places: list[int]) -> list[str]:
        if self._present is None:
            return self._fitted.show_arranged(self._rows, self._source, places)
        there = [place for place in places if self._present[place]]
        shown = iter(self._fitted.show(self._rows.select(there).select_columns(list(self._fitted.columns))[:]))
        return [next(shown) if self._present[place] else "" for place in places]


@dataclass(frozen=True)
class Parts:
    """All that a run is made of."""

    splits: Splits
    inputs: dict[str, FittedModality]
    outputs: dict[str, FittedOutput]
    data: DataModule
    network: Network
    started: dict[str, Any] | None = None
    """What the run began with, for the manifest, if it is another run's."""

    def batches(self, split: str) -> Any:
        """Batches of every row of a split once; None if there is no such split."""
        if getattr(self.splits, split) is None:
            return None
        return self.data.val_dataloader() if split == "validation" else self.data.test_dataloader()

    @property
    def targets(self) -> dict[str, Mapping[str, torch.Tensor]]:
        """Targets by split and output, (rows that have one, ...)."""
        return {split: encoded.known_targets() for split, encoded in self.data.encoded.items()}

    def tokens(self, name: str) -> dict[str, NDArray[Any]]:
        """Tokens of each row (of a language model: of each document) of an input before truncation, by split.

        Empty for an input without tokens.
        """
        found = {split: rows.numbers(name, TOKENS) for split, rows in self.data.encoded.items()}
        return {split: tokens for split, tokens in found.items() if len(tokens)}

    def shown(self, split: str, name: str) -> Shown:
        """What is in an input, row by row, in readable form."""
        return Shown(self.inputs[name], dict(self.splits.items())[split], self.data.encoded[split], name)

    def thumbnails(self, split: str, shown: Mapping[str, Sequence[str]], wanted: Collection[str]) -> dict[str, bytes]:
        """Small PNG files of what is in the inputs of a split, by its readable form.

        A form that different pictures have is left out, and so is a picture that cannot be read any more.

        Args:
            split: of the data.
            shown: by input, what `shown` gives.
            wanted: readable forms of those that are wanted.
        """
        rows = dict(self.splits.items())[split]
        found: dict[str, bytes] = {}
        ambiguous = set()
        for name, fitted in self.inputs.items():
            if type(fitted).thumbnails is FittedModality.thumbnails:  # there is nothing to see
                continue
            forms = shown[name] if len(shown[name]) == rows.num_rows else ()  # else they are blocks of texts
            for place, form in enumerate(forms):
                if not form or form not in wanted:  # a row without this input has no form
                    continue
                try:
                    pictures = fitted.thumbnails(rows.select([place]).select_columns(list(fitted.columns))[:])
                except UserError:
                    continue
                for picture in pictures:
                    if found.setdefault(form, picture) != picture:
                        ambiguous.add(form)
        return {form: picture for form, picture in found.items() if form not in ambiguous}


def resolved(config: ExperimentConfig, console: Console) -> ExperimentConfig:
    """The experiment with the names of columns that it leaves to the data; see `eir_seq.data.resolve`.

    Raises:
        UserError: the training table cannot be read, or has no such columns.
    """
    config, decided = resolve(config)
    for line in decided:
        console.say(line)
    return config


def assemble(
    config: ExperimentConfig, console: Console, *, fallback_cache: str | None = None, ranks: Ranks = ALONE
) -> Parts:
    """Read the rows, fit inputs and outputs on the training rows, encode, and build the network.

    Args:
        config: the experiment.
        console: is notified of each phase.
        fallback_cache: where encoded rows go if the cache folder cannot be written.
        ranks: the processes that share the rows of each batch.

    Raises:
        UserError: data or config are invalid.
    """
    missing = Missing.of(config)
    layout, written, sentinels = config.document_layout, config.written, config.sentinels
    cache = TokenizerCache(config.cache_dir or default_folder(), max_size=config.cache.max_bytes, source=config.source)
    modalities = {
        name: build_modality(
            name,
            declared,
            Purpose(
                layout,
                written.get(name),
                sentinels.get(name, 0),
                cache,
                config.questions.get(name),
                config.conversations.get(name),
            ),
        )
        for name, declared in config.inputs.items()
    }
    start = WarmStart.open(config)
    if start is not None:
        modalities = start.prepared(modalities)
    with console.phase("reading rows") as found:
        splits = load_splits(config, modalities, console.progress)
        found += [f"{split} {rows:,}" for split, rows in splits.counts.items()]
        if splits.stream is not None and splits.train is not None:
            found.append(f"inputs and outputs are fitted on {splits.train.num_rows:,}")
    if splits.skipped:
        console.say(f"left out {len(splits.skipped):,} rows that cannot be used")
    for line in splits.said_missing:
        console.say(line)
    assert splits.train is not None
    labelled = missing.labelled(splits.train.table) if missing is not None else {}
    inputs: dict[str, FittedModality] = {}
    for name in sorted(modalities, key=lambda name: config.owners[name] != name):  # encoders before those who share
        with console.phase(f"fitting inputs.{name}") as found:
            text, owner, modality = written.get(name), config.owners[name], modalities[name]
            column = None if text is None else text.column
            rows = splits.train if missing is None else missing.readable(splits.train, name, column)
            if sharing := [other for other in modalities if other != name and config.owners[other] == owner]:
                rows = _joined(splits.train, [name, *sharing], config, missing)
            inputs[name] = (modality if owner == name else modality.adopting(inputs[owner])).fit(rows, config.seed)
            found += _said(inputs[name].describe())
    inputs = {name: inputs[name] for name in modalities}
    outputs: dict[str, FittedOutput] = {}
    faults: list[Fault] = []
    for name, output in config.outputs.items():
        if name in config.token_inputs:
            output = output.model_copy(update={"input": config.token_inputs[name]})
        rows = rows_where(splits.train, labelled[name]) if name in labelled else splits.train
        declared = build_output(name, output).reading({source: x.columns for source, x in inputs.items()})
        try:
            with splits.locating():
                fitted = declared.fit(rows)
                outputs[name] = fitted if start is None else start.output(name, fitted)
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(*faults)
    if start is not None:
        start.check(inputs, outputs)
    with console.phase("encoding") as found:
        module = DataModule if splits.stream is None else StreamedDataModule
        data = module(
            config,
            splits,
            inputs,
            outputs,
            fallback_cache=fallback_cache,
            progress=console.progress,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        with splits.locating():
            data.setup()
        found.append(f"{data.batches_per_epoch:,} batches per epoch")
    with console.phase("building the network") as found:
        network = build_network(config, inputs, outputs)
        connect(config, network, outputs, train=data.encoded["train"])
        if start is not None:
            start.load_into(network)
            found.append(f"{start.record['tensors']:,} tensors of {start.config.run}")
        network.keep_start()
        counts = network.count_parameters()
        found.append(f"{counts['total']:,} parameters")
        if counts["trainable"] < counts["total"]:
            found.append(f"{counts['trainable']:,} of them trained")
    return Parts(splits, inputs, outputs, data, network, None if start is None else start.record)


def _joined(train: Rows, names: Sequence[str], config: ExperimentConfig, missing: Missing | None) -> Rows:
    """The training rows of inputs that share an encoder, one after the other, in the columns of the first."""
    wanted = list(config.inputs[names[0]].columns())
    tables = []
    for name in names:
        rows = train if missing is None else missing.readable(train, name)
        tables.append(rows.table.select(list(config.inputs[name].columns())).rename_columns(wanted))
    return Rows(pa.concat_tables(tables, promote_options="permissive"))


def _said(description: Mapping[str, Any]) -> list[str]:
    said = []
    if "vocab_size" in description:
        said.append(f"{description.get('tokenizer', 'tokens')}, {description['vocab_size']:,} tokens")
    if "max_length" in description:
        said.append(f"length {description['max_length']:,}")
    if "colours" in description:
        said.append(f"{description['size']} x {description['size']} pixels, {description['colours']:,} colours")
    if "documents" in description:
        said.append(f"{description['documents']} documents in blocks of {description['block']:,}")
    return said
