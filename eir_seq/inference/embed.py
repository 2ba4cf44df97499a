"""Vectors of rows with the bundle of a finished run: of an input, or the fused features."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eir_seq.data.encoded import Progress
from eir_seq.errors import Fault, RunFailed, UserError, nearest
from eir_seq.inference.predict import config_of, find_bundle, load_rows
from eir_seq.inference.predictor import Predictor
from eir_seq.machine import cannot_write, writing
from eir_seq.training.bundle import Bundle, read_bundle
from eir_seq.training.console import Console
from eir_seq.training.devices import batch_shape, out_of_memory
from eir_seq.training.evaluation import Batch, autocast, evaluation_mode, to_device
from eir_seq.training.folder import write_text

if TYPE_CHECKING:
    from eir_seq.rows import Rows

FUSION = "fusion"
FORMATS = (".npy", ".parquet")


def embed(
    run: Path,
    *,
    test: str | None = None,
    input: str | None = None,
    output: Path | None = None,
    normalize: bool | None = None,
    batch_size: int | None = None,
    accelerator: str = "auto",
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a vector for each row of a file, in its order, and give the path of the file that was written.

    ``NAME.npy`` has (rows, size) in single precision, and ``NAME.ids.csv`` next to it the id of each row;
    ``NAME.parquet`` has the columns ``id`` and ``vector``. Rows that cannot be used are left out with
    `data.on_bad_row=skip`, and are an error otherwise.

    Args:
        run: a run folder, or a bundle.
        test: the file or folder with the rows; those of the run's `data.test` if absent.
        input: see `Predictor.embed`.
        output: a path that ends in .npy or .parquet; by default ``vectors/STEM.INPUT.npy`` in the run folder (in the
            working directory for a bundle without its run).
        normalize: make the vectors of length 1; by default those of inputs that a similarity output compares.
        batch_size: rows per batch; that of the run if absent.
        accelerator: auto, cpu, gpu or mps.
        reading: keys of `data` that say how the file is read, in place of the run's.

    Raises:
        UserError: no bundle, or one that is damaged; no such input; rows that cannot be used; a file that cannot be
            written.
        RunFailed: not enough memory.
    """
    folder, faults = find_bundle(run), list[Fault]()
    if output is not None:
        faults += _destination_faults(output, test)
    with Console() as console:
        with console.phase(f"reading {folder}"):
            bundle = read_bundle(folder)
        try:
            embedder = Embedder(Predictor(bundle, batch_size=batch_size, accelerator=accelerator), input, normalize)
        except UserError as error:
            faults += error.faults
        if faults:
            raise UserError(*faults)
        config = config_of(embedder.bundle.config, test, batch_size, accelerator, reading)
        destination = output or _default_destination(run, folder, str(config.data.test), embedder.source)
        with console.phase("reading rows") as found:
            splits = load_rows(config, embedder.bundle, console, may_lack_id="id" not in reading)
            assert splits.test is not None
            found.append(f"{splits.test.num_rows:,} of {config.data.test}")
        if splits.skipped:
            console.say(f"left out {len(splits.skipped):,} rows that cannot be used")
        with console.phase("computing vectors") as found:
            vectors, warnings = embedder.vectors(splits.test, console.progress)
            found.append(f"{len(vectors):,} of size {vectors.shape[1]:,}")
        for warning in warnings:
            console.say(f"warning: {warning}")
    _write(destination, list(splits.test["id"]), vectors)
    return destination


class Embedder:
    """What makes vectors of rows; reads the columns of one input alone.

    Args:
        predictor: of a bundle.
        source: `input` of `Predictor.embed`.
        normalize: see there.

    Raises:
        UserError: no such input, or one whose rows have no vectors of their own.
    """

    def __init__(self, predictor: Predictor, source: str | None, normalize: bool | None) -> None:
        bundle = predictor.bundle
        self.source = _source(bundle, source)
        self.network = bundle.network
        if self.network.broker is not None and self.network.broker.reaches(self.source):
            message = "gets messages from other layers, without which its vectors would be others"
            raise UserError(Fault(f"inputs.{self.source}", message))
        of_fusion = self.source.partition(".")[0] == FUSION and self.source not in bundle.inputs
        self._output = self.source.partition(".")[2] if of_fusion else None
        inputs = bundle.inputs if of_fusion else {self.source: bundle.inputs[self.source]}
        read = {name: bundle.config.inputs[name] for name in inputs}
        config = bundle.config.model_copy(update={"inputs": read, "outputs": {}})
        self.bundle = Bundle(config, dict(inputs), {}, bundle.network)
        self.predictor = predictor.of(self.bundle)
        compared = [name for name, names in bundle.config.vector_inputs.items() if self.source in names]
        self._compares = None if of_fusion or not compared else bundle.outputs[compared[0]]
        self.normalize = self._compares is not None if normalize is None else normalize

    def vectors(self, rows: Rows, progress: Progress | None = None) -> tuple[NDArray[np.float32], list[str]]:
        """A vector for each of some checked rows, (rows, size), and warnings about these.

        Raises:
            UserError: the input makes other rows of them.
            RunFailed: not enough memory.
        """
        found: NDArray[np.float32] | None = None
        device, precision = self.predictor.device, self.predictor.precision
        with (
            self.predictor.encoded(rows, progress) as (encoded, warnings),
            evaluation_mode(self.network),
            torch.inference_mode(),
            autocast(device, precision),
        ):
            if list(encoded.ids) != list(rows["id"]):
                message = "is read in blocks or windows, which are not the rows of the data; they have no vectors"
                raise UserError(Fault(f"inputs.{self.source}", message))
            done = 0
            for batch in encoded.batches(self.predictor.data):
                try:
                    vectors = self._of(to_device(batch, device)).float()
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    raise RunFailed(f"out of memory ({batch_shape(batch)}); lower batch_size") from error
                if self.normalize:
                    vectors = functional.normalize(vectors, dim=1)
                if found is None:
                    found = np.empty((len(encoded), vectors.shape[1]), np.float32)
                found[batch["row"].numpy()] = vectors.cpu().numpy()
                done += len(batch["id"])
                if progress is not None:
                    progress("computing vectors", done, len(encoded))
        assert found is not None, "there is at least one row"
        return found, warnings

    def _of(self, batch: Batch) -> Tensor:
        """The vectors of a batch, (batch, size)."""
        if self._output is not None:
            return self._fused(batch)
        vectors = self.network.vectors([self.source], batch["inputs"], batch.get("present", {}))[self.source]
        if self._compares is None:
            return vectors
        compared = self._compares.embedding(self.network.head(self._compares.name), self.source, vectors)
        return vectors if compared is None else compared

    def _fused(self, batch: Batch) -> Tensor:
        """The fused features of an output, or those that all outputs have in common."""
        seen: dict[str, Tensor] = {}
        assert self.network.fusion is not None
        handle = self.network.fusion.register_forward_hook(lambda _module, _arguments, output: seen.update(output))
        try:
            self.network.features_for(self.network.fusion.outputs[0], batch)
        finally:
            handle.remove()
        features = list(seen.values())
        if self._output:
            return seen[self._output]
        if any(other is not features[0] for other in features):
            listed = ", ".join(f"{FUSION}.{name}" for name in seen)
            raise UserError(Fault("input", f"each output has features of its own; name one of {listed}"))
        return features[0]


def _source(bundle: Bundle, source: str | None) -> str:
    """The input, ``fusion`` or ``fusion.OUTPUT`` that is meant."""
    names, fusion = list(bundle.inputs), bundle.network.fusion
    compared = [name for inputs in bundle.config.vector_inputs.values() for name in inputs]
    if source is None:
        if compared or len(names) == 1:
            return _readable(bundle, (compared or names)[0])
        listed = ", ".join([*names, *([FUSION] if fusion is not None else [])])
        raise UserError(Fault("input", f"is missing; say whose vectors are wanted: {listed}"))
    if source in names:
        return _readable(bundle, source)
    known = [*names]
    if fusion is not None:
        fused = [name for name in bundle.outputs if name in fusion.outputs]
        known += [FUSION, *(f"{FUSION}.{name}" for name in fused)]
    if source not in known:
        hint = "; no output reads fused features" if source.startswith(FUSION) and fusion is None else ""
        raise UserError(Fault("input", f"{source!r} is none of {', '.join(known)}{hint or nearest(source, known)}"))
    return source


def _readable(bundle: Bundle, source: str) -> str:
    """The input, if its encoder reads nothing but the input."""
    if source in bundle.config.written or source in bundle.config.asked:
        message = (
            "its encoder reads texts that are written from it, or questions about it; it has no vectors of its own"
        )
        raise UserError(Fault("input", f"{source!r} cannot be chosen: {message}"))
    return source


# ---------------------------------------------------------------------------------------------------------- files


def _destination_faults(path: Path, test: str | None) -> Iterator[Fault]:
    """What could not be written after the work."""
    path = path.expanduser()
    if path.suffix not in FORMATS:
        yield Fault("output", f"{path.name} ends in none of {', '.join(FORMATS)}{nearest(path.suffix, FORMATS)}")
    if path.exists() and not path.is_file():
        yield Fault("output", f"{path} is not a regular file; it would be replaced")
    elif not path.parent.is_dir():
        yield Fault("output", f"there is no folder {path.parent}")
    elif not os.access(path.parent, os.W_OK):
        yield Fault("output", f"{path.parent} cannot be written")
    elif test is not None and path.exists() and path.samefile(Path(test).expanduser()):
        yield Fault("output", f"{path} is the file with the rows")


def _default_destination(run: Path, bundle: Path, test: str, source: str) -> Path:
    run = run.expanduser()
    folder = Path() if bundle == run else run / "vectors"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "output") from None
    path = folder / f"{Path(test).name.split('.')[0] or 'rows'}.{source}.npy"
    if faults := list(_destination_faults(path, None)):
        raise UserError(*faults)
    return path


def _write(path: Path, ids: list[str], vectors: NDArray[np.float32]) -> None:
    """Whole files or none."""
    path = path.expanduser()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with writing(path, partial):
            if path.suffix == ".parquet":
                values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
                pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "vector": values}), partial)
            else:
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows([["id"], *([row_id] for row_id in ids)])
                write_text(path.with_suffix(".ids.csv"), text.getvalue())
                with partial.open("wb") as file:
                    np.save(file, vectors, allow_pickle=False)
            os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error, "output") from None
