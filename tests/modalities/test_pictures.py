"""Pictures: found, checked and scaled as the documented processors do; colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eir_seq.errors import UserError
from eir_seq.modalities.files import locate
from eir_seq.modalities.image.colours import Colours
from eir_seq.modalities.pictures import BILINEAR, Scaling, problem, published_moments, published_scaling
from eir_seq.modalities.sequence.tensors.pixels import DEVIATION, MEAN
from eir_seq.randomness import generator


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with shades and edges."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (5, 7, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.NEAREST if seed % 2 else Image.Resampling.BICUBIC)


@pytest.mark.parametrize("shape", [(61, 40), (40, 61), (50, 50), (24, 90), (200, 31)], ids=str)
def test_clips_way(shape: tuple[int, int]) -> None:
    """The shorter side is scaled, the middle taken, mean and deviation as documented."""
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    image = drawn(*shape)
    expected = processor(image, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
    pixels = Scaling(32).of_image(image)
    assert np.abs((pixels / 255 - MEAN) / DEVIATION - expected).max() < 1e-5
    assert list(MEAN) == processor.image_mean
    assert list(DEVIATION) == processor.image_std


def test_imagegpts_way() -> None:
    """The whole picture is squeezed into a square, each pixel becomes the nearest colour."""
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    clusters = np.random.default_rng(1).uniform(-1, 1, (50, 3))
    processor = transformers.ImageGPTImageProcessor(clusters=clusters, size={"height": 16, "width": 16})
    image = drawn(61, 40)
    expected = processor(image, return_tensors="np").input_ids[0]
    pixels = Scaling(16, resize="squeeze", resample=BILINEAR).of_image(image)
    assert np.array_equal(Colours(clusters.tolist()).numbers(pixels).reshape(-1), expected)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    """Palettes, grey, transparency and print become colours; a photograph is turned upright."""
    whole = drawn(20, 20)
    for mode in ("P", "L", "1", "RGBA", "CMYK", "LA"):
        path = tmp_path / f"{mode}.{'tiff' if mode == 'CMYK' else 'png'}"
        whole.convert(mode).save(path)
        assert list(problem(locate(path.name, tmp_path), 3)) == []
        assert Scaling(8).pixels(str(path)).shape == (8, 8, 3)
        assert Scaling(8, channels=1).pixels(str(path)).shape == (8, 8, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    whole.save(tmp_path / "turned.png", exif=exif)
    upright = np.asarray(whole.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(Scaling(20).pixels(str(tmp_path / "turned.png")), upright)


def test_pictures_that_cannot_be(tmp_path: Path) -> None:
    drawn(20, 20).save(tmp_path / "whole.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    drawn(900, 4).save(tmp_path / "long.png")
    found = {
        name: next(problem(locate(name, tmp_path), 3))
        for name in ("whol.png", "text.png", "empty.png", "deep.png", "long.png")
    }
    assert found["whol.png"] == f"names {tmp_path}/whol.png, which is no file; did you mean 'whole.png'?"
    for name in ("text.png", "empty.png"):
        assert (
            found[name]
            == f"names {tmp_path}/{name}, which is no picture (it is none of PNG, JPEG, WEBP, TIFF, GIF, BMP, PPM)"
        )
    assert "a picture with channels of kind 'I;16'; colours of 8 bits per channel are expected" in found["deep.png"]
    assert "a picture of 900 x 4 pixels; at most" in found["long.png"]
    with pytest.raises(ValueError, match=r"names .*, a folder, not a regular file"):
        locate(".", tmp_path)
    assert next(problem(locate([1, 2], tmp_path), 3)) == "is [1, 2], not the name of a file"


def test_broken_inside(tmp_path: Path) -> None:
    """What the beginning of a file does not tell; a whole one may have something behind its end."""
    path = tmp_path / "cut.jpg"
    drawn(200, 200, seed=1).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(2000))
    assert list(problem(locate(path.name, tmp_path), 3)) == []
    path.write_bytes(whole)
    path.write_bytes(path.read_bytes()[:-800])
    (found,) = problem(locate(path.name, tmp_path), 3)
    assert "a picture that cannot be read to its end" in found
    with pytest.raises(UserError, match=r"cut\.jpg: the picture cannot be read to its end"):
        Scaling(32).pixels(str(path))


def test_bombs(tmp_path: Path) -> None:
    """A small file that claims to hold a huge picture."""
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    assert path.stat().st_size < 200_000
    assert "which is no picture (it has too many pixels; at most 67,108,864 are read)" in next(
        problem(locate(path.name, tmp_path), 3)
    )
    Image.new("1", (9_000, 9_000)).save(path)  # one that Pillow would read
    assert "a picture of 9000 x 9000 pixels; at most 67,108,864 are read" in next(
        problem(locate(path.name, tmp_path), 3)
    )
    with pytest.raises(UserError, match="a picture of 9000 x 9000 pixels"):
        Scaling(32).pixels(str(path))


def test_neither_programs_nor_what_lies_elsewhere(tmp_path: Path) -> None:
    """A format that is run, whatever the file's name; pipes, devices, and links out of the folder of the data."""
    outside = tmp_path / "outside.png"
    drawn(20, 20).save(outside)
    folder = tmp_path / "data"
    folder.mkdir()
    canary = folder / "canary"
    (folder / "run.png").write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file closefile\n")
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(outside)
    (folder / "inner.png").symlink_to(folder / "own.png")
    drawn(20, 20).save(folder / "own.png")
    assert "which is no picture (it is none of PNG" in next(problem(locate("run.png", folder), 3))
    with pytest.raises(UserError, match="it is none of PNG"):
        Scaling(8).pixels(str(folder / "run.png"))
    assert not canary.exists()
    faults = {
        "pipe.png": "a pipe", "link.png": "a link that leads out", "/dev/zero": "outside of the folder",
        "../outside.png": "outside of the folder", str(outside): "outside of the folder", "x/../../y": "outside of",
    }  # fmt: skip
    for name, reason in faults.items():
        with pytest.raises(ValueError, match=reason):
            locate(name, folder)
    with pytest.raises(UserError, match="not a regular file"):
        Scaling(8).pixels(str(folder / "pipe.png"))
    with pytest.raises(ValueError, match="not the name of a file"):
        locate(["/dev/zero", 1, 1], folder)  # what is kept of a file that was found, written into a cell by hand
    for name in ("own.png", "inner.png", "../data/own.png", str(folder / "own.png")):
        assert list(problem(locate(name, folder), 3)) == []
    assert list(problem(locate("data/own.png", tmp_path), 3)) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, Scaling(224, resize="squeeze")),
        ({"size": 32, "resample": 2}, Scaling(32, resize="squeeze", resample=2)),
        ({"size": {"height": 32, "width": 32}}, Scaling(32, resize="squeeze")),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}, Scaling(224, edge=224)),
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, Scaling(224, edge=256)),
    ],
)
def test_published_scaling(content: dict[str, Any], expected: Scaling) -> None:
    assert published_scaling(content, expected.size, 3, "here") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"size": 64}, "makes pictures of 64 x 64 pixels, the model reads 32 x 32"),
        ({"crop_size": 32, "size": {"shortest_edge": 16}}, "is not a shorter side of 32 pixels or more"),
        ({"size": 32, "resample": 9}, "resample 9 is not one of 0 to 5"),
    ],
)
def test_published_scaling_that_cannot_be(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"here: .*{message}"):
        published_scaling(content, 32, 3, "here")


def test_published_moments() -> None:
    assert published_moments({"image_mean": [0.5] * 3, "image_std": [1] * 3}, 3, "here") == ([0.5] * 3, [1.0] * 3)
    assert published_moments({"do_normalize": False}, 1, "here") == ([0.0], [1.0])
    assert published_moments({}, 3, "here") is None
    for wrong in ([0.5], [0.5, 0.5, "x"], [0.0, 1.0, 1.0]):
        with pytest.raises(UserError, match=r"here: image_std .* is not 3 numbers"):
            published_moments({"image_mean": [0.5] * 3, "image_std": wrong}, 3, "here")


def test_colours_are_found() -> None:
    """Clouds of pixels around four colours."""
    random = np.random.default_rng(0)
    true = np.array([[20, 20, 20], [230, 20, 40], [30, 220, 60], [240, 240, 230]])
    pixels = (true[random.integers(0, 4, 2000)] + random.integers(-8, 9, (2000, 3))).astype(np.uint8)
    colours = Colours.fit(pixels, 4, generator(0, "colours"))
    found = colours.pixels(np.arange(4)).astype(int)
    assert all(np.abs(found - centre).max(1).min() < 4 for centre in true)
    assert Colours.fit(pixels, 4, generator(0, "colours")) == colours
    assert np.abs(colours.pixels(colours.numbers(pixels)).astype(int) - pixels).max() <= 16


def test_no_more_colours_than_there_are() -> None:
    pixels = np.array([[0, 0, 0], [255, 255, 255], [0, 0, 0]], np.uint8)
    colours = Colours.fit(pixels, 512, generator(0))
    assert len(colours) == 2
    assert np.array_equal(colours.pixels(colours.numbers(pixels)), pixels)


@pytest.mark.parametrize("clusters", [None, [], [[1, 2]], [[1, 2, "x"]], "red"])
def test_published_colours_that_cannot_be(clusters: Any) -> None:
    with pytest.raises(UserError, match="here: clusters are no list of colours of 3 numbers each"):
        Colours.published(clusters, 3, "here")
