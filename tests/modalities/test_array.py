"""Inputs of arrays: reading, normalisation by the training rows, encoders, bundles, and arrays that cannot be used."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.array import preprocess
from eir_seq.randomness import Draw
from eir_seq.training.run import train
from tests.recipes import CLASS, HEIGHT, scores, write_tables
from tests.recipes.arrays import make_array

SHAPES = {1: (12,), 2: (4, 12), 3: (2, 4, 12)}
TRANSFORMER = {"patch_size": [3], "embedding_dim": 8, "num_heads": 2}
ENCODERS: dict[str, dict[str, Any]] = {
    "cnn": {"model_type": "cnn", "model_init_config": {"attention_cutoff": 99, "cutoff": 8}},
    "cnn of given blocks": {"model_type": "cnn", "model_init_config": {"layers": [2, 1], "output_size": 3}},
    "lcl": {"model_type": "lcl", "model_init_config": {"cutoff": 8}},
    "lcl over patches": {"model_type": "lcl", "model_init_config": {"patch_size": [5], "num_blocks": 1}},
    "transformer": {"model_type": "transformer", "model_init_config": TRANSFORMER},
    "transformer, all states": {
        "model_type": "transformer",
        "model_init_config": {**TRANSFORMER, "position": "embed", "pool": "none"},
    },
    "linear": {"model_type": "linear"},
    "identity": {"model_type": "identity"},
}


def experiment(folder: Path, lines: list[str], **changes: Any) -> Any:
    (folder / "rows.csv").write_text("\n".join(["scan,side", *lines]) + "\n", encoding="utf-8")
    return validate_experiment(
        {
            "data": {"train": str(folder / "rows.csv"), "cache_dir": str(folder / "cache"), "validation": 0.2},
            "inputs": {"scan": {"type": "array", "column": "scan", **changes}},
            "fusion": {"type": "concat"},
            "outputs": {"side": {"type": "classification", "column": "side"}},
            "run": {"dir": str(folder / "run")},
        }
    )


def fitted_on(arrays: list[np.ndarray], folder: Path, **changes: Any) -> Any:
    """The input fitted on all arrays, and a table of their files."""
    names = [f"{place}.npy" for place in range(len(arrays))]
    for name, array in zip(names, arrays, strict=True):
        np.save(folder / name, array)
    config = experiment(folder, [f"{name},{'ab'[place % 2]}" for place, name in enumerate(names)], **changes)
    modality = build_modality("scan", config.inputs["scan"])
    rows = load_splits(config, {"scan": modality}).train
    assert rows is not None
    return modality.fit(rows, 0), rows


def batch_of(fitted: Any, rows: Any) -> torch.Tensor:
    values: torch.Tensor = fitted.collator(EncodedInMemory(fitted, rows[:]), range(rows.num_rows), Draw(0, 0))["values"]
    return values


@pytest.mark.parametrize("dimensions", SHAPES)
@pytest.mark.parametrize("normalization", ["element", "channel", "none"])
def test_values_are_normalised_by_what_the_training_rows_hold(
    dimensions: int, normalization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numpy does it for all rows at once; what is missing becomes the mean."""
    monkeypatch.setattr(preprocess, "ROWS_AT_ONCE", 3)
    random = np.random.default_rng(0)
    arrays = list(random.normal(5, 3, (20, *SHAPES[dimensions])))
    for array in arrays:
        array[random.random(array.shape) < 0.2] = np.nan
    fitted, rows = fitted_on(arrays, tmp_path, normalization=normalization)
    values = batch_of(fitted, rows)
    assert values.shape == (rows.num_rows, *(1, 1, 1, *SHAPES[dimensions])[-3:])
    every = np.stack([np.load(json.loads(cell)[0]) for cell in rows["scan"]]).reshape(values.shape)
    axes = (0, 2, 3) if normalization == "channel" else 0
    mean, deviation = (f(every, axis=axes, keepdims=True) for f in (np.nanmean, np.nanstd))
    expected = np.where(np.isnan(every), mean, every)
    if normalization != "none":
        expected = (expected - mean) / deviation
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5)


def test_elements_that_never_differ_are_only_shifted(tmp_path: Path) -> None:
    fitted, rows = fitted_on([np.array([7.1, place]) for place in range(6)], tmp_path, normalization="element")
    assert batch_of(fitted, rows)[:, 0, 0, 0].abs().max() < 1e-5


def test_a_mask_says_what_is_missing(tmp_path: Path) -> None:
    arrays = [np.array([1.0, np.nan]), np.array([np.nan, 2.0])] * 4
    fitted, rows = fitted_on(arrays, tmp_path, missing_mask=True)
    values = batch_of(fitted, rows)
    assert fitted.grid == tuple(values.shape[1:]) == (2, 1, 2)
    assert {tuple(row) for row in values[:, 1, 0].tolist()} == {(0.0, 1.0), (1.0, 0.0)}
    assert (values[:, 0] * values[:, 1] == 0).all()


@pytest.mark.parametrize("model", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("dimensions", SHAPES)
def test_every_encoder_reads_every_number_of_dimensions(model: dict[str, Any], dimensions: int, tmp_path: Path) -> None:
    """Rows do not depend on each other, every parameter learns, and the states are as wide as they say."""
    random = np.random.default_rng(0)
    fitted, rows = fitted_on(list(random.normal(size=(10, *SHAPES[dimensions]))), tmp_path, model=model)
    values = batch_of(fitted, rows)
    torch.manual_seed(0)
    encoder = fitted.build_encoder(None).eval()
    vectors = encoder(values=values)
    assert vectors.shape == (len(values), encoder.output_size)
    assert torch.allclose(encoder(values=values[2:3]), vectors[2:3], atol=1e-6)
    assert not torch.allclose(vectors[0], vectors[1])
    tokens = encoder.read(values=values)
    assert tokens.states.shape[2] == encoder.state_size
    assert tokens.mask.all()
    (encoder(values=values.requires_grad_()) ** 2).sum().backward()
    assert [name for name, x in encoder.named_parameters() if x.grad is None] == []


def test_arrays_in_the_table_and_in_archives(tmp_path: Path) -> None:
    """Lists in JSON with null for what is missing, a named member of an archive, and the only one of another."""
    np.savez_compressed(tmp_path / "many.npz", a=np.array([1, 2]), b=np.array([3, 4], ">i2"))
    np.savez(tmp_path / "one.npz", x=np.array([5.0, 6.0], np.float16))
    cells = ["many.npz:a", "many.npz:b", "one.npz", '"[7, 8]"', '"[9, null]"', "many.npz:a"]
    config = experiment(tmp_path, [f"{cell},{'ab'[place % 2]}" for place, cell in enumerate(cells)])
    modality = build_modality("scan", config.inputs["scan"])
    splits = load_splits(config, {"scan": modality})
    found = {
        tuple(np.nan_to_num(preprocess.read_array(cell), nan=-1).tolist())
        for _, rows in splits.items()
        for cell in rows["scan"]
    }
    assert found == {(1, 2), (3, 4), (5, 6), (7, 8), (9, -1)}


def test_rows_may_lack_arrays_or_genotypes(tmp_path: Path) -> None:
    """Arrays in a column of lists, genotypes in files; some rows have one of them alone."""
    random = np.random.default_rng(0)
    scans: list[Any] = [random.normal(size=(2, 6)).tolist() if row % 4 else None for row in range(16)]
    genes = [f"{row}.npy" if row % 4 < 2 else None for row in range(16)]
    for row in range(16):
        np.save(tmp_path / f"{row}.npy", np.eye(3, 9)[:, random.permutation(9)])
    table = pa.table({"scan": scans, "genes": genes, "side": ["a", "b"] * 8})
    pq.write_table(table, tmp_path / "rows.parquet")
    run = tmp_path / "run"
    train(
        validate_experiment(
            {
                "data": {
                    "train": str(tmp_path / "rows.parquet"),
                    "cache_dir": str(tmp_path / "cache"),
                    "validation": 0.25,
                    "on_missing": "keep",
                },
                "inputs": {
                    "scan": {
                        "type": "array",
                        "column": "scan",
                        "model": {"model_type": "cnn"},
                        "modality_dropout": 0.1,
                    },
                    "genes": {"type": "omics", "column": "genes", "model": {"model_type": "linear"}},
                },
                "fusion": {"type": "concat"},
                "outputs": {"side": {"type": "classification", "column": "side"}},
                "trainer": {"max_steps": 2, "accelerator": "cpu"},
                "run": {"dir": str(run)},
            }
        )
    )
    written = predict(run / "bundle", test=str(tmp_path / "rows.parquet"), output=tmp_path / "all.csv").read_text()
    assert len(written.splitlines()) == 17


def test_a_bundle_keeps_what_was_fitted(tmp_path: Path) -> None:
    fitted, rows = fitted_on(list(np.random.default_rng(0).normal(size=(10, 3, 5))), tmp_path, normalization="element")
    fitted.save(tmp_path / "fitted")
    again = load_modality(tmp_path / "fitted")
    assert again.fingerprint() == fitted.fingerprint()
    assert again.describe() == fitted.describe()
    assert torch.equal(batch_of(again, rows), batch_of(fitted, rows))
    (tmp_path / "fitted" / "moments.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="no fitted array input"):
        load_modality(tmp_path / "fitted")


BAD: dict[str, tuple[Any, str]] = {
    "none.npy": (None, r"names .*none\.npy, which is no file; did you mean 'one\.npy'\?"),
    "text.npy": (b"no array", r"names .*text\.npy, which cannot be read .*it is neither a \.npy nor a \.npz file"),
    "cut.npy": ("cut", r"names .*cut\.npy, which cannot be read as an array \(.*"),
    "objects.npy": (np.array([{}, 1]), r"names .*objects\.npy, which cannot be read .*objects"),
    "words.npy": (np.array(["a", "b"]), r"names .*words\.npy, .*its values are texts, not integers, floats or truth"),
    "complex.npy": (np.array([1j]), r"its values are complex128, not integers"),
    "deep.npy": (np.zeros((1, 1, 1, 1)), r"it is 1 x 1 x 1 x 1; 1 to 3 dimensions with elements are expected"),
    "empty.npy": (np.zeros((0, 3)), r"it is 0 x 3; 1 to 3 dimensions with elements are expected"),
    "long.npy": (np.zeros(9), r"names .*long\.npy, an array of 9; most training rows have 3"),
    "infinite.npy": (np.array([1.0, np.inf, 2.0]), r"names .*infinite\.npy, an array with infinite values"),
    "huge.npy": (np.array([1.0, 1e300, 2.0]), r"names .*huge\.npy, an array with infinite values"),
    "two.npz": ({"a": 1, "b": 2}, r"it holds 2 arrays \(a, b\); name one: FILE\.npz:MEMBER"),
    "two.npz:c": (None, r"it has no member 'c'"),
    '"[[1, 2], [3]]"': (None, r"is \[\[1, 2\], \[3\]\], which cannot be read as an array"),
    '"[""a"", 1, 2]"': (None, r"neither an array of numbers nor the name of a file"),
}


def test_arrays_that_cannot_be_used_are_named_with_their_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "one.npy").read_bytes()[:-8])
    for name, (content, _) in BAD.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif isinstance(content, dict):
            np.savez(tmp_path / name, **content)
        elif isinstance(content, np.ndarray):
            np.save(tmp_path / name, content, allow_pickle=True)
    for start in range(0, len(BAD), 5):  # a message lists the first faults of a kind
        part = dict(list(BAD.items())[start : start + 5])
        config = experiment(tmp_path, ["one.npy,a", *(f"{name},b" for name in part)])
        with pytest.raises(UserError) as caught:
            load_splits(config)
        lines = [str(fault) for fault in caught.value.faults]
        for place, (line, (_, message)) in enumerate(zip(lines, part.values(), strict=True), 3):
            assert f"line {place}: 'scan' " in line
            assert re.search(message, line), (message, line)


def test_most_arrays_decide_the_shape(tmp_path: Path) -> None:
    for name, size in (("odd", 4), ("one", 3), ("two", 3)):
        np.save(tmp_path / f"{name}.npy", np.zeros(size))
    with pytest.raises(UserError) as caught:
        load_splits(experiment(tmp_path, ["odd.npy,a", "one.npy,b", "none.npy,a", "two.npy,b"]))
    lines = [str(fault).partition(";")[0].replace(f"{tmp_path}/", "") for fault in caught.value.faults]
    assert lines[0].endswith("line 2: 'scan' names odd.npy, an array of 4")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": "elements"}, r"inputs\.scan\.normalization: .*'element'"),
        ({"model": {"model_type": "lcn"}}, r"inputs\.scan\.model.*'lcn'"),
        ({"model": {"model_type": "transformer"}}, r"inputs\.scan\.model\.model_init_config"),
        ({"model": {"model_type": "cnn", "model_init_config": {"kernel": 3}}}, r"kernel: unknown key"),
        (
            {"model": {"model_type": "lcl", "model_init_config": {"patch_size": [9]}}},
            r"inputs\.scan\.model\.model_init_config\.patch_size: patches of 9 are larger than the input, 1 x 1 x 3",
        ),
        (
            {"model": {"model_type": "transformer", "model_init_config": {**TRANSFORMER, "num_heads": 3}}},
            r"inputs\.scan\.model\.model_init_config\.num_heads: 3 heads do not divide embedding_dim 8",
        ),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fitted_on([np.zeros(3)] * 4, tmp_path, **changes)[0].build_encoder(None)


def test_an_l1_penalty_is_the_same_for_micro_batches(tmp_path: Path) -> None:
    """It is added once per optimizer step, however many batches this has, and it makes weights smaller."""
    tables = write_tables(tmp_path, "scan", make_array(1), per_class=8, test=4)
    weights = {}
    for name, l1, size, accumulate in (("none", 0.0, 16, 1), ("whole", 0.1, 16, 1), ("micro", 0.1, 4, 4)):
        model = {"model_type": "linear", "model_init_config": {"l1": l1}}
        inputs = {"scan": {"type": "array", "column": "scan", "model": model}}
        scores(
            tables, inputs, HEIGHT, epochs=1, run=tmp_path / name, fusion={"type": "concat"},
            data={"batch_size": size, "validation": 4 / 20}, trainer={"accumulate": accumulate},
        )  # fmt: skip
        tensors = load_file(tmp_path / name / "bundle" / "model.safetensors")
        weights[name] = next(x for key, x in tensors.items() if key.endswith("linear.weight") and x.shape[0] == 32)
    assert torch.allclose(weights["whole"], weights["micro"], atol=1e-5)
    assert weights["whole"].abs().sum() < weights["none"].abs().sum()


def test_arrays_tell_class_and_height(tmp_path: Path) -> None:
    """Also for rows that the bundle predicts."""
    tables = write_tables(tmp_path, "scan", make_array(2), per_class=60, test=40)
    model = {"model_type": "lcl", "model_init_config": {"patch_size": [4, 10]}}
    inputs = {"scan": {"type": "array", "column": "scan", "normalization": "element", "model": model}}
    found = scores(tables, inputs, {**CLASS, **HEIGHT}, epochs=12, run=tmp_path / "run")
    assert found["origin"] > 0.8
    assert found["height"] > 0.8
    again = predict(tmp_path / "run" / "bundle", test=str(tables.test), output=tmp_path / "again.csv")
    first = (tmp_path / "run" / "predictions" / "test.csv").read_text(encoding="utf-8")
    assert list(csv.DictReader(again.read_text().splitlines())) == list(csv.DictReader(first.splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", SHAPES)
@pytest.mark.parametrize(
    "model",
    [
        {"model_type": "cnn"},
        {"model_type": "lcl", "model_init_config": {"patch_size": [1, 1, 10]}},
        {"model_type": "transformer", "model_init_config": {"patch_size": [1, 1, 10], "embedding_dim": 32}},
    ],
    ids=lambda model: model["model_type"],
)
def test_arrays_at_full_size(model: dict[str, Any], dimensions: int, tmp_path: Path) -> None:
    """1,000 rows of each class; MCC and R2 of 0.8 are asked for."""
    tables = write_tables(tmp_path, "scan", make_array(dimensions), per_class=1000, test=200)
    inputs = {"scan": {"type": "array", "column": "scan", "normalization": "element", "model": model}}
    found = scores(tables, inputs, {**CLASS, **HEIGHT}, epochs=12, run=tmp_path / "run")
    assert found["origin"] > 0.9
    assert found["height"] > 0.9
