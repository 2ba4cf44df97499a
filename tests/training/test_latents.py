"""Latent states of layers, written by a run and by `predict`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.decomposition import PCA

from eir_seq.commands.predict import predict_config
from eir_seq.config.latents import LatentsConfig
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.training.bundle import read_bundle
from eir_seq.training.latents import _pooled, layers_of, pca, tsne
from eir_seq.training.run import train
from tests.training.table import table_experiment, write_table

LAYER = "inputs.text.backbone.body.layers.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latents")
    latents = {"layers": ["inputs.text", LAYER, "fusion.blocks.0", "outputs.mood"], "plots": ["pca", "tsne"]}
    train(table_experiment(folder, trainer={"max_epochs": 1, "latents": latents}))
    return folder


def arrays(folder: Path) -> dict[str, Any]:
    return {path.name.removesuffix(".npy"): np.load(path) for path in folder.glob("*.npy")}


def test_a_run_writes_the_states_of_its_best_weights(folder: Path) -> None:
    written = folder / "run" / "latents" / "test"
    ids = [row["id"] for row in csv.DictReader((written / "ids.csv").open(encoding="utf-8"))]
    assert ids == [f"test-{row}" for row in range(12)]
    found = arrays(written)
    assert {name: found[name].shape for name in ("inputs.text", LAYER, "fusion.blocks.0", "outputs.mood")} == {
        "inputs.text": (12, 8),
        LAYER: (12, 8),
        "fusion.blocks.0": (12, 8),
        "outputs.mood": (12, 2),
    }
    for name in ("inputs.text.pca", "fusion.blocks.0.tsne"):
        assert found[name].shape == (12, 2)
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((folder / "run" / "predictions" / "test.csv").open(encoding="utf-8")))
    shares = torch.from_numpy(found["outputs.mood"]).softmax(dim=1)[:, 1]
    assert torch.allclose(shares, torch.tensor([float(row["mood_p(good)"]) for row in rows]), atol=1e-6)
    assert len(arrays(folder / "run" / "latents" / "validation")["fusion.blocks.0"]) == 12


def test_padding_has_no_part(folder: Path, tmp_path: Path) -> None:
    """Each text by itself, without padding, has the states that it has in batches."""
    run, table = folder / "run", tmp_path / "rows.csv"
    latents = LatentsConfig.model_validate([LAYER])
    predict(run, test=str(folder / "test.csv"), output=table, batch_size=5, latents=latents)
    together = arrays(tmp_path / "rows.latents")
    predict(run, test=str(folder / "test.csv"), output=table, batch_size=1, latents=latents)
    alone = arrays(tmp_path / "rows.latents")
    assert np.allclose(together[LAYER], alone[LAYER], atol=1e-5)
    assert np.allclose(together[LAYER], arrays(run / "latents" / "test")[LAYER], atol=1e-5)
    every = LatentsConfig(layers=[LAYER], pool="none", plots=[])
    predict(run, test=str(folder / "test.csv"), output=tmp_path / "tokens.csv", latents=every)
    tokens = arrays(tmp_path / "tokens.latents")
    parts = np.split(tokens[LAYER], np.cumsum(tokens[f"{LAYER}.lengths"])[:-1])
    assert np.allclose(np.stack([part.mean(axis=0) for part in parts]), alone[LAYER], atol=1e-5)


def test_predictions_are_the_same_and_need_no_labels(folder: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "new.csv", 9, seed=3, labels=False)
    plain, beside = tmp_path / "plain.csv", tmp_path / "beside.csv"
    predict(folder / "run", test=str(tmp_path / "new.csv"), output=plain)
    config = predict_config([f"run={folder / 'run'}", f"data.test={tmp_path / 'new.csv'}", "latents=[fusion]"])
    assert config.latents == LatentsConfig(layers=["fusion"])
    config = predict_config([f"run={folder / 'run'}", "latents.layers=[fusion]", "latents.colour=score"])
    assert config.latents is not None
    predict(
        folder / "run",
        test=str(tmp_path / "new.csv"),
        output=beside,
        latents=config.latents.model_copy(update={"layers": ["fusion.final_norm"]}),
    )
    assert plain.read_bytes() == beside.read_bytes()
    assert (tmp_path / "beside.latents" / "fusion.final_norm.pca.png").is_file()


def test_unknown_layers_are_told_before_training(folder: Path, tmp_path: Path) -> None:
    wrong = {"layers": ["inputs.text.backbone.body.layer.0", "fusion"], "colour": "mod"}
    with pytest.raises(UserError) as error:
        train(table_experiment(tmp_path, trainer={"latents": wrong}))
    assert (
        f"trainer.latents.layers: there is no layer 'inputs.text.backbone.body.layer.0'; did you mean '{LAYER}'?"
        in str(error.value)
    )
    assert "trainer.latents.colour: 'mod' is not an output; did you mean 'mood'?" in str(error.value)
    assert not (tmp_path / "run").exists()
    never = LatentsConfig(layers=["inputs.text.backbone"], plots=[])
    with pytest.raises(UserError, match=r"inputs\.text\.backbone is not called for these rows"):
        predict(folder / "run", test=str(folder / "test.csv"), output=tmp_path / "a.csv", latents=never)


def test_rows_that_lack_an_input_have_nan(tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", 40)
    rows = list(csv.reader((tmp_path / "train.csv").open(encoding="utf-8")))
    with (tmp_path / "train.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [*row[:2], "other" if number == 0 else "" if number % 4 == 1 else row[1], *row[2:]]
            for number, row in enumerate(rows)
        )
    first = table_experiment(tmp_path).model_dump()["inputs"]["text"]
    config = table_experiment(
        tmp_path,
        data={"on_missing": "keep", "test": None, "eval_batch_size": 2},
        inputs={"other": {**first, "column": "other"}},
        trainer={"max_epochs": 1, "latents": ["inputs.other", "fusion.final_norm"]},
    )
    train(config)
    written = arrays(tmp_path / "run" / "latents" / "validation")
    ids = [row["id"] for row in csv.DictReader((tmp_path / "run/latents/validation/ids.csv").open(encoding="utf-8"))]
    lacking = [int(row.split("-")[1]) % 4 == 0 for row in ids]
    assert any(lacking)
    assert np.isnan(written["inputs.other"]).all(axis=1).tolist() == lacking
    assert np.isfinite(written["fusion.final_norm"]).all()


def test_states_of_places_and_of_other_lengths() -> None:
    picture = torch.arange(16.0).reshape(1, 2, 2, 4)
    assert _pooled(picture, None, "mean")[0].tolist() == [3.5, 11.5]
    with pytest.raises(ValueError, match="padding cannot be left out"):
        _pooled(torch.zeros(2, 3, 4), torch.ones(2, 5, dtype=torch.bool), "mean")
    with pytest.raises(ValueError, match="gives no states of rows"):
        _pooled(torch.zeros(3), None, "mean")


def test_components_are_those_of_scikit_learn() -> None:
    points = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * [5, 3, 1, 0.1, 0.1, 0.1]
    found, names = pca(points.astype(np.float32), 0)
    reference = PCA(2).fit(points)
    assert np.allclose(np.abs(found), np.abs(reference.transform(points)), atol=1e-3)
    assert names[0] == f"component 1 ({reference.explained_variance_ratio_[0]:.0%} of the variance)"
    assert pca(points[:, :1].astype(np.float32), 0)[0].shape == (50, 2)
    places, _ = tsne(points.astype(np.float32)[:12], 0)
    assert places.shape == (12, 2)
    assert np.array_equal(places, tsne(points.astype(np.float32)[:12], 0)[0])


def test_tsne_needs_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eir_seq.config.latents.is_installed", lambda _package: False)
    with pytest.raises(ValidationError, match=r"pip install 'eir_seq\[latents\]'"):
        LatentsConfig(layers=["fusion"], plots=["tsne"])


def test_all_modules_have_public_names(folder: Path) -> None:
    names = layers_of(read_bundle(folder / "run" / "bundle").network)
    assert {"inputs.text", "fusion", "outputs.score", LAYER} <= set(names)
    assert not any("of_" in name for name in names)
