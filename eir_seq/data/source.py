"""From the config to checked rows: training, validation and test."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from eir_seq.config.column_types import ColumnType
from eir_seq.config.schema import DataConfig, ExperimentConfig
from eir_seq.data.class_checks import check_classes, check_learnable, class_spelling
from eir_seq.data.drawing import cut_text, draw_limit, draw_part, fold_numbers, split_off, take_listed
from eir_seq.data.encoded import Progress
from eir_seq.data.id_lists import is_id_list
from eir_seq.data.loaded import SPLITS, Located, SkippedRow, Splits
from eir_seq.data.readers.base import FaultLog, RawTable, wanted_of
from eir_seq.data.roles import Roles, column_roles
from eir_seq.data.rows import ID, CheckedRows
from eir_seq.data.stream.shards import open_shards
from eir_seq.data.stream.survey import surveyed
from eir_seq.data.stream.table import HASHES, StreamedTable
from eir_seq.data.tables import read_parts
from eir_seq.errors import Fault, UserError
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import FittedModality, Modality
from eir_seq.outputs.base import FittedOutput
from eir_seq.remote import by_url, is_url, local_file, named_by_url
from eir_seq.rows import Rows
from eir_seq.spool import content_hash

log = logging.getLogger(__name__)


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
    parts = read_parts(data, roles, only=SPLITS, need_targets=True)
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
    part = read_parts(data.model_copy(update=dict.fromkeys(lists)), roles, only=("train",), need_targets=True)["train"]
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
    parts = read_parts(data, roles, only=("test",), need_targets=need_targets)
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
    others = read_parts(
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
    every = range(found.sample.num_rows)
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


def _id_lists(data: DataConfig, roles: Roles) -> dict[str, str]:
    """Of validation and test the files that list ids of training rows."""
    given = {name: getattr(data, name) for name in ("validation", "test")}
    return {name: path for name, path in given.items() if isinstance(path, str) and is_id_list(path, data, roles)}


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


def _by_url(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: by_url(value) if isinstance(value, str) else value for key, value in record.items()}


def _by_reason(skipped: Sequence[SkippedRow]) -> str:
    reasons = [row.reason for row in skipped]
    return ", ".join(f"{reasons.count(reason)} ({reason})" for reason in dict.fromkeys(reasons))
