"""Which rows of one table become the validation or the test part, or one of several folds: by class, by group.

A draw depends on the seed and on the ids (or group names), not on the order of the rows: a table that was sorted, or to
which rows were added, keeps nearly all of its rows in their part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eir_seq.data.batching import apportion
from eir_seq.data.readers.base import FaultLog
from eir_seq.errors import Fault, UserError
from eir_seq.randomness import derive_seeds
from eir_seq.spool import forget_pages

Column: TypeAlias = "Sequence[str] | pa.ChunkedArray"
MANY_CLASSES = 32
"""Beyond so many, sorting all rows takes more memory and less time than a pass over them for each class."""


def draw_rows(
    ids: Column,
    share: float,
    seed: int,
    classes: Column | None = None,
    *,
    place: str = "data.validation",
    rows: int | None = None,
    classes_place: str = "data.stratify",
) -> NDArray[np.bool_]:
    """Mask of the drawn rows, ``round(share * rows)`` of them; with `classes` each keeps its share.

    Args:
        ids: of the rows.
        share: of `rows` that is drawn; an integer is a number of rows.
        seed: of the draw.
        classes: of the rows.
        place: the config key that holds the share.
        rows: all rows of which this is a fraction, where others were drawn before; the number of `ids` if absent.
        classes_place: the config key that names their column.

    Raises:
        UserError: the share is no row at all or every row, or a class has a single row, which cannot be in both
            parts (where others were drawn before, it stays).
    """
    whole = len(ids) if rows is None else rows
    total = share if isinstance(share, int) else round(share * whole)
    if isinstance(share, int) and share >= len(ids):
        left = "" if rows is None else " left"
        raise UserError(
            Fault(place, f"{share} rows cannot be drawn of the {len(ids)}{left}: at least one must stay for training")
        )
    if not 0 < total < len(ids):
        part = "no row" if total == 0 else "every row" if rows is None else "every row that is left"
        raise UserError(Fault(place, f"{share} of {whole} rows is {part}; give it a file or more rows"))
    if classes is not None and rows is None:
        _refuse_single_rows(ids, classes, place, classes_place)
    return ~pick_rows(ids, len(ids) - total, seed, classes)


def pick_rows(ids: Column, count: int, seed: int, classes: Column | None = None) -> NDArray[np.bool_]:
    """Mask of `count` rows; with `classes` each keeps its share and, whatever the count, at least one row."""
    if classes is None:
        lots = _lots(ids, seed)
        return _smallest(lots, np.ones(len(lots), bool), count)
    _, codes = _codes(classes)
    counts = np.bincount(codes)
    quotas = np.maximum(apportion(counts * (count / len(ids)), count), 1)
    while quotas.sum() > max(count, len(quotas)):
        quotas[np.argmax(quotas)] -= 1
    lots, picked = _lots(ids, seed), np.zeros(len(ids), bool)
    if len(quotas) > MANY_CLASSES:
        order = np.lexsort((lots, codes))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        picked[order[rank < np.repeat(quotas, counts)]] = True
        return picked
    for code, quota in enumerate(quotas.tolist()):
        picked |= _smallest(lots, codes == code, quota)
    return picked


def _smallest(lots: NDArray[np.int64], among: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Mask of the `count` smallest among some rows, of equal ones the first."""
    own = lots[among]
    if not 0 < count < len(own):
        return among & (count > 0)
    own.partition(count - 1)
    bound = own[count - 1]
    del own
    picked: NDArray[np.bool_] = among & (lots < bound)
    picked[np.flatnonzero(among & (lots == bound))[: count - np.count_nonzero(picked)]] = True
    return picked


def _refuse_single_rows(ids: Column, classes: Column, place: str, classes_place: str) -> None:
    names, codes = _codes(classes)
    faults = FaultLog()
    for code in np.flatnonzero(np.bincount(codes) == 1).tolist():
        row_id = str(ids[int(np.flatnonzero(codes == code)[0])])
        hint = f"remove it, or set data.stratify=null or {place}=FILE"
        message = f"class {names[code]!r} has a single row ({row_id!r}), which cannot be in both parts: {hint}"
        faults.add("classes of a single row", classes_place, message)
    faults.raise_any()


def draw_groups(
    groups: Column, fraction: float, seed: int, classes: Column | None = None, *, part: str = "validation"
) -> NDArray[np.bool_]:
    """Mask of the rows of the drawn groups; rows of a group stay together.

    Groups are taken in a random order as long as each brings the classes of the drawn part closer to `fraction` of all.
    Raises `UserError` if there are fewer than two groups.
    """
    names, group_codes = _codes(groups)
    if len(names) < 2:
        message = f"all rows belong to one group ({names[0]!r}); none is left for data.{part}"
        raise UserError(Fault("data.group", message))
    class_codes = np.zeros(len(groups), np.int32)
    if classes is not None:
        class_codes = _codes(classes)[1]
    table = np.zeros((len(names), int(class_codes.max()) + 1))
    np.add.at(table, (group_codes, class_codes), 1)
    target, drawn, taken = fraction * table.sum(axis=0), np.zeros(table.shape[1]), np.zeros(len(names), bool)
    order = np.argsort(_lots(names, seed), kind="stable")
    for group in order:
        if np.abs(target - drawn - table[group]).sum() < np.abs(target - drawn).sum():
            drawn, taken[group] = drawn + table[group], True
    sizes = table.sum(axis=1)
    if not taken.any():  # every group is larger than what is requested
        taken[order[np.argmin(sizes[order])]] = True
    if taken.all():
        taken[order[np.argmax(sizes[order])]] = False
    return np.asarray(taken[group_codes])


def assign_folds(
    ids: Column, folds: int, seed: int, classes: Column | None = None, groups: Column | None = None
) -> NDArray[np.int64]:
    """The fold of each row, from 0 on: folds of like sizes, in which classes have like shares.

    With `groups` the rows of a group are in one fold: from the largest group on, each joins the fold that has least of
    its classes. Stratified folds are those of Kohavi (1995), https://www.ijcai.org/Proceedings/95-2/Papers/016.pdf.

    Raises:
        UserError: fewer rows, groups, or rows of a class than folds.

    Example:
        >>> assign_folds([str(row) for row in range(6)], 3, seed=0).tolist()
        [1, 0, 0, 1, 2, 2]
    """
    if folds > len(ids):
        raise UserError(Fault("data.folds", f"{folds} folds of {len(ids)} rows: some would have none"))
    class_names, class_codes = [""], np.zeros(len(ids), np.int32)
    if classes is not None:
        class_names, class_codes = _codes(classes)
    if groups is not None:
        names, group_codes = _codes(groups)
        if folds > len(names):
            message = f"{folds} folds of {len(names)} groups (data.group): some would have none"
            raise UserError(Fault("data.folds", message))
        table = np.zeros((len(names), len(class_names)))
        np.add.at(table, (group_codes, class_codes), 1)
        shares = table / table.sum(axis=0)
        order = np.argsort(_lots(names, seed), kind="stable")
        order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
        held, sizes, fold_of = np.zeros((folds, len(class_names))), np.zeros(folds), np.zeros(len(names), np.int64)
        for group in order:  # what adds least to the sum of squared shares; an empty fold is always among those
            fold = np.lexsort((sizes, (held * shares[group]).sum(axis=1)))[0]
            held[fold] += shares[group]
            sizes[fold] += table[group].sum()
            fold_of[group] = fold
        found: NDArray[np.int64] = fold_of[group_codes]
        return found
    counts = np.bincount(class_codes, minlength=len(class_names))
    faults = FaultLog()
    for name, count in zip(class_names, counts.tolist(), strict=True):
        if classes is not None and name and count < folds:
            hint = "lower it, remove the class, or set data.stratify=null"
            faults.add("rare classes", "data.folds", f"class {name!r} has {count} rows for {folds} folds: {hint}")
    faults.raise_any()
    lots, first = _lots(ids, seed), 0
    found = np.zeros(len(ids), np.int64)
    for code, count in enumerate(counts.tolist()):
        rows = np.flatnonzero(class_codes == code)
        rows = rows[np.argsort(lots[rows], kind="stable")]
        quotas = np.full(folds, count // folds, np.int64)
        quotas[(first + np.arange(count % folds)) % folds] += 1  # the rows that are over go to the next folds in turn
        first = (first + count) % folds
        found[rows] = np.repeat(np.arange(folds), quotas)
    return found


def _codes(values: Column) -> tuple[list[str], NDArray[np.signedinteger[Any]]]:
    """The distinct values in order, and the place of each row's value among them."""
    column = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, pa.string())])
    chunks = column.dictionary_encode().unify_dictionaries().chunks
    names = chunks[0].dictionary.to_pylist() if chunks else []
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names))
    codes = np.empty(len(column), np.min_scalar_type(-len(names) - 1))
    start = 0
    for chunk in chunks:
        codes[start : start + len(chunk)] = place[chunk.indices.to_numpy()]
        start += len(chunk)
    return [names[index] for index in order], codes


def _lots(ids: Column, seed: int) -> NDArray[np.int64]:
    """A random number for each id, which depends on the id only; the smallest are drawn."""
    lots, start = np.empty(len(ids), np.int64), 0
    for chunk in ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]:
        names = chunk.to_pylist() if isinstance(chunk, pa.Array) else chunk
        lots[start : start + len(names)] = derive_seeds(seed, "split", names=names)
        start += len(names)
        forget_pages()
    return lots
