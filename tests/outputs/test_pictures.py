"""Outputs of pictures: pixels, sizes and modes, metrics against references, files, and what is refused."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from eir_seq.errors import UserError
from eir_seq.modalities.files import locate
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.arrays import output as grid_output
from eir_seq.outputs.image import output as image_output
from eir_seq.outputs.image.config import ImageOutputConfig

ROWS, SIDES = 6, (12, 16)
CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def save(folder: Path, name: str, pixels: np.ndarray[Any, Any], **options: Any) -> Any:
    """The cell of a picture, as reading a table gives it."""
    Image.fromarray(pixels).save(folder / name, **options)
    return locate(name, folder)


def drawn(folder: Path, mode: str = "RGB", seed: int = 0) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Cells of pictures, and their pixels (rows, channels, height, width)."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (ROWS, *SIDES, CHANNELS[mode]), np.uint8)
    cells = [save(folder, f"{seed}_{row}.png", x[:, :, 0] if mode == "L" else x) for row, x in enumerate(pixels)]
    return cells, pixels.transpose(0, 3, 1, 2)


def fitted(cells: list[Any], **changes: Any) -> Any:
    config = ImageOutputConfig.model_validate({"column": "picture", **changes})
    return build_output("out", config).fit({"picture": cells})


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_output, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(grid_output, "VALUES_AT_ONCE", 800)


@pytest.mark.parametrize("mode", CHANNELS)
@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_pixels_are_standardized_for_the_loss_by_channel(mode: str, loss: str, tmp_path: Path) -> None:
    cells, pixels = drawn(tmp_path, mode)
    output = fitted(cells, mode=mode, loss=loss)
    target = output.targets({"picture": cells})
    np.testing.assert_array_equal(target, pixels)
    assert target.dtype == torch.uint8
    assert output.grid == (CHANNELS[mode], *SIDES)
    mean, deviation = (f(pixels / 255.0, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    raw = torch.randn(target.shape)
    difference = raw.numpy() - (pixels / 255.0 - mean) / deviation
    expected = (difference**2 if loss == "mse" else np.abs(difference)).mean()
    assert output.evaluate(raw, target)["loss"] == pytest.approx(expected, rel=1e-5)


def test_metrics_are_those_of_references_on_a_scale_from_0_to_1(tmp_path: Path) -> None:
    cells, pixels = drawn(tmp_path)
    output = fitted(cells)
    target = output.targets({"picture": cells})
    true = torch.from_numpy(pixels / np.float32(255))
    guess = (true + 0.2 * torch.randn(true.shape)).clamp(0, 1)
    measured = output.evaluate(output.scale.standardized(guess), target)
    assert measured["mse"] == pytest.approx(float((guess - true).square().mean()), rel=1e-4)
    assert measured["psnr"] == pytest.approx(float(peak_signal_noise_ratio(guess, true, data_range=1.0)), rel=1e-5)
    similarity = structural_similarity_index_measure(guess, true, data_range=1.0)
    assert isinstance(similarity, torch.Tensor)
    assert measured["ssim"] == pytest.approx(float(similarity), rel=1e-4)
    small = fitted(cells, size=8)
    target = small.targets({"picture": cells})
    assert "ssim" not in small.evaluate(torch.zeros(ROWS, 3, 8, 8), target)
    assert small.undefined(target) == {"ssim": "pictures are smaller than its window, 11 x 11"}


def test_targets_are_resized_where_a_size_is_given(tmp_path: Path) -> None:
    cells, _ = drawn(tmp_path)
    other = save(tmp_path, "wide.png", np.zeros((10, 40, 3), np.uint8))
    output = fitted([*cells, other], size=[6, 10], mode="L", resize="crop")
    target = output.targets({"picture": [other, cells[0]]})
    assert target.shape == (2, 1, 6, 10)
    assert target[0].max() == 0 < target[1].max()


def test_pictures_are_turned_as_their_cameras_say(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    random = np.random.default_rng(0)
    turned = save(tmp_path, "turned.png", random.integers(0, 256, (8, 12, 3), np.uint8), exif=exif)
    plain = save(tmp_path, "plain.png", random.integers(0, 256, (12, 8, 3), np.uint8))
    assert fitted([turned, plain]).grid == (3, 12, 8)


@pytest.mark.parametrize("mode", CHANNELS)
def test_a_predicted_picture_is_a_file_of_its_pixels(mode: str, tmp_path: Path) -> None:
    cells, pixels = drawn(tmp_path, mode)
    output = fitted(cells, mode=mode)
    raw = output.scale.standardized(output.numbers(output.targets({"picture": cells})))
    for cell, expected in zip(output.decode(raw)["out"], pixels.transpose(0, 2, 3, 1), strict=True):
        wanted = expected[:, :, 0] if mode == "L" else expected
        np.testing.assert_array_equal(cell.value, wanted)
        with Image.open(BytesIO(cell.content)) as image:
            assert (image.format, image.mode) == ("PNG", mode)
            np.testing.assert_array_equal(np.asarray(image), wanted)
    far = output.decode(torch.full((1, *output.grid), 1e6))["out"][0].value
    assert far.min() == 255


def test_a_saved_output_is_the_same(tmp_path: Path) -> None:
    cells, _ = drawn(tmp_path)
    output = fitted(cells)
    output.save(tmp_path / "out.json")
    restored: Any = load_output(tmp_path / "out.json")
    assert restored.state == output.state
    target, raw = output.targets({"picture": cells}), torch.randn(ROWS, 3, *SIDES)
    assert restored.evaluate(raw, target) == output.evaluate(raw, target)


def test_pictures_that_cannot_be_used_are_refused_by_id(tmp_path: Path) -> None:
    cells, _ = drawn(tmp_path)
    output = fitted(cells)
    other = save(tmp_path, "other.png", np.zeros((5, 7, 3), np.uint8))
    size = f"names {tmp_path}/other.png, a picture of 5 x 7 pixels (height x width); "
    whole = (tmp_path / "0_0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros(SIDES, np.float32)).save(tmp_path / "float.tiff")
    bad = {
        "other.png": f"{size}the model predicts 12 x 16: give `size` to resize (row 'b')",
        "cut.png": "a picture that cannot be read to its end",
        "text.png": "which is no picture",
        "float.tiff": "channels of kind 'F'",
        "no.png": "which is no file",
    }
    for name, message in bad.items():
        found = locate(name, tmp_path)
        with pytest.raises(UserError, match=re.escape(message)):
            output.targets({"picture": [cells[0], found]}, ["a", "b"])
        assert output.unknown_labels({"picture": [cells[0], found]}).keys() == {1}
    with pytest.raises(UserError, match=re.escape(f"{size}the first one has 12 x 16")):
        fitted([*cells, other])
    with pytest.raises(UserError, match="has 0 in every pixel of the training pictures; nothing to learn"):
        fitted([other, other])
