"""What splits must have to be learned and evaluated: inputs, targets, known classes."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from eir_seq.config.column_types import ColumnType
from eir_seq.data.columns import counts
from eir_seq.data.readers.base import FaultLog
from eir_seq.data.roles import Roles
from eir_seq.data.rows import ID
from eir_seq.data.spelling import same_but_for_spelling, spelling_warnings
from eir_seq.errors import Fault, UserError, nearest


def check_learnable(train: pa.Table, roles: Roles) -> None:
    """Raise `UserError` where no training row has an input or a target."""
    missing = {} if roles.missing is None else roles.missing.counts(train)
    faults = [
        Fault(place, "has no value in any training row") for place, count in missing.items() if count == train.num_rows
    ]
    if faults:
        raise UserError(*faults)


def check_classes(tables: dict[str, pa.Table], roles: Roles) -> None:
    """Raise `UserError` where validation or test has a class that training never sees, or training has only one."""
    faults = FaultLog()
    learned = (use for use in roles.uses if use.role == "target" and use.type is ColumnType.CATEGORY and not use.named)
    for column, place in {use.column: use.place for use in learned}.items():
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
                more = f" and {found[value] - 1} more" if found[value] > 1 else ""
                where = f"{split} ({'rows' if more else 'row'} {row!r}{more})"
                hint = nearest(value, known) or same_but_for_spelling([value], list(known))
                message = f"class {value!r} of {column!r} is in {where} and not in training{hint}"
                faults.add("classes that training lacks", place, message)
    faults.raise_any()


def class_spelling(train: pa.Table, roles: Roles) -> list[str]:
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
