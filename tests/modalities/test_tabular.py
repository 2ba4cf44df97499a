"""Tabular inputs: categories and numbers, missing and unseen cells, columns that the data decide, encoders, bundles."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eir_seq.commands import main
from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.resolve import guess_type, resolve
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predictor import Predictor
from eir_seq.modalities import load_modality
from eir_seq.modalities.tabular.codes import KNOWN, MISSING, UNSEEN
from eir_seq.modalities.tabular.config import TabularInputConfig
from eir_seq.modalities.tabular.encoders.columns import PiecewiseLinear
from eir_seq.modalities.tabular.preprocess import FURTHEST, FittedTabular, Tabular, TabularCollator
from eir_seq.randomness import Draw, derive_seed
from eir_seq.rows import Rows
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train

ENCODERS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_size": 32, "num_layers": 1, "dropout": 0.0},
    "mlp piecewise-linear": {"hidden_size": 32, "num_layers": 1, "numeric_embedding": "piecewise-linear", "bins": 8},
    "mlp periodic": {"hidden_size": 32, "num_layers": 1, "numeric_embedding": "periodic", "frequencies": 4},
    "ft-transformer": {"hidden_size": 16, "num_heads": 2, "num_layers": 1, "attention_dropout": 0.0},
    "linear": {"hidden_size": 16},
}
SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


def model(name: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": name.split()[0], "model_init_config": {**ENCODERS[name], **changes}}


def make_rows(path: Path, count: int, seed: int, **more: Sequence[Any]) -> Path:
    """Whether a row is `ill` depends on its ward, on whether its dose is known, and on its age."""
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        ward, old, unknown = draw.choice("abcd"), draw.random() < 0.5, draw.random() < 0.5
        points = (2 if ward in "ab" else -2) + (2 if old else -2) + (3 if unknown else -3)
        age = draw.uniform(61, 90) if old else draw.uniform(10, 59)
        dose = "" if unknown else f"{draw.gauss(0, 1) * 1e5:.1f}"
        lines.append([ward, f"{age:.2f}", dose, "7", draw.choice(["true", "false"]), "yes" if points > 0 else "no"])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ward", "age", "dose", "constant", "flag", "ill", *more])
        writer.writerows([*row, *(values[i] for values in more.values())] for i, row in enumerate(lines))
    return path


def experiment(folder: Path, encoder: str = "mlp", rows: int = 200, **changes: Any) -> Any:
    clinic: dict[str, Any] = {
        "type": "tabular",
        "categorical": ["ward", "flag"],
        "continuous": ["age", "dose", "constant"],
        "model": model(encoder),
    }
    raw: dict[str, Any] = {
        "data": {
            "train": str(make_rows(folder / "train.csv", rows, 0)),
            "test": str(make_rows(folder / "test.csv", 60, 1)),
            "batch_size": 16,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {"clinic": clinic},
        "fusion": {"type": "concat"},
        "outputs": {"ill": {"type": "classification", "column": "ill"}},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_steps": 100, "max_epochs": None, "validate_every": 100, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        raw[key] = {**raw.get(key, {}), **value}
    return validate_experiment(raw)


def predicted(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fitted(columns: dict[str, Any], **options: Any) -> FittedTabular:
    config = TabularInputConfig.model_validate(options)
    return Tabular("clinic", config).fit(Rows(pa.table(columns)), 0)  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_rule_over_categories_numbers_and_missing_cells_is_learnt(tmp_path: Path, encoder: str) -> None:
    train(experiment(tmp_path, encoder))
    rows = predicted(tmp_path / "run/predictions/test.csv")
    assert sum(row["ill"] == row["ill_true"] for row in rows) / len(rows) >= 0.9


def test_a_bundle_predicts_bit_for_bit_and_takes_what_training_never_saw(tmp_path: Path) -> None:
    train(experiment(tmp_path, trainer={"max_steps": 2}))
    bundle = read_bundle(tmp_path / "run/bundle")
    row = {"ward": "a", "flag": True, "age": 20.5, "dose": None, "constant": 7}
    strange = {"ward": "elsewhere", "flag": None, "age": 1e300, "dose": -1e300, "constant": None}
    predictor = Predictor(bundle)
    first, other = predictor.predict([row, strange])
    assert all(math.isfinite(value) for found in (first, other) for value in list(found.values())[1:])
    assert Predictor(read_bundle(tmp_path / "run/bundle")).predict([row, strange]) == [first, other]
    code = main(["predict", f"run={tmp_path / 'run'}", f"data.test={tmp_path / 'test.csv'}"])
    assert code == 0
    again = predicted(tmp_path / "run/predictions/test.predicted.csv")
    tested = predicted(tmp_path / "run/predictions/test.csv")
    assert [row["ill_p(yes)"] for row in again] == [row["ill_p(yes)"] for row in tested]


def test_a_run_that_is_extended_goes_on_where_it_ended(tmp_path: Path) -> None:
    for folder, steps in (("whole", [4]), ("parts", [2, 4])):
        for count in steps:
            limits = {"max_steps": count, "validate_every": None, "keep_optimizer_state": True}
            run = {"dir": str(tmp_path / folder)}
            train(experiment(tmp_path, rows=40, trainer=limits, run=run, scheduler={"type": "constant"}))
    one, two = ((tmp_path / folder / "predictions/test.csv").read_text() for folder in ("whole", "parts"))
    assert one == two


# ------------------------------------------------------------------------------------------------------- encoding


def test_cells_become_ids_and_standard_scores() -> None:
    columns = {"c": ["b", "a", None, "b"], "x": [1.0, None, 3.0, 5.0], "same": [0.1, 0.1, 0.1, 0.1]}
    table = fitted(columns, categorical=["c"], continuous=["x", "same"])
    assert table.state["categories"] == [["a", "b"]]
    assert table.lacking == [True, False]
    encoded = table.encode({"c": ["a", "b", None, "z"], "x": [3.0, None, 1.0, 1e300], "same": [0.1, 1.1, None, 0.1]})
    assert encoded["categories"].to_numpy_ndarray().ravel().tolist() == [KNOWN, KNOWN + 1, MISSING, UNSEEN]
    scale = np.std([1, 3, 5])
    expected = [[0, 0], [np.nan, 1], [-2 / scale, np.nan], [FURTHEST, 0]]
    np.testing.assert_allclose(encoded["numbers"].to_numpy_ndarray(), expected, rtol=1e-6)


def test_a_category_is_known_however_a_file_writes_it() -> None:
    table = fitted({"n": ["1", "2"], "b": ["true", "false"], "zip": ["01", "1"]}, categorical=["n", "b", "zip"])
    given = {"n": ["1.0", " 2", "1.5"], "b": ["True", "FALSE", "no"], "zip": ["01", "1.0", "001"]}
    ids = table.encode(given)["categories"].to_numpy_ndarray()
    assert ids[:, 0].tolist() == [KNOWN, KNOWN + 1, UNSEEN]
    assert ids[:, 1].tolist() == [KNOWN + 1, KNOWN, UNSEEN]
    assert ids[:, 2].tolist() == [KNOWN, KNOWN + 1, UNSEEN]


def test_a_row_is_shown_with_the_names_of_its_columns() -> None:
    config = TabularInputConfig.model_validate({"categorical": ["ward"], "continuous": ["age", "dose"]})
    rows = pa.table({"ward": ["a", None, "1.0"], "age": [61.0, 7.25, 3.0], "dose": pa.array([1e5, None, math.nan])})
    fitted = FittedTabular("clinic", config, {})
    shown = fitted.show({name: rows.column(name).to_pylist() for name in rows.column_names})
    assert shown == ["ward a, age 61, dose 100000", "ward –, age 7.25, dose –", "ward 1, age 3, dose –"]


def test_rare_categories_are_read_as_unseen_ones() -> None:
    table = fitted({"c": ["a", "a", "b"]}, categorical=["c"], min_freq=2)
    assert table.encode({"c": ["a", "b"]})["categories"].to_numpy_ndarray().ravel().tolist() == [KNOWN, UNSEEN]


def test_training_reads_some_categories_as_unseen_and_evaluation_none() -> None:
    table = fitted({"c": ["a", None] * 500}, categorical=["c"], unseen=0.2)
    encoded = EncodedInMemory(table, {"c": ["a", None] * 500})
    rows = list(range(1000))
    assert table.collator(encoded, rows, Draw(0))["categories"].eq(UNSEEN).sum() == 0
    drawn = table.collator(encoded, rows, Draw(0, 1))["categories"]
    assert drawn[1::2].eq(MISSING).all()
    assert 60 < int(drawn.eq(UNSEEN).sum()) < 140  # 100 expected, a standard deviation of 9
    assert torch.equal(drawn[[7, 2]], table.collator(encoded, [7, 2], Draw(0, 1))["categories"])
    assert not torch.equal(drawn, table.collator(encoded, rows, Draw(0, 2))["categories"])


def test_drawn_numbers_are_uniform() -> None:
    drawn = Draw(derive_seed(0, "test"), 3).uniforms(range(2000), 5, "a")
    assert drawn.shape == (2000, 5)
    assert 0 <= drawn.min() < drawn.max() < 1
    np.testing.assert_allclose(np.histogram(drawn, 10, (0, 1))[0] / drawn.size, 0.1, atol=0.012)  # 4 deviations
    assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.09


def test_the_fitted_input_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    options = {"model": model("mlp piecewise-linear")}
    columns = {"c": ["b", "a", "ü"], "x": [0.1, 1e-7, math.pi], "same": [1.0, 1.0, 1.0]}
    table = fitted(columns, categorical=["c"], continuous=["x", "same"], **options)
    table.save(tmp_path)
    again = load_modality(tmp_path)
    assert isinstance(again, FittedTabular)
    assert (again.fingerprint(), again.state, again.config) == (table.fingerprint(), table.state, table.config)
    assert again.edges[1:] == [[-1.0, 1.0]]


def test_piecewise_linear_parts_are_those_of_the_paper() -> None:
    """Section 3.2: below the first edge and above the last the end bins go on, a bin between is cut to 0 and 1."""
    part = PiecewiseLinear([[0.0, 1.0, 3.0, 4.0], [0.0, 2.0]])
    numbers = torch.tensor([[-0.5, 1.0], [2.0, 3.0], [5.0, -1.0]])
    expected = [[[-0.5, 0, 0], [0.5, 0, 0]], [[1, 0.5, 0], [1.5, 0, 0]], [[1, 1, 2], [-0.5, 0, 0]]]
    assert part(numbers).tolist() == expected


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_missing_number_has_a_value_of_its_own_and_gradients_are_finite(encoder: str) -> None:
    columns = {"c": ["a", "b", None, "b"], "x": [1.0, None, 3.0, 5.0]}
    table = fitted(columns, categorical=["c"], continuous=["x"], model=model(encoder))
    network: Any = table.build_encoder(None)  # type: ignore[arg-type]
    encoded = EncodedInMemory(table, {name: list(values) for name, values in columns.items()})
    tensors = table.collator(encoded, range(4), Draw(0))
    network.eval()
    network(**tensors).square().sum().backward()
    assert all(x.grad is None or bool(x.grad.isfinite().all()) for x in network.parameters())
    mean = {**tensors, "numbers": torch.where(tensors["numbers"].isnan(), 0.0, tensors["numbers"])}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
        changed = (network(**tensors) - network(**mean)).abs().amax(dim=1) > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_an_ft_transformer_has_a_state_per_column() -> None:
    columns = {"c": ["a", "b"], "d": ["a", "b"], "x": [1.0, 2.0]}
    table = fitted(columns, categorical=["c", "d"], continuous=["x"], model=model("ft-transformer"))
    network: Any = table.build_encoder(None)  # type: ignore[arg-type]
    encoded = EncodedInMemory(table, columns)
    states = network.read(**TabularCollator("clinic", 0)(encoded, [0, 1], Draw(0)))
    assert states.states.shape == (2, 3, 16)
    assert states.mask.all()


# ------------------------------------------------------------------------------------------------- missing inputs


def test_a_row_lacks_the_input_where_all_of_its_columns_are_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("ward,age,word,ill\n" + "a,1,one,yes\n,,two,no\n,3,,no\nb,,three,yes\n" * 4)
    raw = experiment(tmp_path).model_dump(mode="json")
    raw["data"] |= {"train": str(path), "test": None, "on_missing": "keep", "validation": None}
    raw["inputs"] = {
        "clinic": {"type": "tabular", "categorical": ["ward"], "continuous": ["age"]},
        "word": {"column": "word", "model": {"model_type": "sequence-default", "model_init_config": SMALL}},
    }
    raw["trainer"] = {"max_epochs": 1, "accelerator": "cpu"}
    config = validate_experiment(raw)
    assert load_splits(config).missing["train"] == {"inputs.clinic": 4, "inputs.word": 4}
    path.write_text("ward,age,word,ill\n" + "a,1,one,yes\n" * 5 + ",,,no\n")
    with pytest.raises(UserError) as refused:
        load_splits(config)
    assert str(refused.value) == f"{path} line 7: 'word' is empty; data.on_bad_row=skip leaves such rows out"


def test_single_missing_cells_are_no_fault(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    (tmp_path / "train.csv").write_text(
        "ward,age,dose,constant,flag,ill\n" + "a,NA,1,7,,yes\n,nan,,7,true,no\nb,40,None,7,false,no\n" * 3
    )
    train_rows = load_splits(config).train
    assert train_rows is not None
    assert set(train_rows["age"]) == {None, 40.0}
    train(config.model_copy(update={"trainer": config.trainer.model_copy(update={"max_steps": 2})}))


def test_wrong_numbers_are_named_by_row(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    (tmp_path / "train.csv").write_text("ward,age,dose,constant,flag,ill\na,12,1,7,,yes\na,old,1,7,,no\n")
    with pytest.raises(UserError, match=r"train.csv line 3: 'age' is 'old', not a number; data.on_bad_row=skip"):
        load_splits(config)


def test_columns_that_rows_to_predict_lack_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(experiment(tmp_path, trainer={"max_steps": 2}, rows=30))
    (tmp_path / "new.csv").write_text("ward,flag,dose\na,true,1\n")
    capsys.readouterr()
    assert main(["predict", f"run={tmp_path / 'run'}", f"data.test={tmp_path / 'new.csv'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("inputs.clinic.continuous: no columns 'age' and 'constant' in ")


# --------------------------------------------------------------------------------------------- columns by the data


def test_patterns_and_auto_take_what_is_left(tmp_path: Path) -> None:
    count = 40
    more: dict[str, Sequence[Any]] = {
        "patient": [f"p{i}" for i in range(count)],
        "lab_a": [i / 3 for i in range(count)],
        "lab_b": [i % 3 for i in range(count)],
        "note": [f"some words {i}" for i in range(count)],
        "number": list(range(100, 100 + count)),
        "visits": [i * 2 for i in range(count)],
        "empty": [""] * count,
    }
    raw = experiment(tmp_path).model_dump(mode="json")
    raw["data"] |= {"train": str(make_rows(tmp_path / "wide.csv", count, 0, **more)), "test": None, "id": "patient"}
    raw["inputs"]["clinic"] = {"type": "tabular", "continuous": ["lab_*"], "columns": "auto"}
    raw["trainer"]["max_steps"] = 2
    config = validate_experiment(raw)
    settled, said = resolve(config)
    clinic: Any = settled.inputs["clinic"]
    assert clinic.categorical == ["ward", "flag"]
    assert clinic.continuous == ["lab_a", "lab_b", "age", "dose", "visits"]
    assert clinic.choice == "exact"
    assert said == [
        "inputs.clinic.continuous: lab_* stands for lab_a, lab_b",
        "inputs.clinic.categorical: took ward, flag (texts)",
        "inputs.clinic.continuous: took age, dose, visits (numbers)",
        "inputs.clinic: left out 'constant': it is the same in all rows",
        "inputs.clinic: left out 'note': 40 of its 40 texts differ, as ids and free texts do",
        "inputs.clinic: left out 'number': it numbers the rows",
        "inputs.clinic: left out 'empty': it has no values",
    ]
    train(config)
    assert "took age, dose, visits" in (tmp_path / "run/log.txt").read_text()
    written = read_bundle(tmp_path / "run/bundle").config.inputs["clinic"]
    assert written == clinic
    train(config)  # it is finished, which the config in the run's folder must not hide


def test_guesses_go_by_type_and_by_how_many_values_differ() -> None:
    def guess(values: Any) -> tuple[str | None, str]:
        found = guess_type(pa.chunked_array([values]), {"NA"})
        return found.type, found.reason

    assert guess([True, False]) == ("category", "truth values")
    assert guess([1, 2, 1, None]) == ("category", "integers with at most 10 different values")
    assert guess([1.5, 2, 1, None]) == ("number", "numbers")
    assert guess(["1", "NA", "3", " 1"]) == ("category", "integers with at most 10 different values")
    assert guess([i % 11 for i in range(100)]) == ("number", "numbers")
    assert guess(["x", None]) == ("category", "texts")
    assert guess([[1], [2]])[0] is None
    assert guess(["12", "x", "13"] * 2) == ("category", "texts")


@pytest.mark.parametrize(
    ("clinic", "said"),
    [
        ({}, "inputs.clinic: reads no column; name some in categorical and continuous, or write columns: auto"),
        ({"categorical": ["ward", "ward"]}, "inputs.clinic.categorical: names 'ward' twice"),
        ({"categorical": ["age"], "continuous": ["age"]}, "inputs.clinic.continuous: 'age' is categorical as well"),
        ({"categorical": ["ill"]}, "inputs.clinic.categorical: column 'ill' is the target of outputs.ill"),
        ({"columns": "all"}, "inputs.clinic.columns: 'all' is not one of 'patterns', 'exact', 'auto'"),
        ({"continuous": ["labs_*"]}, "inputs.clinic.continuous: no column matches 'labs_*'"),
        (
            {"continuous": ["a*"], "categorical": ["*e"]},
            "inputs.clinic.continuous: age are categorical as well",
        ),
        (
            {"continuous": ["age"], "model": {"model_type": "ft-transformer", "model_init_config": {"num_heads": 5}}},
            "inputs.clinic.model.model_init_config.num_heads: 5 heads do not divide hidden_size 192",
        ),
        (
            {"continuous": ["age"], "model": {"model_init_config": {"bins": 5}}},
            "inputs.clinic.model.model_init_config.bins: has no effect with numeric_embedding: linear",
        ),
        (
            {"continuous": ["age"], "model": {"model_init_config": {"numeric_embeding": "periodic"}}},
            "inputs.clinic.model.model_init_config.numeric_embeding: unknown key",
        ),
    ],
)
def test_wrong_columns_and_options_are_named(tmp_path: Path, clinic: dict[str, Any], said: str) -> None:
    raw = experiment(tmp_path, rows=20).model_dump(mode="json")
    raw["inputs"]["clinic"] = {"type": "tabular", **clinic}
    with pytest.raises(UserError) as refused:
        resolve(validate_experiment(raw))
    assert str(refused.value).splitlines()[0].startswith(said)


def test_names_that_hold_signs_of_patterns_are_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"p*": [1.0, 2.5, 4.0] * 5, "pq": [1.0, 2.0, 3.0] * 5, "ill": ["a", "b", "a"] * 5}), path)
    raw = experiment(tmp_path, rows=20).model_dump(mode="json")
    raw["data"] |= {"train": str(path), "test": None}
    raw["inputs"]["clinic"] = {"type": "tabular", "continuous": ["p*"]}
    clinic: Any = resolve(validate_experiment(raw))[0].inputs["clinic"]
    assert clinic.continuous == ["p*"]
    assert list(clinic.columns()) == ["p*"]


def test_two_tables_and_a_text_may_read_one_column(tmp_path: Path) -> None:
    config = experiment(tmp_path, trainer={"max_steps": 2}, rows=30)
    raw = config.model_dump(mode="json")
    raw["inputs"]["again"] = {**raw["inputs"]["clinic"], "model": model("ft-transformer")}
    text = {"text": "{ward}", "model": {"model_type": "sequence-default", "model_init_config": SMALL}}
    raw["inputs"] |= {"words": text, "characters": {**text, "tokenizer": {"type": "character"}}}
    result = train(validate_experiment(raw))
    assert result["status"] == "finished"
    assert json.loads((tmp_path / "run/bundle/inputs/again/input.json").read_text())["name"] == "again"


def test_a_wide_table_is_encoded_without_a_python_object_per_cell() -> None:
    numbers = np.random.default_rng(0).normal(size=(300, 256))
    columns = {f"x{i}": numbers[i] for i in range(300)} | {f"c{i}": ["a", "b"] * 128 for i in range(20)}
    table = fitted(columns, categorical=[f"c{i}" for i in range(20)], continuous=[f"x{i}" for i in range(300)])
    encoded = table.encode_table(pa.table(columns))
    assert encoded["numbers"].type.shape == [300]
    assert encoded["categories"].type.shape == [20]
