"""Pictures as pixels: from files and bytes to batches, a bundle and predictions."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from eir_seq.config import packages
from eir_seq.config.compose import compose_experiment
from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.modalities import load_modality
from eir_seq.modalities.image.preprocess import ImageModality
from eir_seq.modalities.pictures import BILINEAR, Scaling, picture_in_memory, thumbnail
from eir_seq.randomness import Draw
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from tests.config.project import make_project
from tests.modalities.test_image import make_rows

CNN = {"model_type": "cnn", "model_init_config": {"channel_exp_base": 3, "output_size": 16}}


def experiment(folder: Path, rows: int = 8, data: Any = None, raw: bool = False, **changes: Any) -> Any:
    given = {
        "data": {"cache_dir": str(folder / "cache"), "batch_size": 8, "validation": None}
        | (data or {"train": str(make_rows(folder, rows, 0)), "test": str(make_rows(folder, 12, 1))}),
        "inputs": {"picture": {"type": "image", "column": "picture", "size": 16, "model": CNN, **changes}},
        "fusion": {"type": "concat"},
        "outputs": {"side": {"type": "classification", "column": "side"}},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 3, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    return given if raw else validate_experiment(given)


def fit(config: Any) -> Any:
    splits = load_splits(config)
    assert splits.train is not None
    return ImageModality("picture", config.inputs["picture"]).fit(splits.train, 0), splits


@pytest.mark.usefixtures("one_thread")
def test_pictures_are_classified(tmp_path: Path) -> None:
    """Training, a bundle without its data, and predictions."""
    train(experiment(tmp_path, 48))
    table = tmp_path / "run" / "predictions" / "test.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["side"] == row["side_true"] for row in rows) / len(rows) > 0.9
    again = predict(tmp_path / "run" / "bundle", test=str(tmp_path / "rows-1.csv"), output=tmp_path / "again.csv")
    assert again.read_text() == table.read_text().replace("test-", "")  # rows of a single file need no prefix
    in_memory_as_in_files(tmp_path)


def in_memory_as_in_files(folder: Path) -> None:
    """A picture's file, its bytes, a Pillow image and its pixels are predicted alike; other values are named."""
    predictor = Predictor(read_bundle(folder / "run" / "bundle"), accelerator="cpu", file_dir=folder)
    with (folder / "rows-1.csv").open(newline="", encoding="utf-8") as file:
        name = str(next(iter(csv.DictReader(file)))["picture"])
    content = (folder / name).read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    for pictures in ([name], [content], [image, np.asarray(image), image.convert("CMYK").convert("RGB")]):
        found = predictor.predict([{"picture": picture} for picture in pictures])
        assert found == [predictor.predict([{"picture": name}])[0]] * len(pictures)
    with pytest.raises(UserError) as caught:
        predictor.predict([{"picture": np.zeros((4, 4), np.float32)}, {"picture": name}, {"picture": np.uint8(3)}])
    assert [str(fault) for fault in caught.value.faults][:1] == [
        "rows row 1: 'picture' holds an array of float32, 4 x 4; pixels of uint8, height x width or height x width x "
        "channels, are expected"
    ]


def test_kinds_of_pictures_in_memory() -> None:
    gray, colours = Image.new("L", (3, 2), 7), Image.new("RGB", (3, 2), (1, 2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = io.BytesIO()
    gray.save(turned, "PNG", exif=exif)
    for value, size, mode in (
        (gray, (3, 2), "L"),
        (np.zeros((2, 3, 1), np.uint8), (3, 2), "L"),
        (np.zeros((2, 3, 4), np.uint8), (3, 2), "RGBA"),
        (colours.convert("CMYK"), (3, 2), "CMYK"),
        (Image.open(turned), (2, 3), "L"),
    ):
        with Image.open(io.BytesIO(picture_in_memory(value))) as image:
            assert (image.size, image.mode) == (size, mode)
    assert picture_in_memory(["a.png", None, b"x"]) == ["a.png", None, b"x"]
    with pytest.raises(ValueError, match="channels of kind 'HSV'; convert it to 'RGB' or 'L'"):
        picture_in_memory(colours.convert("HSV"))
    with pytest.raises(ValueError, match="holds an array of uint8, 2 x 3 x 5; pixels"):
        picture_in_memory(np.zeros((2, 3, 5), np.uint8))


def test_what_a_batch_holds(tmp_path: Path) -> None:
    """Bytes scaled as said, standardized by what was measured on training pictures."""
    config = experiment(tmp_path, size=[12, 20], mode="L")
    fitted, splits = fit(config)
    rows = splits.train[:]
    encoded = EncodedInMemory(fitted, rows)
    pixels = encoded.arrays("pixels", range(8))
    assert pixels.shape == (8, 12, 20, 1)
    assert pixels.dtype == np.uint8
    with Image.open(tmp_path / "pictures" / "0-3.png") as image:
        expected = np.asarray(image.convert("L").resize((20, 12), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels[3, :, :, 0], expected)
    assert fitted.mean == pytest.approx([(pixels / 255).mean()])
    assert fitted.std == pytest.approx([(pixels / 255).std()])
    values = fitted.collator(encoded, [3, 1], Draw(0))["pixel_values"]
    assert values.shape == (2, 1, 12, 20)
    assert np.abs(values[0, 0].numpy() - (expected / 255 - fitted.mean[0]) / fitted.std[0]).max() < 1e-5
    fitted.save(tmp_path / "fitted")
    again = load_modality(tmp_path / "fitted")
    assert (again, again.fingerprint()) == (fitted, fitted.fingerprint())
    assert torch.equal(again.collator(encoded, [3, 1], Draw(0))["pixel_values"], values)
    assert fitted.show(rows)[3].endswith("0-3.png")
    described = fitted.describe()
    assert (described["size"], described["channels"], described["resize"]) == ([12, 20], 1, "squeeze")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("kind", ["P", "L", "1", "RGBA", "CMYK", "LA", "YCbCr"])
def test_every_kind_of_picture_has_the_channels_of_the_mode(kind: str, mode: str, channels: int) -> None:
    whole = Image.fromarray(np.full((6, 9, 3), 200, np.uint8))
    pixels = Scaling(4, channels, "squeeze", width=6).of_image(whole.convert(kind))
    assert pixels.shape == (4, 6, channels)
    allowed = {"1": 255, "P": 12}.get(kind, 2)  # black and white, or a palette, with dithering
    assert np.abs(pixels[..., 0].astype(int) - 200).max() <= allowed
    assert mode != "RGBA" or (pixels[..., 3] == 255).all()


def test_crops_of_other_shapes_than_squares() -> None:
    """The picture covers what is taken from its middle, and as little as possible is cut away."""
    across = np.tile(np.arange(100, dtype=np.uint8), (50, 1))
    cut = Scaling(10, 1, "crop", None, BILINEAR, 10).of_image(Image.fromarray(across))[..., 0]
    assert cut.shape == (10, 10)
    assert (cut[:, 0] >= 24).all() and (cut[:, -1] <= 75).all()  # noqa: PT018
    wide = Scaling(5, 1, "crop", None, BILINEAR, 20).of_image(Image.fromarray(across))[..., 0]
    assert wide.shape == (5, 20)
    assert (wide[:, 0] <= 3).all() and (wide[:, -1] >= 96).all()  # noqa: PT018
    less = Scaling(5, 1, "crop", 10, BILINEAR, 20).of_image(Image.fromarray(across))[..., 0]
    assert (less[:, 0] >= 24).all() and (less[:, -1] <= 75).all()  # noqa: PT018


def test_random_crops(tmp_path: Path) -> None:
    """In training one of the larger picture, drawn by epoch and row; else the middle."""
    config = experiment(tmp_path, size=14, resize="random-crop", crop_pct=0.5, mean=[0] * 3, std=[1] * 3)
    fitted, splits = fit(config)
    encoded = EncodedInMemory(fitted, splits.train[:])
    pixels = torch.from_numpy(encoded.arrays("pixels", range(8))).permute(0, 3, 1, 2) / 255
    assert pixels.shape == (8, 3, 28, 28)

    def read(rows: Any, epoch: int | None) -> torch.Tensor:
        found: torch.Tensor = fitted.collator(encoded, rows, Draw(0, epoch))["pixel_values"]
        return found

    assert torch.equal(read(range(8), None), pixels[:, :, 7:21, 7:21])
    first = read(range(8), 0)
    assert torch.equal(read([5, 2], 0), first[[5, 2]])  # whatever the batch
    assert not torch.equal(read(range(8), 1), first)
    windows = pixels.unfold(2, 14, 1).unfold(3, 14, 1)  # (8, 3, 15, 15, 14, 14)
    assert all((windows[row] == first[row][:, None, None]).all(-1).all(-1).all(0).any() for row in range(8))


# ------------------------------------------------------------------------------------------------------ augmentation


@pytest.mark.parametrize("augmentation", ["flip", "trivial", {"policy": "rand", "operations": 4, "magnitude": 20}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_training_pictures_are_changed(augmentation: Any, mode: str, tmp_path: Path) -> None:
    """By epoch and row alone: neither the batch nor the state of other random numbers matters, and none is touched."""
    pytest.importorskip("kornia", reason="the extra images is not installed")
    channels = 1 if mode == "L" else 3
    changes = {"augmentation": augmentation, "mode": mode, "mean": [0] * channels, "std": [1] * channels}
    fitted, splits = fit(experiment(tmp_path, 24, **changes))
    encoded = EncodedInMemory(fitted, splits.train[:])

    def read(rows: Any, epoch: int | None) -> torch.Tensor:
        found: torch.Tensor = fitted.collator(encoded, rows, Draw(3, epoch))["pixel_values"]
        return found

    plain, state = read(range(24), None), torch.get_rng_state()
    first = read(range(24), 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(read([7, 3, 20], 0), first[[7, 3, 20]])
    assert not torch.equal(read(range(24), 1), first)
    assert first.shape == plain.shape
    assert first.min() >= 0
    assert first.max() <= 1
    changed = [not torch.equal(before, after) for before, after in zip(plain, first, strict=True)]
    if augmentation == "flip":
        assert 4 < sum(changed) < 20
        mirrored = [torch.equal(before.flip(-1), after) for before, after in zip(plain, first, strict=True)]
        assert changed == mirrored
    else:
        assert sum(changed) > 12


def test_augmentation_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, augmentation="trivial")
    from eir_seq.modalities.image import config as module

    monkeypatch.setattr(module, "is_installed", lambda package: package != "kornia")
    (fault,) = config.inputs["picture"].preflight("inputs.picture")
    assert str(fault) == ("inputs.picture.augmentation: kornia is not installed; run: pip install 'eir_seq[images]'")
    assert packages.missing_package("timm").endswith("'eir_seq[timm]'")


# ------------------------------------------------------------------------------------------------------------- bytes


def png(seed: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(target, "PNG")
    return target.getvalue()


def parquet(path: Path, cells: Any) -> dict[str, Any]:
    pq.write_table(pa.table({"picture": cells, "side": ["left", "right"] * (len(cells) // 2)}), path)
    return {"train": str(path)}


@pytest.mark.parametrize("kind", ["binary", "large_binary", "hub"])
def test_bytes_in_a_column(kind: str, tmp_path: Path) -> None:
    """The same pixels as of the files; the Hub's feature may name a file in place of bytes."""
    contents = [png(seed) for seed in range(4)]
    for seed, content in enumerate(contents):
        (tmp_path / f"{seed}.png").write_bytes(content)
    if kind == "hub":
        cells = pa.array(
            [{"bytes": content, "path": f"{seed}.png"} for seed, content in enumerate(contents[:3])]
            + [{"bytes": None, "path": "3.png"}]
        )
    else:
        cells = pa.array(contents, getattr(pa, kind)())
    fitted, splits = fit(experiment(tmp_path, data=parquet(tmp_path / "rows.parquet", cells)))
    found = EncodedInMemory(fitted, splits.train[:]).arrays("pixels", range(4))
    expected = [Scaling(16, 3, "squeeze", resample=BILINEAR).pixels(str(tmp_path / f"{seed}.png")) for seed in range(4)]
    assert np.array_equal(found, np.stack(expected))
    names = fitted.show(splits.train[:])
    assert names[0] == ("0.png" if kind == "hub" else f"{len(contents[0]):,} bytes")
    assert kind != "hub" or names[3] == str(tmp_path / "3.png")


def test_bad_bytes(tmp_path: Path) -> None:
    huge = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(huge, "PNG")
    deep = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.int32)).save(deep, "TIFF")
    cells = pa.array([b"no picture", b"", huge.getvalue(), deep.getvalue(), None, png(0)], pa.binary())
    with pytest.raises(UserError) as caught:
        load_splits(experiment(tmp_path, data=parquet(tmp_path / "rows.parquet", cells)))
    lines = [str(fault) for fault in caught.value.faults]
    for line, part in zip(
        lines,
        (
            "'picture' holds 10 bytes, which is no picture (it is none of PNG",
            "'picture' holds 0 bytes, which is no picture",
            "bytes, a picture of 9000 x 9000 pixels; at most 67,108,864 are read",
            "bytes, a picture with channels of kind 'I'; colours of 8 bits per channel are expected",
            "'picture' is missing",
        ),
        strict=True,
    ):
        assert part in line


def test_a_truncated_picture(tmp_path: Path) -> None:
    """It is found before training, with its row."""
    cells = pa.array([{"bytes": png(seed)[:-300], "path": f"{seed}.png"} for seed in range(2)])
    with pytest.raises(UserError, match=r"row 1: 'picture' holds 0\.png, a picture that cannot be read to its end"):
        fit(experiment(tmp_path, data=parquet(tmp_path / "rows.parquet", cells)))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[0, 1], [2]], r"'picture' is \[\[0, 1\], \[2\]\], not the name of a file"),
        ({"base64": "%%"}, "'picture' is an object that holds no bytes"),
        ({"base64": base64.b64encode(b"GIF").decode()}, "'picture' holds 3 bytes, which is no picture"),
        ({"bytes": 3}, "'picture' is 3, not the name of a file"),
        ({"other": 3}, "'picture' is {'other': 3}, not the name of a file"),
        ({"path": ["a"]}, r"'picture' is \['a'\], not the name of a file"),
        ({"bytes": None, "path": None}, "'picture' is None, not the name of a file"),
    ],
)
def test_cells_that_hold_no_picture(cell: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"picture": cell, "side": "left"}) + "\n")
    with pytest.raises(UserError, match=message):
        load_splits(experiment(tmp_path, data={"train": str(tmp_path / "rows.jsonl")}))


# ----------------------------------------------------------------------------------------------------------- configs


def of(model_type: str, **options: Any) -> dict[str, Any]:
    return {"model": {"model_type": model_type, **({"model_init_config": options} if options else {})}}


NEITHER = "is neither one of cnn, resnet, vit, identity, timm nor in the catalogue; did you mean"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (of("cnnn"), f"model.model_type: 'cnnn' {NEITHER} 'cnn'?"),
        (of("imagegp"), f"model.model_type: 'imagegp' {NEITHER} 'imagegpt'?"),
        ({"colours": 8}, "colours: has no effect with cnn, which reads pixels without a palette"),
        ({**of("imagegpt"), "mode": "L"}, "mode: has no effect where an architecture of the catalogue"),
        ({**of("imagegpt"), "size": [8, 9]}, "size: [8, 9] is not one number"),
        ({**of("imagegpt"), "resize": "random-crop"}, "resize: 'random-crop' is for encoders of pixels"),
        ({"size": [1, 2, 3]}, "size: [1, 2, 3] is neither an integer >= 1 nor a list of 2 values"),
        ({"size": 0}, "size: 0 is neither"),
        ({"crop_pct": 0.5}, "crop_pct: has no effect without resize: crop or random-crop"),
        ({"resize": "crop", "crop_pct": 1.5}, "crop_pct: 1.5 is not a number > 0 and <= 1"),
        ({"mean": [0.5], "std": [0.5] * 3}, "mean: has 1 numbers; mode RGB has 3 channels"),
        ({"mean": [0.5] * 3}, "std: is missing; mean is given"),
        ({"mean": [0.5] * 3, "std": [0.0] * 3}, "std[0]: 0.0 is not a number > 0"),
        ({"mode": "CMYK"}, "mode: 'CMYK' is not one of 'L', 'RGB', 'RGBA'"),
        ({"augmentation": "trivail"}, "nor a mapping; did you mean 'trivial'"),
        ({"augmentation": {"magnitude": 5}}, "augmentation.magnitude: has no effect without policy: rand"),
        ({"augmentation": "rand", "mode": "RGBA"}, "augmentation: policy 'rand' changes colours or gray"),
        ({**of("vit", patch_size=8), "size": 20}, "size: 20 x 20 pixels are not divisible into patches of 8"),
        (of("vit", hidden_size=10), "hidden_size: 10 is not divisible by num_attention_heads 12"),
        (of("resnet", depth=19), "depth: 19 is not one of 18, 34, 50, 101, 152"),
        ({"model": {"model_type": "resnet", "freeze": ["bn1"]}}, "freeze: has no effect without published weights"),
        (of("cnn", kernel=3), "model_init_config.kernel: unknown key"),
        (of("timm"), "model_type: 'timm' is not timm/NAME"),
        (of("timm/x", in_chans=3), "model_init_config.in_chans: is decided by the input"),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"inputs\.picture\..*{re.escape(message)}"):
        experiment(tmp_path, **changes)


def test_another_encoder_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file says of its own encoder means nothing then, but for options that both have."""
    given = experiment(tmp_path, raw=True, model={"model_type": "resnet", "weights": "a.pth", "freeze": ["conv1"],
                                                  "model_init_config": {"depth": 18}})  # fmt: skip
    make_project(tmp_path, "# @package _global_\n" + yaml.safe_dump({key: given[key] for key in ("inputs", "outputs")}))
    monkeypatch.chdir(tmp_path)
    key = "inputs.picture.model"
    composed = compose_experiment(["experiment=mine", f"data.train={tmp_path}/rows-0.csv", f"{key}.model_type=vit"])
    picture: Any = composed.config.inputs["picture"]
    model = picture.model
    assert (model.model_type, model.weights, model.model_init_config.patch_size) == ("vit", "a.pth", 16)
    assert composed.notes == (f"{key}: vit has no use for depth of the experiment's file; left out",)
    words = [f"{key}.model_type=imagegpt", f"{key}.freeze=[]"]
    composed = compose_experiment(["experiment=mine", f"data.train={tmp_path}/rows-0.csv", *words])
    assert composed.config.inputs["picture"].backbone is not None
    assert composed.notes[0] == f"{key}: imagegpt has no use for weights of the experiment's file; left out"


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").write_bytes(b"")
    (tmp_path / "resnet18.txt").write_bytes(b"")

    def said(model: dict[str, Any]) -> list[str]:
        config = experiment(tmp_path, size=32, model=model)
        faults = config.inputs["picture"].preflight("inputs.picture")
        return [str(fault).replace(f"{tmp_path}/", "") for fault in faults]

    place = "inputs.picture.model.weights: "
    missing = said({"model_type": "resnet", "weights": str(tmp_path / "resnet8.pth")})
    assert missing == [place + "there is no file 'resnet8.pth'; did you mean 'resnet18.pth'?"]
    (foreign,) = said({"model_type": "resnet", "weights": str(tmp_path / "resnet18.txt")})
    assert foreign == place + "'resnet18.txt' is no file of weights (.safetensors, .pth, .pt, .bin)"
    (folder,) = said({"model_type": "vit", "weights": str(tmp_path / "vit")})
    assert folder == place + "vit: no such folder"
    assert said({"model_type": "timm/resnet18"}) in (
        [],
        ["inputs.picture.model.model_type: timm is not installed; run: pip install 'eir_seq[timm]'"],
    )


def test_a_folder_of_pictures_as_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of the Hub's image folders: classes are the names of the folders."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    for side in ("left", "right"):
        (tmp_path / "pictures" / "train" / side).mkdir(parents=True)
        for seed in range(2):
            (tmp_path / "pictures" / "train" / side / f"{seed}.png").write_bytes(png(seed))
    data = {"source": "hub", "name": str(tmp_path / "pictures"), "train": "train", "rename": {"image": "picture"}}
    config = experiment(tmp_path, data={**data, "rename": {"image": "picture", "label": "side"}})
    fitted, splits = fit(config)
    found = EncodedInMemory(fitted, splits.train[:]).arrays("pixels", range(4))
    scaled = [Scaling(16, 3, "squeeze", resample=BILINEAR).pixels(png(seed)) for seed in (0, 1, 0, 1)]
    assert np.array_equal(found, np.stack(scaled))
    assert splits.train["side"] == ["left", "left", "right", "right"]


def test_thumbnails_are_small_pictures(tmp_path: Path) -> None:
    wide = Image.new("RGB", (200, 100), (10, 200, 30))
    wide.save(tmp_path / "wide.jpg")
    found = Image.open(io.BytesIO(thumbnail(str(tmp_path / "wide.jpg"))))
    assert (found.format, found.size) == ("PNG", (64, 32))
    clear = io.BytesIO()
    Image.new("LA", (8, 6), (90, 0)).save(clear, "PNG")
    small = Image.open(io.BytesIO(thumbnail(clear.getvalue())))
    assert (small.size, small.getpixel((0, 0))) == ((8, 6), (90, 90, 90, 0))
    (tmp_path / "broken.png").write_bytes(clear.getvalue()[:40])
    with pytest.raises(UserError, match=r"broken.png: the picture cannot be read"):
        thumbnail(str(tmp_path / "broken.png"))
