"""Image inputs: from files to colours, tokens, trained weights, a bundle and predictions."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities import load_modality
from eir_seq.modalities.image.preprocess import ImageModality
from eir_seq.models import create_model
from eir_seq.randomness import Draw
from eir_seq.training.run import train

TINY = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}


def make_rows(folder: Path, count: int, seed: int) -> Path:
    """A bright spot on the left or on the right of noise, in pictures of many shapes; and their table."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "pictures").mkdir(exist_ok=True)
    lines = ["picture,side"]
    for number in range(count):
        right = draw.random() < 0.5
        width, height = draw.randint(20, 60), draw.randint(20, 60)
        pixels = noise.integers(0, 120, (height, width, 3), np.uint8)
        pixels[height // 4 : -height // 4, slice(-width // 3, None) if right else slice(0, width // 3)] = 250
        Image.fromarray(pixels).save(folder / "pictures" / f"{seed}-{number}.png")
        lines.append(f"pictures/{seed}-{number}.png,{'right' if right else 'left'}")
    path = folder / f"rows-{seed}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def experiment(folder: Path, rows: int = 64, **changes: Any) -> Any:
    picture = {
        "type": "image",
        "column": "picture",
        "size": 8,
        "colours": 8,
        "model": {"model_type": "imagegpt", "model_init_config": TINY},
    }
    return validate_experiment(
        {
            "data": {
                "train": str(make_rows(folder, rows, 0)),
                "test": str(make_rows(folder, 24, 1)),
                "batch_size": 8,
                "cache_dir": str(folder / "cache"),
            },
            "inputs": {"picture": {**picture, **changes}},
            "fusion": {"type": "concat"},
            "outputs": {"side": {"type": "classification", "column": "side"}},
            "optimizer": {"type": "adamw", "lr": 0.01},
            "trainer": {"max_epochs": 6, "accelerator": "cpu"},
            "run": {"dir": str(folder / "run")},
        }
    )


def test_pictures_are_classified_and_the_bundle_knows_their_colours(tmp_path: Path) -> None:
    train(experiment(tmp_path))
    table = tmp_path / "run" / "predictions" / "test.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["side"] == row["side_true"] for row in rows) / len(rows) > 0.9
    again = predict(tmp_path / "run" / "bundle", test=str(tmp_path / "rows-1.csv"), output=tmp_path / "again.csv")
    assert again.read_text() == table.read_text().replace("test-", "")  # rows of a single file need no prefix


def test_tokens_of_a_picture(tmp_path: Path) -> None:
    """The token that begins a picture, then the colours of all pixels but the last, line by line."""
    config = experiment(tmp_path)
    splits = load_splits(config)
    fitted = ImageModality("picture", config.inputs["picture"]).fit(splits.train, 0)
    fitted.save(tmp_path / "fitted")
    again = load_modality(tmp_path / "fitted")
    assert again == fitted
    assert again.fingerprint() == fitted.fingerprint()
    assert ImageModality("picture", config.inputs["picture"]).fit(splits.train, 0) == fitted
    rows = splits.test[:3]
    batch = fitted.collator(EncodedInMemory(fitted, rows), [0, 1, 2], Draw(0))
    assert batch["input_ids"].shape == (3, 64)
    assert (batch["input_ids"][:, 0] == 8).all()
    assert batch["attention_mask"].all()
    with Image.open(tmp_path / "pictures" / "1-0.png") as image:
        squeezed = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(batch["input_ids"][0, 1:], fitted.colours.numbers(squeezed).reshape(-1)[:-1])
    assert fitted.show(rows)[0] == str(tmp_path / "pictures" / "1-0.png")
    assert fitted.describe() == {"type": "image", "column": "picture", "size": 8, "resize": "squeeze", "colours": 8}


def published(folder: Path, **changes: Any) -> Path:
    create_model("imagegpt", {**TINY, "vocab_size": 5}).save_pretrained(folder / "published")
    clusters = [[-1, -1, -1], [1, 1, 1], [1, -1, -1], [0, 0, 0]]
    content = {"clusters": clusters, "size": {"height": 8, "width": 8}, "resample": 3, **changes}
    (folder / "published" / "preprocessor_config.json").write_text(json.dumps(content))
    return folder / "published"


def test_published_colours(tmp_path: Path) -> None:
    model = {"model_type": str(published(tmp_path)), "pretrained_model": True}
    config = experiment(tmp_path, model=model, size=None, colours=None)
    fitted = ImageModality("picture", config.inputs["picture"]).fit(load_splits(config).train, 0)
    assert (fitted.scaling.size, fitted.scaling.resample, len(fitted.colours)) == (8, 3, 4)
    assert fitted.tokenizer.bos_id == 4
    encoder = fitted.build_encoder(config.data)
    assert encoder.backbone.config.vocab_size == 5
    fitted.save(tmp_path / "fitted")
    (tmp_path / "published" / "config.json").unlink()
    rebuilt = load_modality(tmp_path / "fitted").build_encoder(config.data, pretrained=False)
    assert rebuilt.describe_backbone() == encoder.describe_backbone()


def test_bad_pictures(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    (tmp_path / "pictures" / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "pictures" / "deep.tiff")
    rows = ("text.png,left", "deep.tiff,left", "0-x.png,left", "0-1.png,right")
    table = "picture,side\n" + "".join(f"pictures/{row}\n" for row in rows) + ",left\n"
    (tmp_path / "rows-0.csv").write_text(table)
    with pytest.raises(UserError) as caught:
        load_splits(config)
    lines = [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]
    assert lines[0].startswith("rows-0.csv line 2: 'picture' names pictures/text.png, which is no picture")
    assert lines[1].startswith(
        "rows-0.csv line 3: 'picture' names pictures/deep.tiff, a picture with channels of kind 'I'"
    )
    assert lines[2].startswith("rows-0.csv line 4: 'picture' names pictures/0-x.png, which is no file; did you mean")
    assert lines[3].startswith("rows-0.csv line 6: 'picture' is ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 9}, r"inputs\.picture\.size: 81 tokens are more than the 64 positions of 'imagegpt'"),
        ({"colors": 9}, r"inputs\.picture\.colors: unknown key; did you mean 'colours'\?"),
        ({"colours": 1}, r"inputs\.picture\.colours: .*2"),
        ({"column": "side"}, r"inputs\.picture\.column: column 'side' is the target of outputs\.side"),
        (
            {"model": {"model_type": "imagegpt", "pretrained_model": True}},
            r"inputs\.picture\.size: has no effect with a pretrained model, which has its own",
        ),
        (
            {"model": {"model_type": "imagegpt", "model_init_config": {**TINY, "vocab_size": 8}}},
            r"inputs\.picture\.colours: there are 9 tokens, the model has embeddings for 8",
        ),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    def build() -> None:
        config = experiment(tmp_path, rows=8, **changes)
        ImageModality("picture", config.inputs["picture"]).fit(load_splits(config).train, 0).build_encoder(config.data)

    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clusters": [[1, 2]]}, "clusters are no list of colours of 3 numbers each"),
        ({"size": "wide"}, "size 'wide' is not a number of pixels"),
        ({"resample": 9}, "resample 9 is not one of 0 to 5"),
    ],
)
def test_published_files_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = {"model_type": str(published(tmp_path, **changes)), "pretrained_model": True}
    config = experiment(tmp_path, rows=8, model=model, size=None, colours=None)
    with pytest.raises(UserError, match=rf"preprocessor_config\.json: {message}"):
        ImageModality("picture", config.inputs["picture"]).fit(load_splits(config).train, 0)


def test_a_published_model_without_its_colours(tmp_path: Path) -> None:
    folder = published(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    model = {"model_type": str(folder), "pretrained_model": True}
    config = experiment(tmp_path, rows=8, model=model, size=None, colours=None)
    with pytest.raises(UserError, match=r"has no preprocessor_config\.json, which holds the model's palette"):
        ImageModality("picture", config.inputs["picture"]).fit(load_splits(config).train, 0)
