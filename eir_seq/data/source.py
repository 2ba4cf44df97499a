"""From the config to checked rows: training, validation and test."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.config.column_types import ColumnType
from eir_seq.config.schema import DataConfig, ExperimentConfig
from eir_seq.data.class_checks import check_classes, check_learnable, class_spelling
from eir_seq.data.drawing import cut_text, draw_limit, draw_part, fold_numbers, split_off, take_listed
from eir_seq.data.encoded import Progress
from eir_seq.data.id_lists import is_id_list
from eir_seq.data.missing import said
from eir_seq.data.readers import read_table
from eir_seq.data.readers.base import FaultLog, RawTable, Reader, Wanted, wanted_of
from eir_seq.data.readers.folder import TEXT_COLUMN, join_labels, read_folder
from eir_seq.data.rows import ID, CheckedRows, Roles, check_rows, column_roles
from eir_seq.data.spelling import same_but_for_spelling
from eir_seq.data.stream.shards import open_shards
from eir_seq.data.stream.survey import surveyed
from eir_seq.data.stream.table import HASHES, StreamedTable
from eir_seq.errors import Fault, UserError
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import FittedModality, Modality
from eir_seq.outputs.base import FittedOutput, named_rows
from eir_seq.registry import SOURCES
from eir_seq.remote import by_url, is_url, local_file, named_by_url
from eir_seq.rows import Rows
from eir_seq.spool import content_hash

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
_FILE = "\0"
"""In place of a file's name."""


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out because of `data.on_bad_row=skip`; `place` is its file and line or row, `position` the
    row of the file, counted from 0."""

    id: str
    split: str
    place: str
    reason: str
    position: int


@dataclass(frozen=True)
class Located:
    """Where the rows of a file are: their ids, and the rows of the file."""

    ids: pa.ChunkedArray
    rows: NDArray[np.int64]
    raw: RawTable

    @classmethod
    def of(cls, part: CheckedRows) -> Self:
        """Keeps none of the columns but the ids."""
        return cls(part.table.column(ID), part.kept, replace(part.raw, table=part.raw.table.slice(0, 0)))

    def place(self, row_id: str) -> str | None:
        """The file, and line or row, of a row; None if it is not among them."""
        place = pc.index(self.ids, row_id).as_py()
        return None if place < 0 else self.raw.place(int(self.rows[place]))


@dataclass(frozen=True)
class Splits:
    """The checked rows of an experiment.

    Each split has the column `id` (text, unique over all splits), the inputs' columns and the classes as text (lists
    and objects as JSON), and the numbers to be predicted as float64; a missing label, where labels are optional, is
    None.
    """

    train: Rows | None
    validation: Rows | None
    test: Rows | None
    fingerprint: str
    files: tuple[dict[str, Any], ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    warnings: tuple[str, ...] = ()
    """What can be used and yet looks wrong: rows that quotes hold together, classes that are spelled alike."""
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By split and config path of an input or output: how many rows lack it (`data.on_missing: keep`)."""
    located: tuple[Located, ...] = ()
    """Where the rows of each file are."""
    stream: StreamedTable | None = None
    """The training rows if they are streamed; `train` is then the sample that inputs and outputs are fitted on."""

    @property
    def counts(self) -> dict[str, int]:
        """The rows of each split; training rows that are streamed and not counted are left out."""
        found: dict[str, int | None] = {name: part.num_rows for name, part in self.items()}
        if self.stream is not None:
            found["train"] = self.stream.num_rows
        return {name: rows for name, rows in found.items() if rows is not None}

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Adds file and line of the rows that faults name by their ids."""
        try:
            yield
        except UserError as error:
            raise UserError(*(_with_place(fault, self.located) for fault in error.faults)) from None

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that exist, by name."""
        parts = ((name, getattr(self, name)) for name in SPLITS)
        return [(name, part) for name, part in parts if part is not None]

    def describe(self) -> dict[str, Any]:
        """For the manifest: the files with their hashes, the rows of each split, what was left out."""
        return {
            "fingerprint": self.fingerprint,
            "rows": self.counts,
            "files": list(self.files),
            "skipped": len(self.skipped),
            "warnings": list(self.warnings),
            **({"missing": {name: dict(found) for name, found in self.missing.items()}} if self.missing else {}),
        }

    @property
    def said_missing(self) -> list[str]:
        """What rows lack, for people: a line for each input and output."""
        return said(self.missing, {name: part.num_rows for name, part in self.items()})


Inputs = Mapping[str, Modality | FittedModality]


@named_by_url()
def load_splits(config: ExperimentConfig, inputs: Inputs | None = None, progress: Progress | None = None) -> Splits:
    """Read, check and split the data of an experiment; `inputs` by name, which are built from the config if absent.

    With `data.folds` the test rows are those of `data.fold`, or of the first one.

    Raises `UserError` with everything that is wrong in the files that the config names: what cannot be read, missing
    columns, rows without text or label (unless skipped), ids that repeat within or across splits, classes that the
    training rows lack.
    """
    roles, data = column_roles(config, inputs or _inputs(config)), local_data(config)
    if data.streaming:
        return _load_streamed(data, roles, progress)
    lists = _id_lists(data, roles)
    data = data.model_copy(update=dict.fromkeys(lists))
    parts = _read_parts(data, roles, only=SPLITS, need_targets=True)
    if "train" not in parts:
        raise UserError(Fault("data.train", "give the file or folder of the training rows"))
    tables = {split: part.table for split, part in parts.items()}
    if lists:
        take_listed(tables, lists, parts["train"], data, roles)
    if data.folds is not None:
        held_out = fold_numbers(tables["train"], data, roles) == (data.fold or 0)
        tables["train"], tables["test"] = split_off(tables["train"], held_out, data)
    fractions = {name: part for name in ("validation", "test") if isinstance(part := getattr(data, name), int | float)}
    if sum(part for part in fractions.values() if isinstance(part, float)) >= 1:
        listed = " and ".join(f"{part} ({name})" for name, part in fractions.items())
        raise UserError(Fault("data.test", f"{listed} of the training rows leave none to train on"))
    single_text = tables["train"].num_rows == 1 and config.document_layout is not None
    draw = cut_text if single_text else draw_part
    rows = tables["train"].num_rows
    for name in reversed(fractions) if single_text else fractions:  # the test part is the last one of a text
        tables["train"], tables[name] = draw(tables["train"], name, fractions, rows, data, roles)
    warnings = _few_left(fractions, tables["train"].num_rows, rows)
    if data.limit is not None and data.limit < tables["train"].num_rows:
        tables["train"] = draw_limit(tables["train"], data.limit, data, roles)
    check_learnable(tables["train"], roles)
    splits = _finish(tables, parts, roles, [*warnings, *class_spelling(tables["train"], roles)])
    with splits.locating():
        check_classes(tables, roles)
    return splits


@named_by_url()
def load_folds(config: ExperimentConfig, inputs: Inputs | None = None) -> dict[str, int]:
    """The fold of each training row by its id, in the order of the rows; raises `UserError` as `load_splits` does."""
    roles, data = column_roles(config, inputs or _inputs(config)), local_data(config)
    lists = _id_lists(data, roles)
    part = _read_parts(data.model_copy(update=dict.fromkeys(lists)), roles, only=("train",), need_targets=True)["train"]
    tables = {"train": part.table}
    if lists:
        take_listed(tables, lists, part, data, roles)
    table = tables["train"]
    return dict(zip(table.column(ID).to_pylist(), fold_numbers(table, data, roles).tolist(), strict=True))


@named_by_url()
def load_test(
    config: ExperimentConfig,
    inputs: Inputs | None = None,
    outputs: Mapping[str, FittedOutput] = MappingProxyType({}),
    *,
    need_targets: bool = False,
    need_texts: bool = True,
) -> Splits:
    """Only the rows of `data.test`, for prediction: labels may be missing, whole columns of them too.

    Without `need_texts` so may texts, which are to be written; they are empty then.

    Raises `UserError` as `load_splits` does.
    """
    roles = column_roles(config, inputs or _inputs(config), outputs)
    data = local_data(config)
    given = data.test
    if not isinstance(given, str) or is_id_list(given, data, roles):
        drawn = "" if given is None else f"; the run drew its own ({given} of the training rows)"
        raise UserError(Fault("data.test", f"give the file whose rows are to be predicted{drawn}"))
    roles = replace(roles, uses=roles.without("group").uses)
    if not need_texts:
        roles = replace(roles, prompts=frozenset(roles.of("input", ColumnType.TEXT)))
    parts = _read_parts(data, roles, only=("test",), need_targets=need_targets)
    return _finish({split: part.table for split, part in parts.items()}, parts, roles)


def local_data(config: ExperimentConfig) -> DataConfig:
    """The section `data`, with the cache folder by whatever name it was given, and copies of what URLs name.

    Raises:
        UserError: a file cannot be fetched.
    """
    data, faults, copies = config.data, FaultLog(), {}
    for key in ("train", "validation", "test", "labels") if data.reads_files else ():
        given = getattr(data, key)
        if is_url(given) and not (key == "train" and data.streaming):
            try:
                copies[key] = local_file(given, f"data.{key}", config.cache_dir)
            except UserError as error:
                faults.extend(error)
    faults.raise_any()
    return data.model_copy(update={"cache_dir": config.cache_dir, **copies})


def _inputs(config: ExperimentConfig) -> Inputs:
    return {name: build_modality(name, declared) for name, declared in config.inputs.items()}


# ------------------------------------------------------------------------------------------------------- streaming


def _load_streamed(data: DataConfig, roles: Roles, progress: Progress | None = None) -> Splits:
    """The sample of the training rows, the rows of validation and test, and the table to be streamed.

    Raises `UserError` with what is wrong in the files, as `load_splits` does.
    """
    faults = FaultLog()
    for name in SPLITS[1:]:
        given = getattr(data, name)
        if isinstance(given, str) and is_id_list(given, data, roles):
            faults.add(
                "lists", f"data.{name}", f"{given} lists ids, by which streamed rows are not held out; give rows"
            )
    faults.raise_any()
    shards = open_shards(data, wanted_of(roles, data))
    others = _read_parts(
        data.model_copy(update={"train": None, "streaming": False}), roles, only=SPLITS[1:], need_targets=True
    )
    drawn = {name: part for name in SPLITS[1:] if isinstance(part := getattr(data, name), int | float)}
    if sum(part for part in drawn.values() if isinstance(part, float)) >= 1:
        listed = " and ".join(f"{part} ({name})" for name, part in drawn.items())
        raise UserError(Fault("data.test", f"{listed} of the training rows leave none to train on"))
    found = surveyed(StreamedTable(shards, roles, data, _bounds(drawn)), drawn, progress)
    if not found.sample.num_rows:
        raise UserError(Fault("data.train", f"{shards.source} has no row to train on"))
    record = {
        "path": shards.source,
        "sha256": found.digest,
        "rows": found.table.num_rows,
        "columns": found.sample.column_names,
        "pieces": len(shards.pieces),
        "streamed": True,
    }
    raw = RawTable(shards.source, found.sample, record=record)
    every = np.arange(found.sample.num_rows)
    train = CheckedRows(found.sample, found.skipped, tuple(row.before for row in found.skipped), raw, every)
    parts = {"train": train, **others}
    for name in drawn:
        if not found.held[name].num_rows:
            raise UserError(Fault(f"data.{name}", f"{getattr(data, name)} of the rows is none of them; give it a file"))
    tables = {"train": found.sample, **found.held, **{name: part.table for name, part in others.items()}}
    check_learnable(tables["train"], roles)
    check_classes(tables, roles)
    splits = _finish(tables, parts, roles, class_spelling(tables["train"], roles))
    fingerprint = hashlib.sha256(f"{splits.fingerprint} {found.digest}".encode()).hexdigest()
    return replace(splits, stream=found.table, fingerprint=fingerprint, located=splits.located[1:])  # not of a sample


def _bounds(drawn: Mapping[str, float]) -> dict[str, int]:
    """The hashes below which fractions of the rows are held out; numbers of rows are known once all are read."""
    bounds, below = {}, 0.0
    for name, part in drawn.items():
        if isinstance(part, float):
            below += part
            bounds[name] = int(below * HASHES)
    return bounds


# ------------------------------------------------------------------------------------------------------- reading


def _read_parts(data: DataConfig, roles: Roles, *, only: Sequence[str], need_targets: bool) -> dict[str, CheckedRows]:
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


def _id_lists(data: DataConfig, roles: Roles) -> dict[str, str]:
    """Of validation and test the files that list ids of training rows."""
    given = {name: getattr(data, name) for name in ("validation", "test")}
    return {name: path for name, path in given.items() if isinstance(path, str) and is_id_list(path, data, roles)}


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
        ids = parts[second].table.column(ID)
        shared = sorted(ids.filter(pc.is_in(ids, parts[first].table.column(ID))).to_pylist())
        if shared:
            shown = ", ".join(map(repr, shared[:3])) + (", ..." if len(shared) > 3 else "")
            messages.append(
                f"{len(shared)} ids are both in {parts[first].raw.source} ({first}) and in "
                f"{parts[second].raw.source} ({second}): {shown}; where ids number the rows of each file, leave "
                "data.id out"
            )
    return messages


def _few_left(drawn: Mapping[str, float], left: int, rows: int) -> list[str]:
    """A warning where more rows are drawn for validation and test than are left to train on."""
    if rows - left <= left:
        return []
    places = " and ".join(f"data.{name}" for name in drawn)
    return [f"{places}: {rows - left:,} of {rows:,} rows are held out, which leaves {left:,} for training"]


# ----------------------------------------------------------------------------------------------------- finishing


def _finish(
    tables: dict[str, pa.Table], parts: dict[str, CheckedRows], roles: Roles, warnings: Sequence[str] = ()
) -> Splits:
    """The splits of checked rows, with what the manifest says of them; says what looks wrong."""
    names = [ID, *dict.fromkeys([*roles.of("input"), *roles.of("target")])]
    tables = {split: tables[split].select(names) for split in SPLITS if split in tables}
    hashes = {split: content_hash(table) for split, table in tables.items()}
    fingerprint = hashlib.sha256(" ".join(f"{split} {value}" for split, value in hashes.items()).encode())
    skipped = tuple(
        SkippedRow(row.id, split, by_url(row.place), row.reason, position)
        for split, part in parts.items()
        for position, row in zip(part.positions, part.skipped, strict=True)
    )
    read = dict.fromkeys(warning for part in parts.values() for warning in part.raw.warnings)  # folders share labels
    warnings = [by_url(warning) for warning in (*read, *warnings)]
    for warning in warnings:
        log.warning("%s", warning)
    if skipped:
        log.warning("%d rows were left out: %s", len(skipped), _by_reason(skipped))
    files = tuple({"split": split, **_by_url(part.raw.record)} for split, part in parts.items())
    parts_of = {split: Rows(table) for split, table in tables.items()}
    train, validation, test = (parts_of.get(split) for split in SPLITS)
    missing = {} if roles.missing is None else {split: roles.missing.counts(table) for split, table in tables.items()}
    located = tuple(Located.of(part) for part in parts.values())
    return Splits(train, validation, test, fingerprint.hexdigest(), files, skipped, tuple(warnings), missing, located)


def _with_place(fault: Fault, located: Sequence[Located]) -> Fault:
    """The same with file and line of the rows that it names."""
    named = named_rows(fault.message)
    places = [place for row in named for part in located if (place := part.place(row)) is not None]
    return fault if fault.source or not places else replace(fault, source=", ".join(dict.fromkeys(places)))


def _by_url(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: by_url(value) if isinstance(value, str) else value for key, value in record.items()}


def _by_reason(skipped: Sequence[SkippedRow]) -> str:
    reasons = [row.reason for row in skipped]
    return ", ".join(f"{reasons.count(reason)} ({reason})" for reason in dict.fromkeys(reasons))
