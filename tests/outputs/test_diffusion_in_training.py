"""Experiments with `loss: diffusion`, from YAML to generated files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import RunFiles, render_report
from eir_seq.training.bundle import read_bundle
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from tests.readme import ROOT, blocks

pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def write_pictures(folder: Path, rows: int = 24) -> Path:
    """Bright squares, on the left or on the right; `level` says where."""
    draw = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "level", "picture", "array"])
        for row in range(rows):
            pixels = draw.integers(0, 60, (6, 8), dtype=np.uint8)
            pixels[2:4, 1 + 4 * (row % 2) : 3 + 4 * (row % 2)] = 255
            Image.fromarray(pixels).save(folder / f"{row}.png")
            array = pixels.astype(np.float32)
            array[0, 0] = np.nan
            np.save(folder / f"{row}.npy", array)
            table.writerow([f"r{row}", "left" if row % 2 == 0 else "right", f"{row}.png", f"{row}.npy"])
    return folder / "rows.csv"


OUTPUT: dict[str, Any] = {
    "type": "image",
    "column": "picture",
    "size": [6, 8],
    "mode": "L",
    "loss": "diffusion",
    "diffusion": {
        "steps": 20,
        "inference_steps": 2,
        "guidance": 1.5,
        "sample_rows": 3,
        "unet": {"channels": 4, "multipliers": [1, 2]},
    },
}


def changed(**diffusion: Any) -> dict[str, Any]:
    return {**OUTPUT, "diffusion": {**OUTPUT["diffusion"], **diffusion}}


def config(folder: Path, outputs: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {
        "inputs": {"level": {"type": "tabular", "categorical": ["level"]}},
        "outputs": outputs,
        "data": {
            "train": str(folder / "rows.csv"),
            "validation": 8,
            "test": 4,
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "averaging": {"type": "ema", "decay": 0.9}},
        "run": {"dir": str(folder / "run")},
        **sections,
    }


ARRAY = {
    "type": "array",
    "column": "array",
    "loss": "diffusion",
    "head": "mlp-residual",
    "dropout": 0.1,
    "diffusion": {**OUTPUT["diffusion"], "sampler": "dpm-solver"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion")
    write_pictures(folder)
    outputs = {"picture": OUTPUT, "field": ARRAY, "level": {"type": "classification", "column": "side"}}
    text = (folder / "rows.csv").read_text().replace("level,", "level,side,").splitlines()
    lines = [text[0], *(line.replace("left", "left,l").replace("right", "right,r") for line in text[1:])]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    train(validate_experiment(config(folder, outputs)))
    return folder / "run"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_samples_are_drawn_for_some_validation_rows_and_all_test_rows(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    for name in ("picture", "field"):
        for split in ("validation", "test"):
            assert {"loss", "mse", "cosine"} <= result[split][name].keys()
        drawn = {
            split: [row[name] for row in table(run / f"predictions/{split}.csv")] for split in ("validation", "test")
        }
        assert sum(cell != "" for cell in drawn["validation"]) == 3
        assert all(drawn["test"])
    cells = table(run / "predictions/test.csv")
    with Image.open(run / "predictions" / cells[0]["picture"]) as picture:
        assert picture.size == (8, 6)
        assert picture.mode == "L"
    array = np.load(run / "predictions" / cells[0]["field"])
    assert array.shape == (6, 8)
    assert np.isfinite(array).all()
    assert array.min() >= -1e-3  # clipped to the range of the training rows
    assert array.max() <= 255 + 1e-3


def test_rows_alone_are_enough_to_predict_in_any_order_and_batch(run: Path, tmp_path: Path) -> None:
    wanted = [("r1", "left"), ("r7", "right"), ("x", "left")]
    files: list[dict[str, bytes]] = []
    for rows, size in ((wanted, 2), (wanted[::-1], 3)):
        folder = tmp_path / str(size)
        folder.mkdir()
        content = "".join(f"{name},{level}\n" for name, level in rows)
        (folder / "new.csv").write_text(f"id,level\n{content}")
        predict(run, test=str(folder / "new.csv"), output=folder / "out.csv", batch_size=size, accelerator="cpu")
        found = {row["id"]: row["picture"] for row in table(folder / "out.csv")}
        files.append({name: (folder / path).read_bytes() for name, path in found.items()})
    assert files[0] == files[1]
    assert len(set(files[0].values())) == 3
    bundle = read_bundle(run / "bundle")
    [row] = Predictor(bundle, accelerator="cpu").predict([{"level": "left"}])
    assert row["picture"].shape == row["field"].shape == (6, 8)
    assert row["level"] in ("l", "r")


def test_the_sampler_may_be_another_one_in_predict(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,level\na,left\n")
    found = []
    for options in ({}, {"guidance": 4.0}, {"sampler": "ddpm", "inference_steps": 5}):
        predict(run, test=str(tmp_path / "new.csv"), output=tmp_path / "out.csv", accelerator="cpu", generation=options)
        found.append(np.load(tmp_path / table(tmp_path / "out.csv")[0]["field"]))
    assert (found[1] != found[0]).any()
    assert (found[2] != found[0]).any()
    with pytest.raises(UserError, match=r"generation.steps.* is not an option of a sampler .*inference_steps"):
        predict(run, test=str(tmp_path / "new.csv"), generation={"steps": 7})
    with pytest.raises(UserError, match=r"generation.inference_steps.* 21 is more than the 20"):
        predict(run, test=str(tmp_path / "new.csv"), generation={"inference_steps": 21})
    with pytest.raises(UserError, match=r"generation.guidance"):
        predict(run, test=str(tmp_path / "new.csv"), generation={"guidance": "much"})
    with pytest.raises(UserError) as caught:
        predict(run, test=str(tmp_path / "new.csv"), generation={"guidence": 2, "eta": 3, "inference_steps": 0})
    assert [fault.place for fault in caught.value.faults] == [
        "generation.guidence",
        "generation.inference_steps",
        "generation.eta",
    ]
    assert "did you mean 'guidance'?" in caught.value.faults[0].message


@pytest.mark.slow
def test_a_compiled_network_has_the_same_losses(tmp_path: Path) -> None:
    """Levels and noise are those that are drawn without a compiler."""
    write_pictures(tmp_path)
    unet = {"channels": 4, "multipliers": [1], "attention_heads": 0}
    output = changed(unet=unet, inputs=["photo"], sample_rows=0, guidance=1.0)
    inputs = {"photo": {**PHOTO, "model": {"model_type": "identity"}}}
    losses = []
    for compiled in (False, True):
        trainer = {"max_epochs": 1, "accelerator": "cpu", "compile": compiled}
        sections = {"inputs": inputs, "trainer": trainer, "run": {"dir": str(tmp_path / str(compiled))}}
        train(validate_experiment(config(tmp_path, {"picture": output}, **sections)))
        rows = read_metrics(tmp_path / str(compiled) / "metrics.csv")
        losses.append([row.value for row in rows if row.metric == "loss"])
    assert len(losses[0]) > 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_the_report_shows_samples_of_each_evaluation(run: Path) -> None:
    for label in ("2", "4", "validation", "test"):
        assert (run / "samples/picture" / f"{label}.npz").is_file()
    page = render_report(RunFiles.read(run))
    assert "During training" in page
    assert "Samples were drawn for 3 of 8 rows" in page


def test_generation_without_a_condition(tmp_path: Path) -> None:
    """The same constant in every row."""
    write_pictures(tmp_path)
    rows = (tmp_path / "rows.csv").read_text().replace("right", "left")
    (tmp_path / "rows.csv").write_text(rows)
    options = changed(guidance=1.0, condition_dropout=0.0)
    train(validate_experiment(config(tmp_path, {"picture": options}, trainer={"max_steps": 1, "accelerator": "cpu"})))
    files = [row["picture"] for row in table(tmp_path / "run/predictions/test.csv")]
    assert len({(tmp_path / "run/predictions" / name).read_bytes() for name in files}) == len(files) == 4


PHOTO = {"type": "image", "column": "picture", "size": [3, 4], "mode": "L", "model": {"model_type": "identity"}}
SCAN = {"type": "array", "column": "array", "model": {"model_type": "linear", "model_init_config": {"output_size": 4}}}


def test_pictures_and_arrays_guide_at_full_resolution(tmp_path: Path) -> None:
    """Of other sizes, by any encoder, and lacking in some rows."""
    lines = write_pictures(tmp_path).read_text().replace("picture,array", "picture,array,target,field").splitlines()
    rows = [[*cells, *cells[2:]] for cells in (line.split(",") for line in lines[1:])]
    rows[0][2] = rows[1][3] = ""
    (tmp_path / "rows.csv").write_text("\n".join([lines[0], *map(",".join, rows)]) + "\n")
    inputs = ["scan", "photo"]
    outputs = {
        "picture": {**changed(inputs=inputs), "column": "target"},
        "field": {**ARRAY, "column": "field", "diffusion": changed(inputs=inputs)["diffusion"]},
    }
    sections: dict[str, Any] = {"inputs": {"photo": PHOTO, "scan": SCAN}, "trainer": {"max_steps": 2}}
    sections["data"] = {**config(tmp_path, {})["data"], "on_missing": "keep"}
    train(validate_experiment(config(tmp_path, outputs, **sections)))
    bundle = read_bundle(tmp_path / "run/bundle")
    head: Any = bundle.network.head("picture")
    assert head.unet.first.weight.shape[1] == 1 + 2
    predictor = Predictor(bundle, accelerator="cpu", file_dir=tmp_path)
    found = predictor.predict([{"picture": "3.png", "array": "3.npy"}, {"picture": None, "array": "3.npy"}])
    assert all(row["picture"].shape == row["field"].shape == (6, 8) for row in found)
    again = table(predict(tmp_path / "run", test=str(tmp_path / "rows.csv"), output=tmp_path / "out.csv"))
    first = {row["id"]: row["picture"] for row in table(tmp_path / "run/predictions/test.csv")}
    for row in (row for row in again if row["id"] in first):
        content = (tmp_path / "run/predictions" / first[row["id"]]).read_bytes()
        assert (tmp_path / row["picture"]).read_bytes() == content


@pytest.mark.parametrize(
    ("photo", "names", "message"),
    [
        ({}, ["foto"], "'foto' is no input (there are: 'level', 'photo'); did you mean 'photo'?"),
        ({}, ["photo", "photo"], "names 'photo' twice"),
        ({}, ["level"], "inputs.level is of type tabular; values at positions have those of type image and array"),
        ({"augmentation": "flip"}, ["photo"], "inputs.photo has an augmentation, which moves pixels"),
        ({"resize": "random-crop"}, ["photo"], "inputs.photo has resize: random-crop, which moves pixels"),
        (
            {"size": [6, 8]},
            ["photo"],
            "inputs.photo shows column 'picture' as it is generated; there is nothing to draw",
        ),
    ],
)
def test_inputs_that_the_u_net_cannot_read(tmp_path: Path, photo: Any, names: list[str], message: str) -> None:
    write_pictures(tmp_path)
    inputs = {**config(tmp_path, {})["inputs"], "photo": {**PHOTO, **photo}}
    found = faults(tmp_path, changed(inputs=names), inputs=inputs)
    assert message in found[f"outputs.picture.diffusion.inputs[{len(names) - 1}]"]


def test_a_row_of_values_is_no_picture(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    listed = ["id,level,picture,array", *(line.rpartition(",")[0] + ',"[1, 2, 3]"' for line in rows[1:])]
    (tmp_path / "rows.csv").write_text("\n".join(listed) + "\n")
    experiment = validate_experiment(config(tmp_path, {"picture": changed(inputs=["scan"])}, inputs={"scan": SCAN}))
    with pytest.raises(UserError, match=r"outputs.picture.diffusion.inputs.*inputs.scan has 1 x 3 positions"):
        train(experiment)
    assert not (tmp_path / "run/bundle").exists()


def faults(folder: Path, output: dict[str, Any], **sections: Any) -> dict[str, str]:
    with pytest.raises(UserError) as caught:
        validate_experiment(config(folder, {"picture": output}, **sections))
    return {fault.place: fault.message for fault in caught.value.faults}


@pytest.mark.parametrize(
    ("diffusion", "place", "message"),
    [
        ({"inference_steps": 21}, "inference_steps", "21 is more than the 20 steps of training"),
        ({"condition_dropout": 0.0}, "guidance", "needs rows that are trained without their condition"),
        ({"sampler": "ddpm", "eta": 0.5}, "eta", "has no effect with sampler 'ddpm'; ddim has it"),
        ({"sampler": "ddmp"}, "sampler", "ddpm"),
        ({"beta_schedule": "cosinus"}, "beta_schedule", "cosine"),
        ({"prediction": "sample"}, "prediction", "epsilon"),
        ({"unet": {"kernel": 4}}, "unet.kernel", "4 is even"),
        ({"unet": {"channels": 6}}, "unet.attention_heads", "24 channels .* among 4 heads|24 channels"),
        ({"inferense_steps": 3}, "inferense_steps", "inference_steps"),
        ({"prediction": "epsilon", "clip": False}, "clip", "false needs prediction 'v' or another beta_schedule"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, diffusion: Any, place: str, message: str) -> None:
    write_pictures(tmp_path)
    options = changed(**diffusion)
    if place == "unet.attention_heads":
        options["diffusion"]["unet"] = {"channels": 5, "multipliers": [1], "attention_heads": 4}
        message = "5 channels of the lowest level cannot be shared out among 4 heads"
    found = faults(tmp_path, options)
    assert message in found[f"outputs.picture.diffusion.{place}"]


def test_options_of_another_loss_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    without = {**OUTPUT, "loss": "mse"}
    assert faults(tmp_path, without)["outputs.picture.diffusion"] == "has no effect with loss 'mse'"
    classes = {"type": "array", "column": "array", "loss": "categorical", "diffusion": {"steps": 5}}
    assert faults(tmp_path, classes)["outputs.picture.diffusion"] == "has no effect with loss 'categorical'"
    decoder = {**OUTPUT, "model": {"model_type": "lcl"}}
    assert "diffusion.unet" in faults(tmp_path, decoder)["outputs.picture.model"]
    monitor = {"trainer": {"monitor": {"output": "picture", "metric": "mse"}}}
    found = faults(tmp_path, changed(sample_rows=0), **monitor)
    assert "sample_rows is 0" in found["trainer.monitor.metric"]
    mixing = {"trainer": {"mixing": {"type": "mixup", "alpha": 0.2}}}
    assert "no output has targets that could be mixed" in faults(tmp_path, OUTPUT, **mixing)["trainer.mixing"]


def test_nothing_is_generated_without_inputs(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    assert "inputs" in faults(tmp_path, OUTPUT, inputs={})


@pytest.mark.slow
@pytest.mark.parametrize("block", list(blocks(ROOT / "docs/guide/diffusion.md", "yaml")), ids=str)
def test_an_example_of_the_guide_trains(block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path)
    rows = (tmp_path / "rows.csv").read_text().replace("level", "digit", 1)
    (tmp_path / "rows.csv").write_text(rows)
    example = yaml.safe_load(block.text)
    trainer = {"trainer": {**example.pop("trainer", {}), "max_steps": 1, "accelerator": "cpu"}}
    train(validate_experiment({**config(tmp_path, {}, **trainer), **example}))
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "finished"
