"""Outputs of arrays: targets, scales, losses and metrics against references, decoders, files, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import matthews_corrcoef, r2_score
from torch import Tensor
from torchmetrics.functional import cosine_similarity
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from eir_seq.config.kinds import decoders
from eir_seq.errors import UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.array import output as array_output
from eir_seq.outputs.array.config import ArrayOutputConfig
from eir_seq.outputs.arrays import output as grid_output
from eir_seq.outputs.arrays.decoder_configs import CnnDecoderOptions, LclDecoderOptions
from eir_seq.outputs.arrays.decoders import CnnDecoder, Decoder, LclDecoder
from eir_seq.outputs.arrays.report import section
from eir_seq.outputs.reporting.sections import Predicted, ShownRows

SHAPES = {1: (12,), 2: (4, 6), 3: (2, 4, 6)}
ROWS = 20


def fitted(arrays: list[Any], **changes: Any) -> Any:
    config = ArrayOutputConfig.model_validate({"column": "wave", **changes})
    return build_output("out", config).fit({"wave": [np.asarray(array).tolist() for array in arrays]})


def columns(arrays: Any) -> Mapping[str, list[Any]]:
    return {"wave": [np.asarray(array).tolist() for array in arrays]}


def numbers(dimensions: int, seed: int = 0, missing: float = 0.2) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    arrays = random.normal(3, 2, (ROWS, *SHAPES[dimensions])) * random.uniform(0.5, 2, SHAPES[dimensions])
    arrays[random.random(arrays.shape) < missing] = np.nan
    return arrays.astype(np.float32)


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are measured in several parts."""
    monkeypatch.setattr(array_output, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(grid_output, "VALUES_AT_ONCE", 100)


# ------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dimensions", SHAPES)
@pytest.mark.parametrize("normalization", ["element", "channel", "none"])
@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_losses_are_means_over_the_known_elements_of_standardized_values(
    dimensions: int, normalization: str, loss: str
) -> None:
    arrays = numbers(dimensions)
    output = fitted(arrays, normalization=normalization, loss=loss)
    target = output.targets(columns(arrays))
    grid = (1, 1, 1, *SHAPES[dimensions])[-3:]
    assert target.shape == (ROWS, *grid)
    assert output.grid == grid
    assert output.output_size == np.prod(grid)
    axes = (0, 2, 3) if normalization == "channel" else (0,)
    every = arrays.reshape(ROWS, *grid)
    mean, deviation = (f(every, axis=axes, keepdims=True) for f in (np.nanmean, np.nanstd))
    if normalization == "none":
        mean, deviation = np.zeros(1), np.ones(1)
    raw = torch.randn(ROWS, *grid)
    difference = raw.numpy() - (every - mean) / deviation
    expected = np.nanmean(difference**2 if loss == "mse" else np.abs(difference))
    assert output.evaluate(raw, target)["loss"] == pytest.approx(expected, rel=1e-5)
    # the loss of a step is the sum of its terms over the sum of its counts, in any micro-batches
    parts = [slice(0, 3), slice(3, ROWS)]
    terms = sum(output.loss_terms(raw[part], target[part]).sum() for part in parts)
    counts = sum(output.loss_counts({}, target[part]).sum() for part in parts)
    assert float(terms / counts) == pytest.approx(expected, rel=1e-5)
    assert counts == np.isfinite(arrays).sum()


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_metrics_are_those_of_references_in_the_units_of_the_target(missing: float) -> None:
    arrays = numbers(2, missing=missing)
    output = fitted(arrays, normalization="element")
    target = output.targets(columns(arrays))
    raw = output.scale.standardized(target.nan_to_num(2.0) + 0.3 * torch.randn(target.shape))
    measured = output.evaluate(raw, target)
    guess, true = output.form.predicted(raw).flatten(1).double().numpy(), arrays.reshape(ROWS, -1).astype(np.float64)
    known = np.isfinite(true)
    assert measured["mse"] == pytest.approx(((guess - true)[known] ** 2).mean(), rel=1e-5)
    assert measured["mae"] == pytest.approx(np.abs((guess - true)[known]).mean(), rel=1e-5)
    spread = np.nansum((true - np.nanmean(true, axis=0)) ** 2)
    assert measured["r2"] == pytest.approx(1 - ((guess - true)[known] ** 2).sum() / spread, rel=1e-5)
    if not missing:
        assert measured["r2"] == pytest.approx(r2_score(true, guess, multioutput="variance_weighted"), rel=1e-5)
    masked = [torch.from_numpy(np.where(known, values, 0.0)) for values in (guess, true)]
    assert measured["cosine"] == pytest.approx(float(cosine_similarity(*masked, reduction="mean")), rel=1e-5)
    errors = [np.square(g[k] - t[k]).mean() for g, t, k in zip(guess, true, known, strict=True)]
    np.testing.assert_allclose(output.errors(raw, target).numpy(), errors, rtol=1e-4)


def test_rows_without_a_known_element_are_in_no_mean() -> None:
    arrays = numbers(1, missing=0)
    output = fitted(arrays)
    target, raw = output.targets(columns(arrays)), torch.randn(ROWS, 1, 1, 12)
    holes = target.clone()
    holes[0] = torch.nan
    assert output.evaluate(raw, holes) == pytest.approx(output.evaluate(raw[1:], target[1:]))
    nothing = torch.full_like(target, torch.nan)
    assert output.evaluate(raw, nothing) == {"loss": 0.0}
    assert output.undefined(nothing).keys() == {"mse", "mae", "r2", "cosine"}


def test_metrics_of_constant_targets_are_undefined() -> None:
    output = fitted(numbers(1, missing=0))
    same = torch.zeros(4, 1, 1, 12)
    assert output.undefined(same) == {
        "r2": "each element is the same in all rows",
        "cosine": "all targets are zero",
    }
    assert {"r2", "cosine"}.isdisjoint(output.evaluate(torch.randn(4, 1, 1, 12), same))
    assert output.undefined(output.targets(columns(numbers(1, seed=1)))) == {}


def test_elements_that_never_differ_are_only_shifted() -> None:
    output = fitted([[7.0, place] for place in range(6)], normalization="element")
    assert output.scale.standardized(output.targets(columns([[7.0, 0.0]])))[0, 0, 0, 0] == 0


def test_what_is_predicted_is_in_the_units_and_shape_of_the_target() -> None:
    arrays = numbers(3, missing=0)
    output = fitted(arrays, normalization="channel")
    raw = output.scale.standardized(output.targets(columns(arrays)))
    cells = output.decode(raw)["out"]
    for cell, array in zip(cells, arrays, strict=True):
        assert cell.suffix == ".npy"
        assert cell.value.dtype == np.float32
        np.testing.assert_allclose(cell.value, array, atol=1e-5)
        np.testing.assert_array_equal(np.load(BytesIO(cell.content), allow_pickle=False), cell.value)


# ------------------------------------------------------------------------------------------------------- classes

CODES = [-5, 7, 300]


def codes(seed: int = 0, ignored: float = 0.2) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    arrays = random.choice(CODES, (ROWS, *SHAPES[3]), p=[0.6, 0.3, 0.1])
    arrays[random.random(arrays.shape) < ignored] = -1
    return arrays


def indices(output: Any, arrays: np.ndarray[Any, Any]) -> Tensor:
    target: Tensor = output.targets(columns(arrays))
    assert target.dtype == torch.int16
    return target


def test_classes_are_those_of_the_training_rows() -> None:
    arrays = codes()
    output = fitted(arrays, loss="categorical")
    assert output.classes == CODES
    assert output.describe()["classes"] == {str(code): int((arrays == code).sum()) for code in CODES}
    assert output.form.raw_grid == (6, 4, 6)
    target = indices(output, arrays)
    np.testing.assert_array_equal(np.array([*CODES, -1])[target.numpy()], arrays)
    others = fitted(np.where(arrays == 7, -2, arrays), loss="categorical", ignored_values=[-1, -2])
    assert others.classes == [-5, 300]


def test_losses_of_classes_are_cross_entropy_and_soft_dice() -> None:
    arrays = codes()
    arrays[3] = -1
    arrays[4][arrays[4] != -1] = 7
    output = fitted(arrays, loss="categorical", dice_weight=0.5)
    target, raw = indices(output, arrays), torch.randn(ROWS, 6, 4, 6)
    terms, counts = output.loss_terms(raw, target), output.loss_counts({}, target)
    logits = raw.reshape(ROWS, 3, 2, 4, 6)
    known = target != -1
    assert counts[:, 0].sum() == known.sum()
    assert counts[3].tolist() == terms[3].tolist() == [0, 0]
    entropy = F.cross_entropy(logits, target.long(), ignore_index=-1)
    assert float(terms[:, 0].sum() / counts[:, 0].sum()) == pytest.approx(float(entropy), rel=1e-5)
    losses = []
    for scores, row, there in zip(logits.softmax(1), target, known, strict=True):
        dice = [
            2 * float(scores[c][row == c].sum()) / float(scores[c][there].sum() + (row == c).sum())
            for c in range(3)
            if (row == c).any()
        ]
        losses.append(1 - float(np.mean(dice)) if dice else 0.0)
    np.testing.assert_allclose(terms[:, 1].numpy(), 0.5 * np.array(losses), rtol=1e-4)
    loss = float(entropy) + 0.5 * sum(losses) / (ROWS - 1)
    assert output.evaluate(raw, target)["loss"] == pytest.approx(loss, rel=1e-5)
    assert fitted(arrays, loss="categorical", dice_weight=0).loss_terms(raw, target)[:, 1].abs().max() == 0


def test_metrics_of_classes_are_those_of_references() -> None:
    arrays = codes()
    output = fitted(arrays, loss="categorical")
    target, raw = indices(output, arrays), torch.randn(ROWS, 6, 4, 6)
    measured = output.evaluate(raw, target)
    known = (target != -1).flatten()
    guess, true = output.form.predicted(raw).flatten()[known], target.flatten()[known].long()
    of_classes = {"num_classes": 3, "average": "micro"}
    assert measured["accuracy"] == pytest.approx(float(multiclass_accuracy(guess, true, **of_classes)))
    dice = multiclass_f1_score(guess, true, num_classes=3, average="none")
    assert [measured[f"dice({code})"] for code in CODES] == pytest.approx(dice.tolist())
    assert measured["dice"] == pytest.approx(float(dice.mean()))
    assert measured["mcc"] == pytest.approx(matthews_corrcoef(true, guess))
    wrong = (output.form.predicted(raw) != target) & (target != -1)
    np.testing.assert_allclose(output.errors(raw, target), wrong.flatten(1).sum(1) / (target != -1).flatten(1).sum(1))


def test_metrics_of_one_class_are_undefined_where_they_are() -> None:
    output = fitted(codes(), loss="categorical")
    raw = torch.zeros(2, 6, 4, 6)
    raw[:, :2] = 9.0  # the first class everywhere
    same = torch.zeros(2, 2, 4, 6, dtype=torch.int16)
    assert output.evaluate(raw, same).keys() == {"loss", "accuracy", "dice", "dice(-5)"}
    assert output.undefined(same) == {"mcc": "all elements are of class -5"}
    mixed = same.clone()
    mixed[0] = 1
    assert output.evaluate(raw, mixed)["mcc"] == 0
    nothing = torch.full_like(same, -1)
    assert output.evaluate(raw, nothing) == {"loss": 0.0}
    assert output.undefined(nothing).keys() == {"accuracy", "dice", "mcc"}


def test_predicted_classes_have_their_values() -> None:
    output = fitted(codes(), loss="categorical")
    raw = torch.randn(2, 6, 4, 6)
    value = output.decode(raw)["out"][1].value
    assert value.shape == (2, 4, 6)
    assert value.dtype == np.int16  # the smallest that holds -5 and 300
    np.testing.assert_array_equal(value, np.array(CODES)[raw[1].reshape(3, 2, 4, 6).argmax(0).numpy()])


# ------------------------------------------------------------------------------------------------------- decoders

DECODERS: dict[str, tuple[type[Decoder], Any]] = {
    "cnn": (CnnDecoder, CnnDecoderOptions()),
    "cnn with all options": (
        CnnDecoder,
        CnnDecoderOptions(
            channel_exp_base=2, cutoff=2, kernel_width=4, kernel_height=1, up_stride_width=3, up_stride_height=1,
            num_blocks=2, attention_cutoff=99, dropout=0.1, stochastic_depth=0.1,
        ),
    ),
    "lcl": (LclDecoder, LclDecoderOptions()),
    "lcl of one layer": (LclDecoder, LclDecoderOptions(cutoff=10_000)),
    "lcl with all options": (
        LclDecoder,
        LclDecoderOptions(channel_exp_base=2, cutoff=2, expansion=3, dropout=0.1, stochastic_depth=0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("grid", [(1, 1, 37), (2, 5, 9), (3, 8, 8), (1, 1, 1)])
def test_a_decoder_gives_arrays_of_its_shape_by_all_its_weights(name: str, grid: tuple[int, int, int]) -> None:
    kind, options = DECODERS[name]
    torch.manual_seed(0)
    decoder = kind(options, 10, grid)
    features = torch.randn(4, 10)
    given = decoder(features)
    assert given.shape == (4, *grid)
    given.square().sum().backward()
    unused = [name for name, weight in decoder.named_parameters() if weight.grad is None]
    assert unused == []
    decoder.eval()
    torch.testing.assert_close(decoder(features)[:1], decoder(features[:1]))  # no row depends on another


def test_the_head_has_the_decoder_of_the_config() -> None:
    model = {"model_type": "lcl", "model_init_config": {"channel_exp_base": 1}}
    output = fitted(numbers(2), model=model, dropout=0.5)
    dropout, decoder = output.build_head(7)
    assert (dropout.p, type(decoder), decoder.channels) == (0.5, LclDecoder, 2)
    assert output.build_head(7)(torch.zeros(3, 7)).shape == (3, 1, 4, 6)


def test_decoders_of_a_kind_are_those_that_are_registered() -> None:
    union = decoders("array", default="cnn")
    assert "LclDecoderConfig" in str(union)


# ------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("loss", ["mse", "categorical"])
def test_a_saved_output_is_the_same(loss: str, tmp_path: Path) -> None:
    arrays = codes()
    output = fitted(arrays, loss=loss, **({"normalization": "element"} if loss == "mse" else {}))
    output.save(tmp_path / "out.json")
    restored: Any = load_output(tmp_path / "out.json")
    assert restored.state == output.state
    assert restored.same_state(output)
    raw = torch.randn(ROWS, *output.form.raw_grid)
    target = output.targets(columns(arrays))
    assert torch.equal(restored.targets(columns(arrays)), target)
    assert restored.evaluate(raw, target) == output.evaluate(raw, target)
    for cell, other in zip(restored.decode(raw)["out"], output.decode(raw)["out"], strict=True):
        assert cell.content == other.content


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arrays", "changes", "message"),
    [
        ([[1, 2], [1, 2, 3]], {}, "is [1, 2, 3], an array of 3; the first one has 2 (row 1)"),
        ([[1, 2], [[1, 2]]], {}, "is [[1, 2]], an array of 1 x 2; the first one has 2 (row 1)"),
        ([[1, 1], [1, 1]], {}, "is 1 everywhere in the training rows; nothing to learn"),
        ([[None, None]], {}, "has no value in any training row: all elements are missing (NaN)"),
        ([[1, 1e39]], {}, "it has infinite values"),
        ([["a", "b"]], {}, "which cannot be read"),
        ([[0.5, 1]], {"loss": "categorical"}, "it has the value 0.5; classes (loss 'categorical') are integers"),
        ([[1.0, None]], {"loss": "categorical"}, "it has the value nan"),
        ([[1, 1], [-1, 1]], {"loss": "categorical"}, "is 1 everywhere in the training rows; nothing to learn"),
        ([[-1, -1]], {"loss": "categorical"}, "has ignored values alone; nothing to learn"),
        (
            [[1, 2], [3, 4]],
            {"loss": "categorical", "max_classes": 3},
            "has more than 3 different values (1, 2, 3, 4, ...); raise max_classes, or use loss mse",
        ),
    ],
)
def test_training_arrays_that_cannot_be_learned_are_refused(
    arrays: list[Any], changes: dict[str, Any], message: str
) -> None:
    config = ArrayOutputConfig.model_validate({"column": "wave", **changes})
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        build_output("out", config).fit({"wave": arrays})
    assert caught.value.faults[0].place == "outputs.out.column"


def test_other_rows_are_refused_by_id(tmp_path: Path) -> None:
    output = fitted(numbers(1))
    good = [0.0] * 12
    with pytest.raises(UserError, match=re.escape("an array of 2; the model predicts 12 (row 'b')")):
        output.targets({"wave": [good, [1, 2]]}, ["a", "b"])
    missing = str(tmp_path / "no.npy")
    with pytest.raises(UserError, match=re.escape(f"names {missing}, which is no file (row 'b')")):
        output.targets({"wave": [good, missing]}, ["a", "b"])
    assert output.unknown_labels({"wave": [good, [1, 2], None]}).keys() == {1}
    of_classes = fitted(codes(), loss="categorical")
    other = codes()
    other[2, 0, 0, 0] = 8
    with pytest.raises(UserError, match=r"has an element of class 8, which no training row has.*\(row 2\)"):
        of_classes.targets(columns(other))
    assert list(of_classes.unknown_labels(columns(other))) == [2]


# ------------------------------------------------------------------------------------------------------- report


def test_a_report_draws_curves_and_says_what_is_missing() -> None:
    """An element that is missing everywhere leaves a gap, no warning."""
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(3, 2, 1, 9)) for name in ("true", "predicted")}
    arrays["true"][:, :, :, 4] = np.nan
    shown = ShownRows(["a", "b", "c"], [0.1, 0.2, 0.3], 2, arrays)
    samples = {"10": shown, "20": shown, "test": shown, "validation": shown}
    given = Predicted("out", "validation", [], {}, {"type": "array"}, {}, [], samples)
    found = section(given)
    assert found is not None
    assert [plot.title for plot in found.plots] == ["Predicted and true", "Worst rows", "During training"]
    assert section(replace(given, split="test")).plots[0].title == "Predicted and true"  # type: ignore[union-attr]
    assert section(replace(given, samples={})) is None
    heat = {name: values.reshape(3, 2, 3, 3) for name, values in arrays.items()}
    drawn = section(replace(given, samples={"validation": replace(shown, arrays=heat)}))
    assert drawn is not None
    assert drawn.plots[0].svg.count("data:image/png") == 2  # the arrays, and the colours of their values
    gray = {name: np.nan_to_num(values[:, :1]) for name, values in heat.items()}
    picture = section(replace(given, described={"type": "image"}, samples={"validation": replace(shown, arrays=gray)}))
    assert picture is not None
    assert picture.plots[0].svg.count("data:image/png") == 1
