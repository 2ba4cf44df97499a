"""Files that are written: CSV that every reader takes as it was written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow.csv as pa_csv
from hypothesis import given
from hypothesis import strategies as st

from eir_seq.files import csv_text
from eir_seq.training.metrics_file import AppendedFile


@given(st.lists(st.lists(st.text("ab\r\n\",; '\t"), min_size=2, max_size=2), max_size=5))
def test_cells_come_back_as_they_were(rows: list[list[str]]) -> None:
    text = csv_text([["id", "text"], *rows])
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == rows
    if rows:
        options = pa_csv.ParseOptions(newlines_in_values=True)
        strings = pa_csv.ConvertOptions(column_types={"id": "string", "text": "string"}, strings_can_be_null=False)
        table = pa_csv.read_csv(io.BytesIO(text.encode()), parse_options=options, convert_options=strings)
        assert table.num_rows == len(rows)


def test_a_generated_text_with_a_carriage_return_stays_one_line_of_samples(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "samples.csv", ("epoch", "text"))
    file.restart(0)
    file.append([(1, "one\rtwo\r"), (2, "plain")])
    with (tmp_path / "samples.csv").open(newline="") as lines:
        assert [row["text"] for row in csv.DictReader(lines)] == ["one\rtwo\r", "plain"]
