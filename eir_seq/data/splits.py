"""Which rows of one table become the validation part: by fraction, by class, by group.

A draw depends on the seed and on the ids (or group names), not on the order of the rows: a table that was sorted, or to
which rows were added, keeps nearly all of its rows in their part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eir_seq.data.batching import apportion
from eir_seq.data.readers.base import FaultLog
from eir_seq.errors import Fault, UserError
from eir_seq.randomness import derive_seed


def draw_rows(
    ids: Sequence[str], fraction: float, seed: int, classes: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Mask of the drawn rows, ``round(fraction * rows)`` of them; with `classes` each keeps its share.

    Raises `UserError` where the fraction is no row at all or every row, or where a class has a single row, which cannot
    stand in both parts.
    """
    total = round(fraction * len(ids))
    if not 0 < total < len(ids):
        part = "no row" if total == 0 else "every row"
        raise UserError(
            Fault("data.validation", f"{fraction} of {len(ids)} rows is {part}; give it a file or more rows")
        )
    if classes is not None:
        _refuse_single_rows(ids, classes)
    return ~pick_rows(ids, len(ids) - total, seed, classes)


def pick_rows(ids: Sequence[str], count: int, seed: int, classes: Sequence[str] | None = None) -> NDArray[np.bool_]:
    """Mask of `count` rows; with `classes` each keeps its share and, whatever the count, at least one row."""
    rank = _shuffled(ids, seed)
    if classes is None:
        return rank < count
    _, codes, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    quotas = np.maximum(apportion(counts * (count / len(ids)), count), 1)
    while quotas.sum() > max(count, len(quotas)):
        quotas[np.argmax(quotas)] -= 1
    picked = np.zeros(len(ids), bool)
    for code, quota in enumerate(quotas.tolist()):
        rows = np.flatnonzero(codes == code)
        picked[rows[np.argsort(rank[rows])[:quota]]] = True
    return picked


def _refuse_single_rows(ids: Sequence[str], classes: Sequence[str]) -> None:
    names, codes, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    faults = FaultLog()
    for code in np.flatnonzero(counts == 1).tolist():
        row_id = ids[int(np.flatnonzero(codes == code)[0])]
        hint = "remove it, or set data.stratify=null or data.validation=FILE"
        message = f"class {str(names[code])!r} has a single row ({row_id!r}), which cannot be in both parts: {hint}"
        faults.add("classes of a single row", "data.stratify", message)
    faults.raise_any()


def draw_groups(
    groups: Sequence[str], fraction: float, seed: int, classes: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Mask of the rows of the drawn groups; rows of a group stay together.

    Groups are taken in a random order as long as each brings the classes of the drawn part closer to `fraction` of all.
    Raises `UserError` where there are fewer than two groups.
    """
    names, group_codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise UserError(
            Fault("data.group", f"all rows belong to one group ({str(names[0])!r}); none is left to validate on")
        )
    class_codes = np.zeros(len(groups), np.int64)
    if classes is not None:
        class_codes = np.unique(np.asarray(classes), return_inverse=True)[1]
    table = np.zeros((len(names), int(class_codes.max()) + 1))
    np.add.at(table, (group_codes, class_codes), 1)
    target, drawn, taken = fraction * table.sum(axis=0), np.zeros(table.shape[1]), np.zeros(len(names), bool)
    order = np.argsort(_shuffled([str(name) for name in names], seed))
    for group in order:
        if np.abs(target - drawn - table[group]).sum() < np.abs(target - drawn).sum():
            drawn, taken[group] = drawn + table[group], True
    sizes = table.sum(axis=1)
    if not taken.any():  # every group is larger than what is asked for
        taken[order[np.argmin(sizes[order])]] = True
    if taken.all():
        taken[order[np.argmax(sizes[order])]] = False
    return np.asarray(taken[group_codes])


def _shuffled(ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Place of each id in a random order that depends on the ids only."""
    keys = [(derive_seed(seed, "split", value), value) for value in ids]
    order = sorted(range(len(ids)), key=keys.__getitem__)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    return rank
