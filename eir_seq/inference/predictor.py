"""Predict rows with a bundle, in memory: as `predict` does with those of a file."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import columns_of
from eir_seq.config.explanations import ExplanationBase
from eir_seq.config.schema import GPU_PRECISIONS
from eir_seq.data.dataset import Batch, EncodedSplit, Encodes, encode_split
from eir_seq.data.encoded import EncodedInMemory, EncodingCache, Progress
from eir_seq.data.missing import Missing
from eir_seq.data.readers.base import FaultLog, RawTable
from eir_seq.data.roles import column_roles
from eir_seq.data.rows import check_rows
from eir_seq.errors import Fault, RunFailed, UserError
from eir_seq.explanations.records import Attribution
from eir_seq.inference.embedder import Embedder
from eir_seq.inference.prompts import completions, language_model, reads_besides
from eir_seq.modalities.base import FittedModality
from eir_seq.outputs.files import value_of
from eir_seq.outputs.generation.writing import build_writers
from eir_seq.remote import fetched_bundle, is_url, named_by_url
from eir_seq.rows import Rows
from eir_seq.training.attributions import Evaluated, check_interpretations, explain
from eir_seq.training.bundle import Bundle, read_bundle
from eir_seq.training.devices import batch_shape, out_of_memory, pick_device
from eir_seq.training.evaluation import Evaluation, evaluate

MOST_IN_MEMORY = 10_000
"""Rows up to which encoded ones stay in memory; those of more are in a temporary folder."""


class Predictor:
    """Predicts rows with the network of a bundle.

    Args:
        bundle: of a finished run (`eir_seq.training.bundle.read_bundle`).
        batch_size: rows per batch; that of the run if absent.
        accelerator: auto, cpu, gpu or mps.
        file_dir: folder of the files that rows name, others are refused; by default `data.file_dir` of the run, or the
            current folder.

    Raises:
        UserError: there is no such accelerator.

    Example:
        >>> from pathlib import Path
        >>> from eir_seq.inference.predictor import Predictor
        >>> from eir_seq.training.bundle import read_bundle
        >>> predictor = Predictor(read_bundle(Path("runs/moods/bundle")))
        >>> [row] = predictor.predict([{"text": "a warm and kind day"}])
        >>> list(row)
        ['mood', 'mood_p(bad)', 'mood_p(good)', 'score']
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        batch_size: int | None = None,
        accelerator: str = "auto",
        file_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        trainer = bundle.config.trainer.model_copy(update={"accelerator": accelerator})
        self.bundle = bundle
        self._file_dir = bundle.config.data.file_dir if file_dir is None else os.fspath(file_dir)
        self.device = pick_device(accelerator)
        size = {} if batch_size is None else {"eval_batch_size": batch_size}
        self.data = bundle.config.data.model_copy(update=size)
        self._config = bundle.config.model_copy(update={"data": self.data, "trainer": trainer})
        precision = str(bundle.config.trainer.precision)
        self.precision = "32" if precision in GPU_PRECISIONS and self.device.type != "cuda" else precision
        self._network = bundle.network.to(self.device)

    @classmethod
    def load(cls, run: str | os.PathLike[str], **options: Any) -> Predictor:
        """The predictor of a finished run: of its folder, of the bundle in it, or of the URL of either.

        Args:
            run: a folder, or a URL such as ``s3://bucket/run`` or ``https://host/run/bundle``.
            options: those of `Predictor`.

        Raises:
            UserError: there is no bundle, or it cannot be read or fetched.
        """
        with named_by_url():
            folder = fetched_bundle(os.fspath(run)) if is_url(run) else Path(run).expanduser()
            return cls(read_bundle(folder / "bundle" if (folder / "bundle").is_dir() else folder), **options)

    def of(self, bundle: Bundle) -> Predictor:
        """The same with a part of its bundle: fewer inputs or outputs."""
        found = copy.copy(self)
        found.bundle = bundle
        return found

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What is predicted of each row, in order: the columns of the table that `predict` writes, but for true values.

        A language model alone completes the rows' texts.

        Args:
            rows: by column of the run's data; those that no input reads are not looked at.

        Raises:
            UserError: an input's column is missing, or a row cannot be used; all of them are named.
            RunFailed: not enough memory.
        """
        if not rows:
            return []
        checked = self.checked(rows)
        writes = language_model(self.bundle)
        if writes is not None:
            source: Any = self.bundle.config.inputs[writes.input]
            further = checked if reads_besides(self.bundle) is not None else None
            texts = completions(self.bundle, writes, self._config, list(checked[source.column]), further)
            return [{writes.name: text} for text in texts]
        evaluation, _ = self.evaluate(checked)
        found: list[dict[str, Any]] = [{} for _ in rows]
        for name, output in self.bundle.outputs.items():
            written = evaluation.written.get(name)
            if written is not None:
                columns = written.columns()
            else:
                columns = output.decode_rows(evaluation.raw[name], lambda: checked)
            for column, values in columns.items():
                for row, value in zip(found, values, strict=True):
                    row[column] = value_of(value)
        return found

    def embed(
        self,
        rows: Sequence[Mapping[str, Any]],
        input: str | None = None,
        *,
        normalize: bool | None = None,
        source: str | None = None,
    ) -> NDArray[np.float32]:
        """A vector for each row, in order, (rows, size): of an input, or the fused features.

        Args:
            rows: by column of the run's data; those of `input` are enough.
            input: an input, ``fusion``, or ``fusion.OUTPUT`` where each output has features of its own; by default
                the only input, or the first one of a similarity output.
            normalize: make the vectors of length 1; by default those of inputs that a similarity output compares.
            source: the former name of `input`.

        Returns:
            Single precision.

        Raises:
            UserError: no such input, a column is missing, or a row cannot be used.
            RunFailed: not enough memory.

        Example:
            >>> from pathlib import Path
            >>> from eir_seq.inference.predictor import Predictor
            >>> from eir_seq.training.bundle import read_bundle
            >>> predictor = Predictor(read_bundle(Path("runs/moods/bundle")))
            >>> predictor.embed([{"text": "a warm day"}, {"text": "a cold day"}], normalize=True).shape[0]
            2
        """
        if input is not None and source is not None:
            raise UserError(Fault("source", "is the former name of input; give one of them"))
        embedder = Embedder(self.bundle, source if input is None else input, normalize)
        if not rows:
            return np.zeros((0, 0), np.float32)
        return self.vectors(embedder, self.of(embedder.bundle).checked(rows))[0]

    def vectors(
        self, embedder: Embedder, rows: Rows, progress: Progress | None = None
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Vectors of checked rows, (rows, size), and warnings about these.

        Args:
            embedder: of the same bundle.
            rows: as `eir_seq.data.source` reads them.
            progress: called with what is done, how many rows of it, and of how many.

        Raises:
            UserError: the input makes other rows of them.
            RunFailed: not enough memory.
        """
        with self.of(embedder.bundle).encoded(rows, progress) as (encoded, warnings):
            found = embedder.vectors(encoded, list(rows["id"]), self.data, self.device, self.precision, progress)
        return found, warnings

    def evaluate(
        self,
        rows: Rows,
        progress: Progress | None = None,
        also: Callable[[EncodedSplit, Evaluation], object] | None = None,
    ) -> tuple[Evaluation, list[str]]:
        """Predict checked rows, and measure the outputs whose labels all of them have; also warnings.

        Args:
            rows: as `eir_seq.data.source` reads them.
            progress: called with what is done, how many rows of it, and of how many.
            also: called with what batches are made of, and with what was found.
        """
        with self.encoded(rows, progress) as (encoded, warnings):
            evaluation = self._evaluated(encoded, rows, progress)
            if also is not None:
                also(encoded, evaluation)
            return evaluation, warnings

    def explain(
        self,
        interpretation: Mapping[str, ExplanationBase],
        rows: Rows,
        encoded: EncodedSplit,
        evaluation: Evaluation,
        progress: Progress | None = None,
    ) -> list[Attribution]:
        """What tokens of inputs add to what is predicted of some of the rows that were evaluated.

        Args:
            interpretation: by input which rows, and how.
            rows: those that `evaluate` got.
            encoded: what batches of them are made of, and
            evaluation: what was found, as `evaluate` passes them on.
            progress: called with what is done, how much of it, and of how much.

        Raises:
            UserError: no such input or rows, or an input that cannot be explained.
        """
        bundle, network = self.bundle, self._network
        place = "interpretation.{}"
        check_interpretations(interpretation, network, bundle.inputs, bundle.outputs, {"test": encoded}, place)
        return explain(
            interpretation,
            network,
            bundle.inputs,
            bundle.outputs,
            [Evaluated("test", rows, encoded, evaluation)],
            device=self.device,
            progress=progress or (lambda *_: None),
        )

    @contextmanager
    def encoded(self, rows: Rows, progress: Progress | None = None) -> Iterator[tuple[EncodedSplit, list[str]]]:
        """Checked rows as inputs of the network, for a while, and warnings about them."""
        small = rows.num_rows <= MOST_IN_MEMORY
        with nullcontext() if small else TemporaryDirectory(prefix="eir_seq-") as folder:
            cache: Encodes = _InMemory() if folder is None else EncodingCache(folder)
            yield encode_split(
                rows,
                "test",
                self.bundle.inputs,
                self.bundle.outputs,
                seed=self.bundle.config.seed,
                cache=cache,
                progress=progress,
                missing=Missing.of(self.bundle.config),
            )

    def checked(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """The columns of the inputs, checked as those of a file are.

        Raises:
            UserError: a column is missing, or a row cannot be used.
        """
        config = self.bundle.config
        unread: dict[str, Any] = dict.fromkeys(("id", "group", "stratify"))
        read_as = {**unread, "source": "table", "file_dir": self._file_dir}
        data = config.data.model_copy(update=read_as)
        config = config.model_copy(update={"data": data})
        uses = columns_of(data, config.inputs, config.outputs).uses
        places = {column: use.place for use in uses if use.role == "input" for column in use.read}
        wanted = list(places)
        known = {name for row in rows for name in row}
        roles = column_roles(config, self.bundle.inputs)
        if self.bundle.outputs and reads_besides(self.bundle) is not None:
            roles = replace(roles, prompts=frozenset(roles.of("input", ColumnType.TEXT)))  # to be written
        absent = [name for name in wanted if name not in known and name not in roles.prompts]
        may_lack = config.data.on_missing == "keep" and len(absent) < len(wanted)
        if absent and not may_lack:
            raise UserError(*(Fault(places[name], f"column {name!r} is not in the rows") for name in absent))
        faults = FaultLog()
        columns = {name: self._column(name, rows, faults) for name in wanted if name in known}
        faults.raise_any()
        checked = check_rows(
            RawTable("rows", pa.table(columns)),
            roles,
            skip_bad=False,
            missing_labels=(),
            id_prefix="",
            need_targets=False,
        )
        return Rows(checked.table)

    def _column(self, name: str, rows: Sequence[Mapping[str, Any]], faults: FaultLog) -> pa.ChunkedArray | None:
        """A column of the table that `rows` would be; notes what no table holds."""
        readers = [fitted for fitted in self.bundle.inputs.values() if name in fitted.columns]
        values = []
        for place, row in enumerate(rows, 1):
            value = row.get(name)
            try:
                for fitted in readers:
                    value = fitted.in_memory(name, value)
            except ValueError as error:
                faults.add(f"values of {name!r}", f"rows row {place}", f"{name!r} {error}")
            values.append(value.tolist() if isinstance(value, np.ndarray) else value)
        if faults:
            return None
        try:
            return pa.chunked_array([pa.array(values)])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            several = len({type(value) for value in values if value is not None}) > 1
            what = "several types" if several else "no known type"
            faults.add(name, "rows", f"column {name!r} holds values of {what}: {error}")
            return None

    def _evaluated(self, encoded: EncodedSplit, rows: Rows, progress: Progress | None) -> Evaluation:
        last: list[Batch] = []

        def batches() -> Iterator[Batch]:
            done = 0
            for batch in encoded.batches(self.data):
                last[:] = [batch]
                yield batch
                done += len(batch["id"])
                if progress is not None:
                    progress("predicting", done, len(encoded))

        bundle = self.bundle
        try:
            writers = build_writers(
                self._network, bundle.inputs, bundle.outputs, rows, seed=bundle.config.seed, all_rows=True
            )
            return evaluate(
                self._network,
                bundle.outputs,
                batches(),
                device=self.device,
                precision=self.precision,
                writers=writers,
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            shape = batch_shape(last[0]) if last else "no batch yet"
            raise RunFailed(f"out of memory while predicting ({shape}); lower batch_size") from error


class _InMemory:
    """Encodes rows as `EncodingCache` does, and writes nothing."""

    def encode(
        self, rows: Rows, fitted: FittedModality, description: str, progress: Progress | None = None
    ) -> EncodedInMemory:
        """The encoded rows."""
        del description, progress
        return EncodedInMemory(fitted, rows[:])
