from __future__ import annotations

from pathlib import Path

import pytest

from eir_seq.errors import UserError
from eir_seq.inference.prediction_table import read_predictions
from eir_seq.outputs.predictions import write_predictions


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    columns = {"a": ["x", "y)"], "a_p(x)": [0.75, 0.25], "a_p(y))": [0.25, 0.75], "a_b": [1.5, 2.0], "c": [1.0, 2.0]}
    write_predictions(path, ["1", "2"], {"a": ["x", "x"], "c": [3.0, 4.0]}, columns)
    table = read_predictions(path)
    assert table.ids == ["1", "2"]
    assert list(table.outputs) == ["a", "a_b", "c"]
    assert table.outputs["a"].true == ["x", "x"]
    assert {name: list(values) for name, values in table.outputs["a"].probabilities.items()} == {
        "x": [0.75, 0.25],
        "y)": [0.25, 0.75],
    }
    assert table.outputs["a_b"].true is None
    assert not table.outputs["a_b"].is_classification
    assert table.outputs["c"].predicted == ["1", "2"]


@pytest.mark.parametrize("text", ["", "name,x\n1,2\n", "id,x\n1\n"])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="not a table of predictions"):
        read_predictions(path)
