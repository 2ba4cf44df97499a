"""Columns as the types that kinds ask for: numbers and truth values, plain CSV files, wide tables."""

from __future__ import annotations

import math
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import Columns, Use
from eir_seq.config.schema import DataConfig
from eir_seq.data.columns import as_booleans, as_numbers
from eir_seq.data.readers import delimited, read_table
from eir_seq.data.readers.base import RawTable, wanted_of
from eir_seq.data.roles import Roles
from eir_seq.data.rows import CheckedRows, check_rows
from eir_seq.errors import UserError
from eir_seq.rows import Rows
from tests.data.conftest import write

SPELLINGS = ["1", " 1.5 ", "+2", "-0.0", ".5", "5.", "1e-300", "1E5", "٣", "1e400", "inf", "nan", "1_000", "0x10",
             "1,5", "high", "9007199254740993", "", "NA"]  # fmt: skip


def expected(text: str) -> float | None:
    if text in ("", "NA"):
        return None
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


@pytest.mark.parametrize("spellings", [SPELLINGS, *([text] for text in SPELLINGS)], ids=str)
def test_numbers_are_those_that_python_reads(spellings: list[str]) -> None:
    """Whether a chunk is parsed at once or value by value."""
    numbers, wrong = as_numbers(pa.chunked_array([spellings]), ["", "NA"])
    wanted = [expected(text) for text in spellings]
    assert [repr(value) for value in numbers.to_pylist()] == [repr(value) for value in wanted]
    assert list(wrong) == [row for row, value in enumerate(wanted) if value is not None and not math.isfinite(value)]


@pytest.mark.parametrize(
    ("values", "wanted", "wrong"),
    [
        (pa.array([1, None, -1, 2**53 + 1], pa.int64()), [1.0, None, None, 2.0**53], {}),
        (pa.array([1.5, float("nan"), float("inf")]), [1.5, None, math.inf], {2: "is 'inf', infinite"}),
        (pa.array(["1", "-1"]).dictionary_encode(), [1.0, None], {}),
        (pa.array([None, None]), [None, None], {}),
        (pa.array([True]), [math.nan], {0: "is 'true', not a number"}),
    ],
)
def test_numbers_of_typed_columns(values: pa.Array, wanted: list[float | None], wrong: dict[int, str]) -> None:
    numbers, found = as_numbers(pa.chunked_array([values]), ["-1"])
    assert numbers.type == pa.float64()
    assert repr(numbers.to_pylist()) == repr(wanted)
    assert found == wrong


def test_truth_values() -> None:
    values, wrong = as_booleans(pa.chunked_array([["True", " no ", "1", "0", "", "maybe"]]), [""])
    assert values.to_pylist() == [True, False, True, False, None, None]
    assert wrong == {5: "is 'maybe', neither true nor false"}
    assert as_booleans(pa.chunked_array([[0, 1, 2]]), [])[1] == {2: "is '2', neither true nor false"}


# ------------------------------------------------------------------------------------------------- inputs by type


def read(path: Path, uses: tuple[Use, ...], **options: Any) -> CheckedRows:
    data = DataConfig(train=str(path))
    raw = read_table(str(path), data, wanted_of(Columns("id", uses), data), "data.train")
    rules: dict[str, Any] = {"skip_bad": False, "missing_labels": ["", "NA"], "need_targets": True, **options}
    return check_rows(raw, Roles("id", uses), id_prefix="", **rules)


def use(column: str, kind: ColumnType, *, may_miss: bool = False) -> Use:
    return Use(column, kind, "input", f"inputs.x.{column}", may_miss)


def test_inputs_of_numbers_categories_and_truth_values(tmp_path: Path) -> None:
    uses = (
        use("size", ColumnType.NUMBER, may_miss=True),
        use("colour", ColumnType.CATEGORY, may_miss=True),
        use("old", ColumnType.BOOLEAN, may_miss=True),
    )
    path = tmp_path / "a.csv"
    write(path, "id,size,colour,old,unread\na,1.5,red,yes,?\nb,NA,,no,\nc,2,blue,,x\n")
    assert read(path, uses).table.to_pydict() == {
        "id": ["a", "b", "c"],
        "size": [1.5, None, 2.0],
        "colour": ["red", None, "blue"],
        "old": [True, False, None],
    }
    strict = (use("size", ColumnType.NUMBER), use("colour", ColumnType.CATEGORY), use("old", ColumnType.BOOLEAN))
    write(path, "id,size,colour,old\na,tall,red,yes\nb,NA,,no\nc,2,blue,perhaps\n")
    with pytest.raises(UserError) as caught:
        read(path, strict)
    assert [(fault.place, fault.message.partition(";")[0]) for fault in caught.value.faults] == [
        (f"{path} line 2", "'size' is 'tall', not a number"),
        (f"{path} line 3", "'size' is missing"),
        (f"{path} line 3", "'colour' is missing"),
        (f"{path} line 4", "'old' is 'perhaps', neither true nor false"),
    ]
    skipped = read(path, strict[2:], skip_bad=True).skipped
    assert [(row.id, row.reason) for row in skipped] == [("c", "'old' is 'perhaps', neither true nor false")]


def test_json_numbers_stay_numbers(tmp_path: Path) -> None:
    """Also where the first rows have none, and where texts spell them."""
    path = tmp_path / "a.jsonl"
    uses = (use("size", ColumnType.NUMBER, may_miss=True), use("name", ColumnType.CATEGORY, may_miss=True))
    write(path, '{"id": 1, "name": 1}\n{"id": 2, "size": 1.5, "name": 2}\n{"id": 3, "size": 7, "name": 3}\n')
    assert read(path, uses).table.to_pydict() == {
        "id": ["1", "2", "3"], "size": [None, 1.5, 7.0], "name": ["1", "2", "3"],
    }  # fmt: skip
    write(path, '{"id": 1, "size": "1.5"}\n{"id": 2, "size": "2"}\n')
    assert read(path, uses[:1]).table["size"].to_pylist() == [1.5, 2.0]
    write(path, f'{{"id": 1, "size": {"9" * 400}}}\n{{"id": 2, "size": 2}}\n')
    with pytest.raises(UserError, match="line 1: 'size' is 'inf', infinite"):
        read(path, uses[:1])


# ------------------------------------------------------------------------------------------------- plain CSV files


def random_file(draw: Random) -> bytes:
    """Rows of a few columns with odd cells, line ends and defects."""
    width, end = draw.randint(1, 4), draw.choice(["\n", "\r\n", "\r", "\n"])
    cells = ["a", "", "1.5", " b ", "é", "x y", "NA", "\ufeff", "\t", "'", "#", "a" * draw.choice([3, 300])]
    quoted = ['"a"', '"a,b"', '""', '"a ""b"""', '"", ""']
    odd = draw.choice(
        [[], [], [], ['"'], quoted, quoted, ['"a,b"'], ['5"', *quoted], ['"a"b'], ["\0"], ["a,b"], ['"a\nb"']]
    )
    fields = width + draw.choice([0, 0, 0, 0, 0, 0, 1, -1])  # as in files of R, which name rows without a header
    rows = [[draw.choice(cells + odd) for _ in range(fields)] for _ in range(draw.randint(1, 30))]
    lines = [",".join(f"c{number}" for number in range(width)), *(",".join(row) for row in rows)]
    if draw.random() < 0.2:
        lines.insert(draw.randint(0, len(lines)), "")
    text = end.join(lines) + draw.choice(["", end, end + end])
    found = (b"\xef\xbb\xbf" if draw.random() < 0.2 else b"") + text.encode()
    return found.replace("é".encode(), b"\xe9") if draw.random() < 0.1 else found


def outcome(path: Path, monkeypatch: pytest.MonkeyPatch, quote: str | None, *, plain: bool) -> Any:
    uses = (Use("c0", ColumnType.TEXT, "input", "inputs.x.column"),)
    data = DataConfig(train=str(path), quote=quote)
    with monkeypatch.context() as patch:
        if not plain:
            patch.setattr(delimited, "_is_plain", lambda *_: False)
        try:
            raw: RawTable = read_table(str(path), data, wanted_of(Columns(None, uses), data), "data.train")
        except UserError as error:
            return [(fault.place, fault.message) for fault in error.faults]
    assert raw.lines is not None
    return raw.table.to_pydict(), list(raw.lines), raw.record, raw.warnings


def test_plain_files_are_read_as_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's reader gives the rows, lines and faults of the general one, and takes part in enough of the files."""
    draw, path, taken = Random(0), tmp_path / "a.csv", 0
    quoted = 0
    for number in range(200):
        write(path, random_file(draw))
        quote = draw.choice(['"', None])
        monkeypatch.setattr(delimited, "SCANNED", draw.choice([7, 64, 1 << 18]))
        plain = delimited._is_plain(str(path), ",", quote)
        taken, quoted = taken + plain, quoted + (plain and quote is not None and b'"' in path.read_bytes())
        assert outcome(path, monkeypatch, quote, plain=True) == outcome(path, monkeypatch, quote, plain=False), number
    assert taken > 35
    assert quoted > 5


@pytest.mark.parametrize("mark", ["", '"'], ids=["bare", "quoted"])
@pytest.mark.parametrize("fields", [1, 3])
def test_rows_of_another_width_than_the_header(
    fields: int, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are faulty also where all are alike, as in tables of R with names of rows: columns would be shifted."""
    row = ",".join(f"{mark}{number}{mark}" for number in range(fields))
    write(tmp_path / "a.csv", "\n".join(["c0,c1", row, row, ""]).encode())
    (place, message), *_ = outcome(tmp_path / "a.csv", monkeypatch, '"', plain=True)
    assert place.endswith("line 2")
    assert message.startswith(f"{fields} field")


# --------------------------------------------------------------------------------------------------- wide tables


def seconds(path: Path, columns: int) -> float:
    """CPU time of reading so many columns of numbers and checking them, the least of three."""
    uses = tuple(use(f"c{number}", ColumnType.NUMBER, may_miss=True) for number in range(columns))
    found = []
    for _ in range(3):
        start = time.process_time()
        rows = Rows(read(path, uses).table)
        for number in range(columns):
            rows.column(f"c{number}").to_numpy()
        found.append(time.process_time() - start)
    return min(found)


def test_a_wide_table_costs_what_its_wanted_columns_cost(tmp_path: Path) -> None:
    """20 of 2,000 columns: the rest of the file is hashed and never decoded; all of them: linear in their number."""
    values = np.random.default_rng(0).normal(size=(500, 2000))
    ids = {"id": [str(row) for row in range(500)]}
    for width in (20, 200, 2000):
        table = pa.table(ids | {f"c{number}": values[:, number] for number in range(width)})
        pq.write_table(table, tmp_path / f"{width}.parquet")
    assert seconds(tmp_path / "2000.parquet", 20) < seconds(tmp_path / "20.parquet", 20) + 0.1
    narrow, wide = seconds(tmp_path / "200.parquet", 200), seconds(tmp_path / "2000.parquet", 2000)
    assert wide < 30 * narrow  # 10 for linear time, 100 for quadratic
