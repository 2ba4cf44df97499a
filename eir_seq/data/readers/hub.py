"""Datasets of the Hugging Face Hub, or of a local folder in the layout of one, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from eir_seq.config.schema import DataConfig
from eir_seq.data.readers.base import RawTable, Reader, Wanted
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.machine import quiet_hub


def read_hub(
    name: str, split: str, wanted: Wanted, place: str, *, subset: str | None, revision: str | None
) -> RawTable:
    """The wanted columns of one split; class numbers become class names, and -1, which marks no label, is missing.

    Raises `UserError` of one line where the data set, the subset or the split does not exist or cannot be reached.
    """
    import datasets

    source = _source(name, split, subset)
    with _loading(place, name, split, subset, revision):
        data = datasets.load_dataset(name, subset, split=split, revision=revision)
    positions = wanted.resolve(data.column_names, source)
    names = list(data.column_names)
    data = data.select_columns([names[index] for index in positions.values()]).with_format(None)
    table = _named_classes(data.with_format("arrow")[:], positions, names, data.features)
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


class HubSplit:
    """A split that is read over and over, shard by shard, instead of being downloaded.

    Raises `UserError` as `read_hub` does.
    """

    def __init__(self, name: str, split: str, place: str, *, subset: str | None, revision: str | None) -> None:
        import datasets

        self.source = _source(name, split, subset)
        self._loading = place, name, split, subset, revision
        with _loading(*self._loading):
            data = datasets.load_dataset(name, subset, split=split, revision=revision, streaming=True)
            self._data: Any = data if data.features is not None else data._resolve_features()
        self.names = list(self._data.column_names)
        self.num_shards = int(self._data.num_shards)

    def read(self, shard: int, positions: Mapping[str, int], rows: int) -> Iterator[pa.Table]:
        """Columns of a shard by their new names and positions, up to `rows` rows at a time."""
        data = self._data.select_columns([self.names[index] for index in dict.fromkeys(positions.values())])
        part = data.shard(num_shards=self.num_shards, index=shard).with_format("arrow")
        with _loading(*self._loading):
            for table in part.iter(batch_size=rows):
                yield _named_classes(table, positions, self.names, self._data.features)


def _source(name: str, split: str, subset: str | None) -> str:
    return f"{name}/{subset}:{split}" if subset else f"{name}:{split}"


@contextmanager
def _loading(place: str, name: str, split: str, subset: str | None, revision: str | None) -> Iterator[None]:
    """Turn whatever `datasets` raises into a `UserError` of one line."""
    try:
        with quiet_hub():
            yield
    except Exception as error:
        raise UserError(Fault(place, _explain(error, name, split, subset, revision))) from error


def _named_classes(read: pa.Table, positions: Mapping[str, int], names: list[str], features: Any) -> pa.Table:
    """The columns at some positions of all `names`, with class names in place of numbers."""
    import datasets

    columns: dict[str, Any] = {}
    for new, index in positions.items():
        feature = features[names[index]]
        values = read.column(names[index])
        inner = getattr(feature, "feature", None)  # of a list
        if isinstance(feature, datasets.ClassLabel):
            values = _class_names(values, feature.names)
        elif isinstance(inner, datasets.ClassLabel):
            lists = [None if row is None else _names(row, inner.names) for row in values.to_pylist()]
            values = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
        columns[new] = values
    return pa.table(columns)


def _class_names(values: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(_names(values.to_pylist(), names), pa.string())])


def _names(numbers: list[int | None], names: list[str]) -> list[str | None]:
    return [names[number] if number is not None and number >= 0 else None for number in numbers]


def _explain(error: Exception, name: str, split: str, subset: str | None, revision: str | None) -> str:
    """One line for whatever `datasets` raised."""
    import datasets

    text = " ".join(str(error).split())
    if revision is not None and "Revision" in text and "doesn't exist" in text:
        return f"{name} has no revision {revision!r}"
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
