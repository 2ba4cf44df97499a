"""Outputs of arrays and pictures from a config to files: an autoencoder, classes, a U-Net, rows that lack a target."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from eir_seq.training.sample_arrays import read_sample_arrays

SMALL = {"channels": 4, "multipliers": [1, 2], "attention_heads": 1}
INPUTS: dict[str, Any] = {
    "wave": {"type": "array", "column": "wave", "model": {"model_type": "linear"}},
    "gray": {"type": "image", "column": "gray", "size": [6, 9], "mode": "L", "model": {"model_type": "identity"}},
}
OUTPUTS: dict[str, Any] = {
    "again": {"type": "array", "column": "wave", "normalization": "element"},
    "codes": {"type": "array", "column": "codes", "loss": "categorical", "model": {"model_type": "lcl"}},
    "colour": {
        "type": "image",
        "column": "colour",
        "model": {"model_type": "unet", "inputs": ["gray"], "model_init_config": SMALL},
    },
    "side": {"type": "classification", "column": "side"},
}


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def write_rows(folder: Path, name: str, rows: int, seed: int) -> Path:
    """Every third row lacks the target of codes or of colours."""
    random = np.random.default_rng(seed)
    table = []
    for row in range(rows):
        stem = f"{name}{row}"
        wave = random.normal(size=(2, 7)).astype(np.float32)
        np.savez(folder / f"{stem}.npz", wave=wave, codes=(wave > 0) + 3)
        pixels = random.integers(0, 256, (6, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}.png")
        Image.fromarray(pixels[:, :, 0]).save(folder / f"{stem}_gray.png")
        cells = [f"{stem}.npz:codes", f"{stem}.png"]
        if row % 3 == 0:
            cells[row // 3 % 2] = ""
        table.append([stem, f"{stem}.npz:wave", f"{stem}_gray.png", *cells, "ab"[row % 2]])
    return write_table(folder / f"{name}.csv", table)


def write_table(path: Path, table: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "wave", "gray", "codes", "colour", "side"])
        writer.writerows(table)
    return path


def table_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def experiment(folder: Path, outputs: dict[str, Any] = OUTPUTS, run: str = "run") -> ExperimentConfig:
    settings = {"id": "id", "batch_size": 8, "on_missing": "keep"}
    return validate_experiment(
        {
            "data": {**{name: str(folder / f"{name}.csv") for name in ("train", "validation", "test")}, **settings},
            "inputs": INPUTS,
            "fusion": {"type": "mlp-residual", "hidden_size": 8, "num_layers": 1},
            "outputs": outputs,
            "trainer": {"max_epochs": 2, "accelerator": "cpu"},
            "run": {"dir": str(folder / run)},
            "cache": {"dir": str(folder / "cache")},
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    for seed, (name, rows) in enumerate((("train", 24), ("validation", 9), ("test", 7))):
        write_rows(folder, name, rows, seed)
    train(experiment(folder), finish=write_report)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predict_writes_the_files_of_the_run(finished: Path) -> None:
    run = finished / "run"
    table = predict(run, test=str(finished / "test.csv"), output=finished / "test.csv.out", accelerator="cpu")
    again, first = rows_of(table), rows_of(run / "predictions" / "test.csv")
    assert [row["id"] for row in again] == [f"test{number}" for number in range(7)]
    for row, other in zip(again, first, strict=True):
        for name, suffix, shape in (("again", "npy", (2, 7)), ("codes", "npy", (2, 7)), ("colour", "png", (6, 9, 3))):
            assert row[name] == f"test.csv.out.files/{name}/{row['id']}.{suffix}"
            content = (finished / row[name]).read_bytes()
            assert content == (run / "predictions" / other[name]).read_bytes()
            path = finished / row[name]
            value = np.load(path) if suffix == "npy" else np.asarray(Image.open(path))
            assert value.shape == shape
            if name == "codes":
                assert set(np.unique(value)) <= {3, 4}
        assert row["again_true"] == f"{finished}/{row['id']}.npz:wave"
    result = json.loads((run / "result.json").read_text())
    assert json.loads((finished / "test.csv.out.metrics.json").read_text()) == result["test"]
    assert result["test"]["again"].keys() == {"loss", "mse", "mae", "r2", "cosine"}
    assert result["test"]["codes"].keys() >= {"loss", "accuracy", "dice", "mcc", "dice(3)", "dice(4)"}
    assert result["test"]["colour"].keys() == {"loss", "mse", "mae", "r2", "cosine", "psnr"}


def test_rows_without_targets_are_predicted_and_not_measured(finished: Path) -> None:
    rows = rows_of(finished / "run" / "predictions" / "test.csv")
    for number, row in enumerate(rows):
        lacks = (number % 3 == 0, number // 3 % 2)
        assert (row["codes_true"] == "") == (lacks == (True, 0))
        assert (row["colour_true"] == "") == (lacks == (True, 1))
        assert row["codes"]
        assert row["colour"]


def test_in_memory_predictions_are_arrays(finished: Path) -> None:
    given = {
        "wave": np.zeros((2, 7)).tolist(),
        "gray": str(finished / "test1_gray.png"),
    }
    bundle = read_bundle(finished / "run" / "bundle")
    predictor = Predictor(bundle, accelerator="cpu", file_dir=finished)
    [row], [same] = predictor.predict([given]), predictor.predict([given | {"wave": np.zeros((2, 7), np.float32)}])
    np.testing.assert_array_equal(row["again"], same["again"])
    assert row["again"].dtype == np.float32
    assert row["again"].shape == row["codes"].shape == (2, 7)
    assert row["colour"].shape == (6, 9, 3)
    assert row["colour"].dtype == np.uint8


def test_the_report_shows_samples_of_every_evaluation(finished: Path) -> None:
    run = finished / "run"
    found = read_sample_arrays(run)
    assert found.keys() == {"again", "codes", "colour"}
    assert list(found["codes"]) == ["3", "6", "test", "validation"]
    shown = found["codes"]["test"]
    assert list(shown.ids[: shown.even]) == ["test1", "test2", "test4", "test5"]  # of those that have a target
    assert list(shown.errors[shown.even :]) == sorted(shown.errors[shown.even :], reverse=True)
    for row, name in enumerate(shown.ids):
        true = np.load(finished / f"{name}.npz")["codes"]
        np.testing.assert_array_equal(shown.arrays["true"][row, 0] + 3, true)
    page = (run / "report" / "index.html").read_text()
    for title in ("Predicted and true", "Worst rows", "During training", "Dice"):
        assert title in page
    # five plots of each output, and the colour bars of the two that are no pictures
    assert page.count('xlink:href="data:image/png') == 25


def test_the_report_names_files_as_the_data_do(finished: Path) -> None:
    page = (finished / "run" / "report" / "index.html").read_text()
    assert str(finished) in (finished / "run" / "report" / "data.json").read_text()
    before_config = page.partition('id="config"')[0]
    assert f"{finished}/" not in before_config


def test_the_report_of_a_run_that_goes_on_has_samples(finished: Path, tmp_path: Path) -> None:
    """Before there are predictions."""
    for name in ("config.yaml", "manifest.json", "metrics.csv"):
        (tmp_path / name).write_bytes((finished / "run" / name).read_bytes())
    for step in (3, 6):
        folder = tmp_path / "samples" / "colour"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{step}.npz").write_bytes((finished / f"run/samples/colour/{step}.npz").read_bytes())
    assert "During training" in write_report(tmp_path).read_text()
    (tmp_path / "samples" / "colour" / "3.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="samples: is damaged"):
        write_report(tmp_path)


def damaged(folder: Path, changes: dict[int, dict[int, str]], name: str) -> Path:
    """The test table with other cells, by row and column."""
    table = table_of(folder / "test.csv")
    for row, cells in changes.items():
        for column, cell in cells.items():
            table[row][column] = cell
    return write_table(folder / name, table)


@pytest.fixture
def bad(finished: Path) -> Path:
    """A table of test rows with targets that cannot be used."""
    np.save(finished / "short.npy", np.array([[3, 4]]))
    np.save(finished / "halves.npy", np.full((2, 7), 3.5))
    np.save(finished / "new.npy", np.full((2, 7), 9))
    (finished / "cut.npy").write_bytes((finished / "new.npy").read_bytes()[:140])
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(finished / "small.png")
    changes = {1: {3: "short.npy"}, 2: {3: "halves.npy", 4: "small.png"}, 4: {3: "cut.npy"}, 5: {3: "no.npy"}}
    return damaged(finished, changes, "bad.csv")


def test_targets_that_cannot_be_used_are_refused_by_row(finished: Path, bad: Path) -> None:
    """All of them together, and nothing is written."""
    with pytest.raises(UserError) as caught:
        predict(finished / "run", test=str(bad), output=finished / "no.csv", accelerator="cpu")
    messages = [f"{fault.place}: {fault.message}" for fault in caught.value.faults]
    wanted = [
        r"bad.csv line 3: 'codes' names .*short.npy, an array of 1 x 2; the model predicts 2 x 7",
        r"bad.csv line 4: 'codes' names .*halves.npy, which cannot be read \(it has the value 3.5; classes .*\)",
        r"bad.csv line 6: 'codes' names .*cut.npy, which cannot be read",
        r"bad.csv line 7: 'codes' names .*no.npy, which is no file",
        r"bad.csv line 4: 'colour' names .*small.png, a picture of 4 x 4 pixels \(height x width\); the model predicts",
    ]
    for pattern in wanted:
        assert any(re.search(pattern, message) for message in messages), (pattern, messages)
    assert not (finished / "no.csv").exists()
    assert not (finished / "no.files").exists()


def test_bad_targets_are_skipped_with_their_reasons(finished: Path, bad: Path) -> None:
    table = damaged(finished, {6: {3: "new.npy"}}, "unknown.csv")
    for path, skipped in ((bad, {"test1", "test2", "test4", "test5"}), (table, {"test6"})):
        written = predict(
            finished / "run",
            test=str(path),
            output=finished / "skipped.csv",
            accelerator="cpu",
            reading={"on_bad_row": "skip"},
        )
        rows = {row["id"]: row for row in rows_of(written)}
        assert {name for name, row in rows.items() if row["not predicted"]} == skipped
        files = {path.stem for path in (finished / "skipped.files" / "codes").iterdir()}
        assert files == rows.keys() - skipped


def faults_of(folder: Path, **outputs: Any) -> dict[str, str]:
    with pytest.raises(UserError) as caught:
        experiment(folder, {**OUTPUTS, **outputs})
    return {fault.place: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("output", "place", "message"),
    [
        ({"type": "array", "column": "wave", "dice_weight": 2.0}, "dice_weight", "has no effect with loss 'mse'"),
        (
            {"type": "array", "column": "codes", "loss": "categorical", "normalization": "none"},
            "normalization",
            "has no effect with loss 'categorical'",
        ),
        ({"type": "array", "column": "wave", "member": "x"}, "member", "'x' differs from inputs.wave.member"),
        ({"type": "image", "column": "colour", "resize": "crop"}, "resize", "has no effect without size"),
        ({"type": "image", "column": "colour", "model": {"model_type": "cmn"}}, "model", "'cnn'"),
        (
            {"type": "image", "column": "colour", "model": {"model_type": "unet"}},
            "model.model_type",
            "set inputs.wave.model.model_type=identity",
        ),
        (
            {"type": "image", "column": "colour", "model": {"model_type": "unet", "inputs": ["grey"]}},
            "model.inputs[0]",
            "'grey' is no input (there are: 'wave', 'gray'); did you mean 'gray'?",
        ),
        (
            {"type": "image", "column": "colour", "dropout": 0.1, "model": {"model_type": "unet", "inputs": ["gray"]}},
            "dropout",
            "has no effect with model unet",
        ),
        ({"type": "image", "column": "wave"}, "column", "is the target of outputs.other"),
        ({"type": "regression", "column": "wave"}, "column", "wave"),
    ],
)
def test_options_that_do_not_fit_are_refused(output: dict[str, Any], place: str, message: str, tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        write_table(tmp_path / f"{name}.csv", [])
    found = faults_of(tmp_path, other=output)
    assert any(message in text for at, text in found.items() if place in at or "inputs.wave" in at), found


def test_a_unet_reads_inputs_of_its_size(finished: Path) -> None:
    output = {**OUTPUTS["colour"], "size": 8}
    with pytest.raises(UserError, match=re.escape("inputs.gray has 54 values per row, which are no channels of 8 x 8")):
        train(experiment(finished, {"colour": output, "side": OUTPUTS["side"]}, run="other"))
