from __future__ import annotations

from pathlib import Path

import pytest

from eir_seq.errors import UserError
from eir_seq.inference.prediction_table import read_predictions
from eir_seq.outputs.predictions import write_predictions


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    columns = {
        "a": {"a_true": ["x", "x"], "a": ["x", "y)"], "a_p(x)": [0.75, 0.25], "a_p(y))": [0.25, 0.75]},
        "a_b": {"a_b": [1.5, 2.0]},
        "c": {"c_true": [3.0, 4.0], "c": [1.0, 2.0]},
    }
    write_predictions(path, ["1", "2"], columns)
    table = read_predictions(path)
    assert list(table.ids) == ["1", "2"]
    assert {name: list(values) for name, values in table.columns.items()} == {
        "a_true": ["x", "x"],
        "a": ["x", "y)"],
        "a_p(x)": ["0.75", "0.25"],
        "a_p(y))": ["0.25", "0.75"],
        "a_b": ["1.5", "2"],
        "c_true": ["3", "4"],
        "c": ["1", "2"],
    }
    assert [*table.select([1]).ids, *table.select([1]).columns["a"]] == ["2", "y)"]


@pytest.mark.parametrize("text", ["", "name,x\n1,2\n", "id,x\n1\n"])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="not a table of predictions"):
        read_predictions(path)
