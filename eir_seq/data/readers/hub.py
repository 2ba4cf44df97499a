"""Datasets of the Hugging Face Hub, or of a local folder in the layout of one, through `datasets`."""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import RawTable, Reader, Wanted
from eir_seq.errors import Fault, UserError, nearest


def read_hub(
    name: str, split: str, wanted: Wanted, place: str, *, subset: str | None, revision: str | None
) -> RawTable:
    """The wanted columns of one split; class numbers become class names, and -1, which marks no label, is missing.

    Raises `UserError` of one line where the data set, the subset or the split does not exist or cannot be reached.
    """
    import datasets

    source = f"{name}/{subset}:{split}" if subset else f"{name}:{split}"
    library_logger = logging.getLogger("huggingface_hub")
    level = library_logger.level
    library_logger.setLevel(logging.ERROR)  # every retry would be a warning, and one line is said in the end
    try:
        data = datasets.load_dataset(name, subset, split=split, revision=revision)
    except Exception as error:
        raise UserError(Fault(place, _explain(error, name, split, subset, revision))) from error
    finally:
        library_logger.setLevel(level)
    positions = wanted.resolve(data.column_names, source)
    names = list(data.column_names)
    data = data.select_columns([names[index] for index in positions.values()]).with_format(None)
    columns: dict[str, Any] = {}
    read = data.with_format("arrow")[:]
    for new, index in positions.items():
        feature = data.features[names[index]]
        values = read.column(names[index])
        inner = getattr(feature, "feature", None)  # of a list
        if isinstance(feature, datasets.ClassLabel):
            values = _class_names(values, feature.names)
        elif isinstance(inner, datasets.ClassLabel):
            lists = [None if row is None else _names(row, inner.names) for row in values.to_pylist()]
            values = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
        columns[new] = values
    table = pa.table(columns)
    if table.num_rows == 0:
        raise UserError(Fault(place, f"{source} has no rows"))
    record = {
        "path": source,
        "revision": revision,
        "fingerprint": data._fingerprint,
        "rows": table.num_rows,
        "columns": table.column_names,
    }
    return RawTable(source, table, record=record)


def _class_names(values: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(_names(values.to_pylist(), names), pa.string())])


def _names(numbers: list[int | None], names: list[str]) -> list[str | None]:
    return [names[number] if number is not None and number >= 0 else None for number in numbers]


def _explain(error: Exception, name: str, split: str, subset: str | None, revision: str | None) -> str:
    """One line for whatever `datasets` raised."""
    import datasets

    text = " ".join(str(error).split())
    if "Unknown split" in text:
        known = datasets.get_dataset_split_names(name, subset, revision=revision)
        return f"{name} has no split {split!r}{nearest(split, known)} (it has {', '.join(known)})"
    if "BuilderConfig" in text or "Config name is missing" in text:
        known = datasets.get_dataset_config_names(name, revision=revision)
        return f"{name} needs data.subset, one of: {', '.join(known)}" + (f"; not {subset!r}" if subset else "")
    offline = isinstance(error, ConnectionError) or "offline" in text.lower() or "couldn't reach" in text.lower()
    if offline or (isinstance(error, OSError) and "connect" in text.lower()):
        return f"the Hub cannot be reached and {name} is not in the local cache; use files (data=table) or go online"
    if isinstance(error, FileNotFoundError):  # DatasetNotFoundError is one too
        return f"no data set {name!r} on the Hub or as a folder (a private one needs HF_TOKEN in the environment)"
    return f"{name} cannot be loaded: {type(error).__name__}: {text[:300]}"


def _read(path: str, wanted: Wanted, place: str, data: DataConfig) -> RawTable:
    assert data.name is not None, "the split of a dataset is named without it"
    return read_hub(data.name, path, wanted, place, subset=data.subset, revision=data.revision)


HUB = Reader(_read)
