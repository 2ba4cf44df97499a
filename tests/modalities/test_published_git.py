"""A published git with its processor, from YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality, load_modality
from eir_seq.models import create_model
from eir_seq.randomness import Draw
from eir_seq.tokenizers import train_tokenizer
from tests.parity.cases.images import GIT

PROCESSOR = {
    "size": {"shortest_edge": 20},
    "crop_size": {"height": 16, "width": 16},
    "do_center_crop": True,
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    create_model("git", GIT, task="causal-lm").save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    content["vision_config"] |= {"projection_dim": 512, "model_type": "git_vision_model"}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    train_tokenizer(WordTokenizerConfig(), ["a red spot"]).save(folder)
    return folder


def experiment(folder: Path, published: Path, **changes: Any) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    (folder / "rows.csv").write_text("text,picture,kind\na red spot,one.png,x\na spot,one.png,y\n")
    page = {
        "column": "text",
        "max_length": 8,
        "tensors": {"pixel_values": {"column": "picture", **changes.pop("picture", {})}},
        "model": {"model_type": str(published), "pretrained_model": True, **changes},
    }
    return validate_experiment(
        {
            "data": {"train": str(folder / "rows.csv"), "validation": None},
            "inputs": {"page": page},
            "outputs": {"kind": {"type": "classification", "column": "kind"}},
        }
    )


def pixels_of(config: Any) -> tuple[Any, Any]:
    rows = load_splits(config).train
    fitted = build_modality("page", config.inputs["page"]).fit(rows, 0)
    return fitted, fitted.collator(EncodedInMemory(fitted, rows[:]), [0, 1], Draw(0))["pixel_values"]


def test_pictures_are_scaled_as_the_published_processor_does(tmp_path: Path, published: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    fitted, pixels = pixels_of(experiment(tmp_path, published))
    processor = transformers.CLIPImageProcessor.from_pretrained(published)
    with Image.open(tmp_path / "one.png") as image:
        expected = processor(image, return_tensors="np").pixel_values[0]
    assert np.abs(pixels[0].numpy() - expected).max() < 1e-5
    fitted.save(tmp_path / "fitted")
    again = load_modality(tmp_path / "fitted")
    assert again.sources == fitted.sources
    assert again.describe()["tensors"]["pixel_values"] == {"column": "picture", "size": 16, "resize": "crop"}


def test_a_config_may_decide_on_the_shape(tmp_path: Path, published: Path) -> None:
    fitted, _ = pixels_of(experiment(tmp_path, published, picture={"resize": "squeeze"}))
    source = fitted.sources["pixel_values"]
    assert (source.resize, source.edge, source.mean) == ("squeeze", None, PROCESSOR["image_mean"])


def test_one_option_of_the_encoder_of_images_changes(tmp_path: Path, published: Path) -> None:
    config = experiment(tmp_path, published, model_init_config={"vision_config": {"attention_dropout": 0.2}})
    fitted, pixels = pixels_of(config)
    encoder = fitted.build_encoder(config.data)
    vision = encoder.backbone.config.vision
    assert (vision.attention_dropout, vision.image_size) == (0.2, 16)
    ids = torch.tensor([[2, 5, 3], [2, 6, 3]])
    tokens = encoder.read(ids, ids > 0, pixel_values=pixels)
    assert tokens.states.shape[:2] == (2, 3)


def test_an_unknown_option_of_the_encoder_of_images(tmp_path: Path, published: Path) -> None:
    place = r"inputs\.page\.model\.model_init_config\.vision_config\.attention_dropuot"
    with pytest.raises(UserError, match=rf"{place}: not an option of 'git_vision_model'; did you mean"):
        experiment(tmp_path, published, model_init_config={"vision_config": {"attention_dropuot": 0.2}})


def test_a_processor_for_another_model(tmp_path: Path, published: Path) -> None:
    path = published / "preprocessor_config.json"
    path.write_text(json.dumps({**PROCESSOR, "crop_size": 8}))
    config = experiment(tmp_path, published)
    with pytest.raises(
        UserError, match=r"preprocessor_config\.json: makes pictures of 8 x 8 pixels, the model reads 16"
    ):
        load_splits(config)
