"""Reads and checks every file, folder or Hub split that an experiment names; the faults of all come together."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eir_seq.config.column_types import ColumnType
from eir_seq.config.schema import DataConfig
from eir_seq.data.readers import read_table
from eir_seq.data.readers.base import FaultLog, RawTable, Reader, Wanted, wanted_of
from eir_seq.data.readers.folder import TEXT_COLUMN, join_labels, read_folder
from eir_seq.data.roles import Roles
from eir_seq.data.rows import ID, CheckedRows, check_rows, hashes_of
from eir_seq.data.spelling import same_but_for_spelling
from eir_seq.errors import Fault, UserError
from eir_seq.registry import SOURCES
from eir_seq.remote import is_url

log = logging.getLogger(__name__)

_FILE = "\0"
"""In place of a file's name."""


def read_parts(data: DataConfig, roles: Roles, *, only: Sequence[str], need_targets: bool) -> dict[str, CheckedRows]:
    """The checked rows of every file or Hub split that the config names; faults of all of them are raised together."""
    sources = {split: path for split, path in source_paths(data).items() if split in only}
    faults = FaultLog()
    named = roles.file_dir
    if named is not None and not is_url(named) and not os.path.isdir(os.path.expanduser(named)):
        faults.add("file_dir", "data.file_dir", f"{roles.file_dir} is not a folder")
        roles = replace(roles, checking=(), restoring=())
    raws: dict[str, RawTable] = {}
    parts: dict[str, CheckedRows] = {}
    found: list[tuple[str, Fault]] = []
    optional = (
        roles.prompts if need_targets else roles.prompts.union(roles.of("target").keys() - roles.of("input").keys())
    )
    if roles.missing is not None and not need_targets:
        optional = optional.union(roles.of("input"))
    if any(os.path.isdir(path) for path in sources.values()) and data.reads_files:
        raws, roles = _read_folders(sources, data, roles, optional)
    elif data.labels is not None and all(map(os.path.isfile, sources.values())):
        message = "only a folder of text files is joined with a table of labels; none of the sources is a folder"
        raise UserError(Fault("data.labels", message))
    else:
        wanted = wanted_of(roles, data, optional)
        for split, path in sources.items():
            try:
                raws[split] = _read(path, split, data, wanted)
            except UserError as error:
                found += ((path, fault) for fault in error.faults)
    for split, raw in raws.items():
        try:
            parts[split] = check_rows(
                raw,
                roles,
                skip_bad=data.on_bad_row == "skip",
                missing_labels=data.missing_labels,
                id_prefix="" if split == "train" or len(sources) == 1 else f"{split}-",
                need_targets=need_targets,
                folder=data.cache_dir,
            )
        except UserError as error:
            found += ((raw.source, fault) for fault in error.faults)
    if found:
        faults.extend(UserError(*said_once(found)))
    for message in _shared_ids(parts):
        faults.add("shared ids", "data.id", message)
    faults.raise_any()
    return parts


def said_once(found: Sequence[tuple[str, Fault]]) -> list[Fault]:
    """Faults of files, where what is wrong with several in the same way is one fault that names them.

    >>> [str(fault) for fault in said_once([(name, Fault("data.id", f"no column 'id' in {name}")) for name in "ab"])]
    ["data.id: no column 'id' in a and b"]
    """
    files: dict[tuple[Fault, str], list[str]] = {}
    for path, fault in found:
        alike = replace(fault, message=fault.message.replace(path, _FILE))
        counted = "" if fault.place or _FILE in alike.message else path  # "and 3 more" is of one file
        files.setdefault((alike, counted), []).append(path)
    return [replace(fault, message=fault.message.replace(_FILE, _and(paths))) for (fault, _), paths in files.items()]


def _and(names: Sequence[str]) -> str:
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last


def source_paths(data: DataConfig) -> dict[str, str]:
    """The file, folder or Hub split of each part that is given as one."""
    train = data.train
    if data.source == "sample":
        from eir_seq.samples import sample_path

        train = str(sample_path(data.name or "reviews")) if train is None else train
    elif data.source == "hub":
        if not data.name:
            raise UserError(Fault("data.name", "give the id of the Hub dataset, e.g. stanfordnlp/imdb"))
        train = train or "train"
    given = {"train": train, "validation": data.validation, "test": data.test}
    sources = {split: path for split, path in given.items() if isinstance(path, str)}
    if data.reads_files:
        sources = {split: os.path.expanduser(path) for split, path in sources.items()}
    return sources


def _read(path: str, split: str, data: DataConfig, wanted: Wanted) -> RawTable:
    reader: Reader = SOURCES[data.source]
    return reader.read(path, wanted, f"data.{split}", data)


def _read_folders(
    sources: dict[str, str], data: DataConfig, roles: Roles, optional: frozenset[str]
) -> tuple[dict[str, RawTable], Roles]:
    """Folders of one text file per id, each joined with the table of labels; ids are the file names."""
    faults = FaultLog()
    id_column = roles.id or _default_id(data)
    roles = replace(roles, id=id_column)
    columns = {name: place for name, place in roles.places.items() if name != TEXT_COLUMN and name != id_column}
    texts_of = roles.of("input", ColumnType.TEXT)
    for name in set(texts_of) - {TEXT_COLUMN}:
        if data.labels is None:
            faults.add("columns", texts_of[name], f"a folder of text files has no {name!r}, only {TEXT_COLUMN!r}")
    labels = None
    texts: dict[str, dict[str, str]] = {}
    if data.labels is not None:
        try:
            wanted = replace(wanted_of(roles, data, optional), places={id_column: "data.id", **columns})
            labels = read_table(os.path.expanduser(data.labels), data, wanted, "data.labels")
        except UserError as error:
            faults.extend(error)
    elif set(columns) - optional:
        faults.add("labels", "data.labels", "give the table with the labels of the text files")
    for split, path in sources.items():
        try:
            texts[split] = read_folder(path, f"data.{split}")
        except UserError as error:
            faults.extend(error)
    faults.raise_any()
    if labels is not None:
        label_ids = _label_ids(labels, id_column)
        for split, part in texts.items():
            _check_overlap(sources[split], list(part), labels.source, label_ids)
        unused = set(label_ids).difference(*texts.values())
        if unused:
            log.warning("%s: %d of %d labels have no text file", labels.source, len(unused), len(label_ids))
    joined = {
        split: join_labels(
            sources[split], part, labels, id_column, keep_unlabelled=bool(optional) or roles.missing is not None
        )
        for split, part in texts.items()
    }
    return joined, roles


def _default_id(data: DataConfig) -> str:
    if data.labels is None:
        return ID
    raise UserError(Fault("data.id", f"give the column of {data.labels} that holds the names of the text files"))


def _label_ids(labels: RawTable, column: str) -> list[str]:
    """The ids of the label table; raises `UserError` if one occurs twice."""
    only_ids = RawTable(labels.source, labels.table.select([column]), labels.lines)
    checked = check_rows(only_ids, Roles(column), skip_bad=False, missing_labels=[], id_prefix="", need_targets=False)
    return list(checked.table.column(ID).to_pylist())


def _check_overlap(folder: str, ids: Sequence[str], table: str, label_ids: Sequence[str]) -> None:
    missing = [value for value in ids if value not in frozenset(label_ids)]
    if len(missing) == len(ids):
        hint = same_but_for_spelling(ids, label_ids)
        message = f"no file of {folder} ({ids[0]!r}, ...) has a label in {table} ({label_ids[0]!r}, ...){hint}"
        raise UserError(Fault("data.id", message))
    if missing:
        log.warning("%s: %d of %d files have no label in %s", folder, len(missing), len(ids), table)


def _shared_ids(parts: dict[str, CheckedRows]) -> list[str]:
    """Messages about ids that are in two splits, which would let training see what it is judged on."""
    messages = []
    for first, second in combinations(parts, 2):
        shared = shared_texts(parts[first].table.column(ID), parts[second].table.column(ID))
        if shared:
            shown = ", ".join(map(repr, shared[:3])) + (", ..." if len(shared) > 3 else "")
            messages.append(
                f"{len(shared)} ids are both in {parts[first].raw.source} ({first}) and in "
                f"{parts[second].raw.source} ({second}): {shown}; where ids number the rows of each file, leave "
                "data.id out"
            )
    return messages


def shared_texts(first: pa.ChunkedArray, second: pa.ChunkedArray) -> list[str]:
    """The texts that are in both, in order; found by hashes of the fewer, as a table of all of them would be large.

    >>> shared_texts(pa.chunked_array([["b", "a"]]), pa.chunked_array([["c", "b", "a"]]))
    ['a', 'b']
    """
    few, many = sorted((first, second), key=len)
    known = np.sort(hashes_of(few))
    alike = pa.array([], few.type)
    for chunk in many.chunks if len(known) else ():
        hashes = hashes_of(pa.chunked_array([chunk]))
        places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        alike = pa.concat_arrays([alike, chunk.filter(pa.array(known[places] == hashes))])
    return sorted(few.filter(pc.is_in(few, alike)).to_pylist()) if len(alike) else []
