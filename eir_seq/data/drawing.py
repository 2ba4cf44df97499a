"""How training rows are divided: draws, folds, lists of ids, and limits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eir_seq.config.column_types import ColumnType
from eir_seq.config.schema import DataConfig
from eir_seq.data.columns import counts
from eir_seq.data.id_lists import check_listed, read_ids
from eir_seq.data.readers.base import FaultLog
from eir_seq.data.roles import Roles
from eir_seq.data.rows import ID, CheckedRows, text_fault
from eir_seq.data.splits import assign_folds, draw_groups, draw_rows, pick_rows
from eir_seq.errors import Fault, UserError
from eir_seq.spool import filtered

LINE = 10_000
"""Characters within which a line is looked for where a text is cut in two."""


def _stratified_by(data: DataConfig, roles: Roles) -> tuple[str | None, str]:
    """The column by which a draw is stratified, and the config key that names it."""
    if data.stratify != "auto":
        return data.stratify, "data.stratify"
    return next(iter(roles.of("target", ColumnType.CATEGORY).items()), (None, "data.stratify"))


def _stratum(table: pa.Table, data: DataConfig, roles: Roles) -> pa.ChunkedArray | None:
    """The class of each row by which a draw is stratified."""
    column, _ = _stratified_by(data, roles)
    if not column:
        return None
    classes = table.column(column)
    if not classes.null_count:
        return classes
    # Rows without a class are their own stratum; a single one, which cannot be in both parts, joins the largest.
    known = counts(classes.drop_null())
    stratum = "" if classes.null_count > 1 else max(known, key=lambda name: known[name], default="")
    return classes.fill_null(stratum)


def take_listed(
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
        tables["train"], tables[name] = split_off(tables["train"], taken, data)


def fold_numbers(table: pa.Table, data: DataConfig, roles: Roles) -> NDArray[np.int64]:
    """The fold of each row."""
    assert data.folds is not None
    groups = table.column(data.group) if data.group else None
    return assign_folds(table.column(ID), data.folds, data.split_seed, _stratum(table, data, roles), groups)


def split_off(table: pa.Table, taken: NDArray[np.bool_], data: DataConfig) -> tuple[pa.Table, pa.Table]:
    """The rows that are not taken, and those that are."""
    return filtered(table, ~taken, data.cache_dir), filtered(table, taken, data.cache_dir)


def draw_part(
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
            classes_place=_stratified_by(data, roles)[1],
        )
    return split_off(table, drawn, data)


def cut_text(
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


def draw_limit(table: pa.Table, limit: int, data: DataConfig, roles: Roles) -> pa.Table:
    """A part of the training rows in which classes keep their shares."""
    picked = pick_rows(table.column(ID), limit, data.split_seed, _stratum(table, data, roles))
    return filtered(table, picked, data.cache_dir)
