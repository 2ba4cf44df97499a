"""From the config to checked rows: training, validation and test."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.config.column_types import ColumnType
from eir_seq.config.schema import DataConfig, ExperimentConfig
from eir_seq.data.columns import counts
from eir_seq.data.id_lists import check_listed, is_id_list, read_ids
from eir_seq.data.missing import said
from eir_seq.data.readers import read_table
from eir_seq.data.readers.base import FaultLog, RawTable, Reader, Wanted, wanted_of
from eir_seq.data.readers.folder import TEXT_COLUMN, join_labels, read_folder
from eir_seq.data.rows import ID, CheckedRows, Roles, check_rows, column_roles, text_fault
from eir_seq.data.spelling import same_but_for_spelling, spelling_warnings
from eir_seq.data.splits import assign_folds, draw_groups, draw_rows, pick_rows
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import FittedModality, Modality
from eir_seq.registry import SOURCES
from eir_seq.rows import Rows
from eir_seq.spool import content_hash, filtered

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
LINE = 10_000
"""Characters within which a line is looked for where a text is cut in two."""


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
    """What can be used and yet looks wrong: rows that quotes hold together, classes that are spelt alike."""
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By split and config path of an input or output: how many rows lack it (`data.on_missing: keep`)."""

    def items(self) -> list[tuple[str, Rows]]:
        """The splits that exist, by name."""
        parts = ((name, getattr(self, name)) for name in SPLITS)
        return [(name, part) for name, part in parts if part is not None]

    def describe(self) -> dict[str, Any]:
        """For the manifest: the files with their hashes, the rows of each split, what was left out."""
        return {
            "fingerprint": self.fingerprint,
            "rows": {name: part.num_rows for name, part in self.items()},
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


def load_splits(config: ExperimentConfig, inputs: Inputs | None = None) -> Splits:
    """Read, check and split the data of an experiment; `inputs` by name, which are built from the config if absent.

    With `data.folds` the test rows are those of `data.fold`, or of the first one.

    Raises `UserError` with everything that is wrong in the files that the config names: what cannot be read, missing
    columns, rows without text or label (unless skipped), ids that repeat within or across splits, classes that the
    training rows lack.
    """
    roles, data = column_roles(config, inputs or _inputs(config)), _data(config)
    lists = _id_lists(data, roles)
    data = data.model_copy(update=dict.fromkeys(lists))
    parts = _read_parts(data, roles, only=SPLITS, need_targets=True)
    if "train" not in parts:
        raise UserError(Fault("data.train", "give the file or folder of the training rows"))
    tables = {split: part.table for split, part in parts.items()}
    if lists:
        _take_listed(tables, lists, parts["train"], data, roles)
    if data.folds is not None:
        held_out = _folds(tables["train"], data, roles) == (data.fold or 0)
        tables["train"], tables["test"] = _parted(tables["train"], held_out, data)
    fractions = {name: part for name in ("validation", "test") if isinstance(part := getattr(data, name), int | float)}
    if sum(part for part in fractions.values() if isinstance(part, float)) >= 1:
        listed = " and ".join(f"{part} ({name})" for name, part in fractions.items())
        raise UserError(Fault("data.test", f"{listed} of the training rows leave none to train on"))
    single_text = tables["train"].num_rows == 1 and config.document_layout is not None
    draw = _cut_text if single_text else _draw
    rows = tables["train"].num_rows
    for name in reversed(fractions) if single_text else fractions:  # the test part is the last one of a text
        tables["train"], tables[name] = draw(tables["train"], name, fractions, rows, data, roles)
    if data.limit is not None and data.limit < tables["train"].num_rows:
        tables["train"] = _draw_limit(tables["train"], data.limit, data, roles)
    _check_learnable(tables["train"], roles)
    _check_classes(tables, roles)
    return _finish(tables, parts, roles, _spelling(tables["train"], roles))


def load_folds(config: ExperimentConfig, inputs: Inputs | None = None) -> dict[str, int]:
    """The fold of each training row by its id, in the order of the rows; raises `UserError` as `load_splits` does."""
    roles, data = column_roles(config, inputs or _inputs(config)), _data(config)
    lists = _id_lists(data, roles)
    part = _read_parts(data.model_copy(update=dict.fromkeys(lists)), roles, only=("train",), need_targets=True)["train"]
    tables = {"train": part.table}
    if lists:
        _take_listed(tables, lists, part, data, roles)
    table = tables["train"]
    return dict(zip(table.column(ID).to_pylist(), _folds(table, data, roles).tolist(), strict=True))


def load_test(
    config: ExperimentConfig, inputs: Inputs | None = None, *, need_targets: bool = False, need_texts: bool = True
) -> Splits:
    """Only the rows of `data.test`, for prediction: labels may be missing, whole columns of them too.

    Without `need_texts` so may texts, which are to be written; they are empty then.

    Raises `UserError` as `load_splits` does.
    """
    roles = column_roles(config, inputs or _inputs(config))
    given = config.data.test
    if not isinstance(given, str) or is_id_list(given, config.data, roles):
        drawn = "" if given is None else f"; the run drew its own ({given} of the training rows)"
        raise UserError(Fault("data.test", f"give the file whose rows are to be predicted{drawn}"))
    roles = replace(roles, uses=roles.without("group").uses)
    if not need_texts:
        roles = replace(roles, prompts=frozenset(roles.of("input", ColumnType.TEXT)))
    parts = _read_parts(_data(config), roles, only=("test",), need_targets=need_targets)
    return _finish({split: part.table for split, part in parts.items()}, parts, roles)


def _data(config: ExperimentConfig) -> DataConfig:
    """The section `data`, with the cache folder by whatever name it was given."""
    return config.data.model_copy(update={"cache_dir": config.cache_dir})


def _inputs(config: ExperimentConfig) -> Inputs:
    return {name: build_modality(name, declared) for name, declared in config.inputs.items()}


# ------------------------------------------------------------------------------------------------------- reading


def _read_parts(data: DataConfig, roles: Roles, *, only: Sequence[str], need_targets: bool) -> dict[str, CheckedRows]:
    """The checked rows of every file or Hub split that the config names; faults of all of them are raised together."""
    sources = {split: path for split, path in source_paths(data).items() if split in only}
    faults = FaultLog()
    raws: dict[str, RawTable] = {}
    parts: dict[str, CheckedRows] = {}
    optional = roles.prompts if need_targets else roles.prompts.union(roles.of("target"))
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
                faults.extend(error)
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
            faults.extend(error)
    for message in _shared_ids(parts):
        faults.add("shared ids", "data.id", message)
    faults.raise_any()
    return parts


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
    """The ids of the label table; raises `UserError` where one occurs twice."""
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
    """Messages about ids that stand in two splits, which would let training see what it is judged on."""
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


# ----------------------------------------------------------------------------------------------------- splitting


def _stratum(table: pa.Table, data: DataConfig, roles: Roles) -> pa.ChunkedArray | None:
    """The class of each row by which a draw is stratified."""
    column = next(iter(roles.of("target", ColumnType.CATEGORY)), None) if data.stratify == "auto" else data.stratify
    if not column:
        return None
    classes = table.column(column)
    if not classes.null_count:
        return classes
    # Rows without a class are a stratum of their own; a single one, which cannot be in both parts, joins the largest.
    known = counts(classes.drop_null())
    stratum = "" if classes.null_count > 1 else max(known, key=lambda name: known[name], default="")
    return classes.fill_null(stratum)


def _take_listed(
    tables: dict[str, pa.Table], lists: Mapping[str, str], part: CheckedRows, data: DataConfig, roles: Roles
) -> None:
    """Take the rows whose ids are listed out of the training rows, in place."""
    faults, listed = FaultLog(), {}
    for name, path in lists.items():
        try:
            listed[name] = read_ids(path, data, roles, f"data.{name}")
        except UserError as error:
            faults.extend(error)
    faults.raise_any()
    check_listed(tables["train"].column(ID), listed, lists, {row.id for row in part.skipped})
    for name, ids in listed.items():
        taken = pc.is_in(tables["train"].column(ID), pa.array(ids, pa.string())).to_numpy()
        tables["train"], tables[name] = _parted(tables["train"], taken, data)


def _folds(table: pa.Table, data: DataConfig, roles: Roles) -> NDArray[np.int64]:
    """The fold of each row."""
    assert data.folds is not None
    groups = table.column(data.group) if data.group else None
    return assign_folds(table.column(ID), data.folds, data.split_seed, _stratum(table, data, roles), groups)


def _parted(table: pa.Table, taken: NDArray[np.bool_], data: DataConfig) -> tuple[pa.Table, pa.Table]:
    """The rows that are not taken, and those that are."""
    return filtered(table, ~taken, data.cache_dir), filtered(table, taken, data.cache_dir)


def _draw(
    table: pa.Table, part: str, fractions: Mapping[str, float], rows: int, data: DataConfig, roles: Roles
) -> tuple[pa.Table, pa.Table]:
    """What is left, and the rows drawn for a part; `rows` were there before any was drawn, of which it is a fraction.

    The validation rows are drawn first, so that they are the same whether or not others are drawn for the test.
    """
    classes, first, share = _stratum(table, data, roles), part == next(iter(fractions)), fractions[part]
    if data.group:
        fraction = (share if isinstance(share, int) else share * rows) / table.num_rows
        if fraction >= 1:
            raise UserError(Fault(f"data.{part}", f"{share} rows cannot be drawn of {table.num_rows}"))
        drawn = draw_groups(table.column(data.group), fraction, data.split_seed, classes, part=part)
    else:
        drawn = draw_rows(
            table.column(ID),
            share,
            data.split_seed,
            classes,
            place=f"data.{part}",
            rows=None if first else rows,
        )
    return _parted(table, drawn, data)


def _cut_text(
    table: pa.Table, part: str, fractions: Mapping[str, float], rows: int, data: DataConfig, roles: Roles
) -> tuple[pa.Table, pa.Table]:
    """The last part of the only text that is left; it begins with a line, if one begins nearby."""
    del rows, data
    if isinstance(fractions[part], int):
        message = f"{fractions[part]} rows cannot be drawn of a single text; give a fraction, such as 0.1"
        raise UserError(Fault(f"data.{part}", message))
    (column,) = roles.of("input", ColumnType.TEXT)
    text, row_id = table.column(column)[0].as_py(), table.column(ID)[0].as_py()
    left = 1.0 if part == "test" else 1.0 - fractions.get("test", 0.0)
    place = len(text) - round(len(text) * fractions[part] / left)
    line = text.find("\n", place, place + LINE) + 1
    place = line if 0 < line < len(text) else place
    parts = {row_id: text[:place], f"{row_id}-{part}": text[place:]}
    if any(text_fault(text) is not None for text in parts.values()):
        message = f"{fractions[part]} of a text of {len(text)} characters leaves nothing for one of the parts"
        raise UserError(Fault(f"data.{part}", message))
    rest, cut = (pa.table({ID: [name], column: [text]}) for name, text in parts.items())
    return rest, cut


def _draw_limit(table: pa.Table, limit: int, data: DataConfig, roles: Roles) -> pa.Table:
    """A part of the training rows in which classes keep their shares."""
    picked = pick_rows(table.column(ID), limit, data.split_seed, _stratum(table, data, roles))
    return filtered(table, picked, data.cache_dir)


def _check_learnable(train: pa.Table, roles: Roles) -> None:
    """Raise `UserError` where no training row has an input or a target."""
    missing = {} if roles.missing is None else roles.missing.counts(train)
    faults = [
        Fault(place, "has no value in any training row") for place, count in missing.items() if count == train.num_rows
    ]
    if faults:
        raise UserError(*faults)


def _check_classes(tables: dict[str, pa.Table], roles: Roles) -> None:
    """Raise `UserError` where validation or test has a class that training never sees, or training has only one."""
    faults = FaultLog()
    for column, place in roles.of("target", ColumnType.CATEGORY).items():
        known = counts(tables["train"].column(column).drop_null())
        if len(known) < 2:
            faults.add("one class", place, f"every training row has the class {next(iter(known))!r} in {column!r}")
            continue
        for split in ("validation", "test"):
            if split not in tables:
                continue
            values = tables[split].column(column)
            found = counts(values.drop_null())
            for value in sorted(found.keys() - known.keys()):
                row = tables[split].column(ID)[pc.index(values, value).as_py()].as_py()
                where = f"{split} ({found[value]} rows, first {row!r})"
                hint = nearest(value, known) or same_but_for_spelling([value], list(known))
                message = f"class {value!r} of {column!r} is in {where} and not in training{hint}"
                faults.add("classes that training lacks", place, message)
    faults.raise_any()


def _spelling(train: pa.Table, roles: Roles) -> list[str]:
    """Warnings about classes and tags of the training rows that are the same but for how they are written."""
    warnings = []
    for column, place in roles.of("target", ColumnType.CATEGORY).items():
        warnings += spelling_warnings(counts(train.column(column).drop_null()), column, place, "rows", "class")
    for column, place in roles.of("target", ColumnType.LIST).items():
        tags: Counter[str] = Counter()
        for chunk in train.column(column).chunks:
            tags.update(tag for cell in chunk.drop_null().to_pylist() for tag in json.loads(cell))
        warnings += spelling_warnings(tags, column, place, "words", "tag")
    return warnings


# ----------------------------------------------------------------------------------------------------- finishing


def _finish(
    tables: dict[str, pa.Table], parts: dict[str, CheckedRows], roles: Roles, warnings: Sequence[str] = ()
) -> Splits:
    names = [ID, *dict.fromkeys([*roles.of("input"), *roles.of("target")])]
    tables = {split: tables[split].select(names) for split in SPLITS if split in tables}
    hashes = {split: content_hash(table) for split, table in tables.items()}
    fingerprint = hashlib.sha256(" ".join(f"{split} {value}" for split, value in hashes.items()).encode())
    skipped = tuple(
        SkippedRow(row.id, split, row.place, row.reason, position)
        for split, part in parts.items()
        for position, row in zip(part.positions, part.skipped, strict=True)
    )
    read = dict.fromkeys(warning for part in parts.values() for warning in part.raw.warnings)  # folders share labels
    warnings = [*read, *warnings]
    for warning in warnings:
        log.warning("%s", warning)
    if skipped:
        log.warning("%d rows were left out: %s", len(skipped), _by_reason(skipped))
    files = tuple({"split": split, **part.raw.record} for split, part in parts.items())
    parts_of = {split: Rows(table) for split, table in tables.items()}
    train, validation, test = (parts_of.get(split) for split in SPLITS)
    missing = {} if roles.missing is None else {split: roles.missing.counts(table) for split, table in tables.items()}
    return Splits(train, validation, test, fingerprint.hexdigest(), files, skipped, tuple(warnings), missing)


def _by_reason(skipped: Sequence[SkippedRow]) -> str:
    reasons = [row.reason for row in skipped]
    return ", ".join(f"{reasons.count(reason)} ({reason})" for reason in dict.fromkeys(reasons))
