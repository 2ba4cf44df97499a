"""Texts of several columns: the template, the rows, training and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eir_seq.commands import main
from eir_seq.config.template import Template
from eir_seq.config.validation import validate_experiment
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predictor import Predictor
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train

TINY = {"embedding_dim": 16, "num_heads": 2, "num_layers": 1}
TEXT = "{title}: {body}"


def experiment(folder: Path, rows: str, **changes: Any) -> Any:
    (folder / "rows.csv").write_text(rows)
    source = {"text": TEXT, "model": {"model_type": "sequence-default", "model_init_config": TINY}}
    return validate_experiment(
        {
            "data": {"train": str(folder / "rows.csv"), "validation": None, "cache_dir": str(folder / "cache")},
            "inputs": {"review": {**source, **changes}},
            "outputs": {"mood": {"type": "classification", "column": "mood"}},
            "trainer": {"max_steps": 2, "accelerator": "cpu"},
            "run": {"dir": str(folder / "run")},
        }
    )


ROWS = "title,body,mood\nA bird,sings,good\n,only a body,bad\nOnly a title,,good\n7,x{y},bad\n"


def test_parts_are_joined_and_missing_ones_are_empty(tmp_path: Path) -> None:
    splits = load_splits(experiment(tmp_path, ROWS))
    assert splits.train is not None
    assert splits.train[TEXT] == ["A bird: sings", ": only a body", "Only a title: ", "7: x{y}"]


def test_a_run_predicts_from_the_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(experiment(tmp_path, ROWS))
    assert main(["predict", f"run={tmp_path / 'run'}", f"data.test={tmp_path / 'rows.csv'}"]) == 0
    predictor = Predictor(read_bundle(tmp_path / "run/bundle"))
    assert predictor.predict([{"title": "A", "body": None}]) == predictor.predict([{"title": "A", "body": ""}])
    with pytest.raises(UserError, match="column 'body' is not in the rows"):
        predictor.predict([{"title": "A"}])
    (tmp_path / "new.csv").write_text("name,body\na,b\n")
    capsys.readouterr()
    assert main(["predict", f"run={tmp_path / 'run'}", f"data.test={tmp_path / 'new.csv'}"]) == 2
    assert capsys.readouterr().err.startswith("inputs.review.text: no column 'title' in ")


def test_numbers_of_other_files_are_parts_and_lists_are_not(tmp_path: Path) -> None:
    config = experiment(tmp_path, ROWS)
    columns = {"title": [1, None, 3], "body": [0.5, 1.0, None], "mood": ["good", "bad", "bad"]}
    for name, values in {"body": columns["body"], "list": [["a"], ["b"], ["c"]]}.items():
        pq.write_table(pa.table({**columns, "body": values}), tmp_path / f"{name}.parquet")
    data = config.data.model_copy(update={"train": str(tmp_path / "body.parquet")})
    splits = load_splits(config.model_copy(update={"data": data}))
    assert splits.train is not None
    assert splits.train[TEXT] == ["1: 0.5", ": 1", "3: "]
    data = config.data.model_copy(update={"train": str(tmp_path / "list.parquet")})
    with pytest.raises(UserError, match=r"column 'body', of which texts are made, holds list<"):
        load_splits(config.model_copy(update={"data": data}))


def test_a_row_without_any_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.csv line 3: '{title}: {body}' is missing"):
        load_splits(experiment(tmp_path, "title,body,mood\na,b,good\n, ,bad\nc,d,bad\n"))


def test_braces_and_repeated_columns() -> None:
    template = Template.parse("{{{a}}} {b c} {a}")
    assert template.columns == ("a", "b c")
    assert template.filled(["1", None]) == "{1}  1"
    assert template.filled([None, " "]) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "{title"}, "inputs.review.text: has a single '{' at character 1; write {{ for one"),
        ({"text": "a}"}, "inputs.review.text: has a single '}' at character 2; write }} for one"),
        ({"text": "{}"}, "inputs.review.text: has no name of a column in the braces at character 1"),
        ({"text": "title"}, "inputs.review.text: names no column; write {NAME} for the text of one"),
        ({"text": "{title} {mood}"}, "inputs.review.text: column 'mood' is the target of outputs.mood"),
        ({"column": "title"}, "inputs.review.text: cannot be given beside column; keep one of them"),
        ({"is_split_into_words": True}, "inputs.review.is_split_into_words: must be false: text joins texts"),
        ({"text": None}, "inputs.review.column: is missing"),
    ],
)
def test_wrong_templates_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        experiment(tmp_path, ROWS, **changes)
    assert said in str(refused.value)
