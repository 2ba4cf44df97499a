"""Vectors of rows with the bundle of a finished run: of an input, or the fused features."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.files import csv_text
from eir_seq.inference.embedder import Embedder
from eir_seq.inference.predict import config_of, find_bundle, load_rows
from eir_seq.inference.predictor import Predictor
from eir_seq.machine import cannot_write, writing
from eir_seq.remote import by_url
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.folder import write_text

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
        with console.phase(f"reading {by_url(str(folder))}"):
            bundle = read_bundle(folder)
        try:
            embedder = Embedder(bundle, input, normalize)
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
            predictor = Predictor(bundle, batch_size=batch_size, accelerator=accelerator)
            vectors, warnings = predictor.vectors(embedder, splits.test, console.progress)
            found.append(f"{len(vectors):,} of size {vectors.shape[1]:,}")
        for warning in warnings:
            console.say(f"warning: {warning}")
    _write(destination, list(splits.test["id"]), vectors)
    return destination


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
                write_text(path.with_suffix(".ids.csv"), csv_text([["id"], *([row_id] for row_id in ids)]))
                with partial.open("wb") as file:
                    np.save(file, vectors, allow_pickle=False)
            os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error, "output") from None
