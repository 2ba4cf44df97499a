"""Captions: git learns them from YAML, and writes them for other pictures from the bundle alone."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from eir_seq.training.samples import read_samples

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 230)}
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.1,
}


def make_rows(folder: Path, count: int, seed: int, *, captions: bool = True) -> tuple[Path, list[str]]:
    """A spot of a colour on dark or bright ground; the table, and the captions."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "pictures").mkdir(exist_ok=True)
    lines, texts = ["id,picture,caption" if captions else "id,picture"], []
    for number in range(count):
        name, bright = draw.choice(list(COLOURS)), draw.random() < 0.5
        pixels = noise.integers(0, 50, (16, 16, 3), np.uint8) + np.uint8(200 * bright)
        left, top = draw.randint(0, 8), draw.randint(0, 8)
        pixels[top : top + 8, left : left + 8] = COLOURS[name]
        Image.fromarray(pixels).save(folder / "pictures" / f"{seed}-{number}.png")
        texts.append(f"a {name} spot on {'bright' if bright else 'dark'} ground")
        lines.append(f"{seed}-{number},pictures/{seed}-{number}.png" + (f",{texts[-1]}" if captions else ""))
    path = folder / f"rows-{seed}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path, texts


def experiment(folder: Path, **changes: Any) -> Any:
    return validate_experiment(
        {
            "data": {
                "train": str(make_rows(folder, 120, 0)[0]),
                "id": "id",
                "batch_size": 10,
                "cache_dir": str(folder / "cache"),
            },
            "inputs": {
                "caption": {
                    "column": "caption",
                    "max_length": 16,
                    "tensors": {"pixel_values": {"column": "picture"}},
                    "model": {
                        "model_type": "git",
                        "model_init_config": {
                            **TINY,
                            "max_position_embeddings": 32,
                            "vision_config": {**TINY, "image_size": 16, "patch_size": 8},
                        },
                    },
                }
            },
            "outputs": {
                "text": {"type": "causal_lm", "generation": {"max_new_tokens": 10, "do_sample": False}, **changes}
            },
            "optimizer": {"type": "adamw", "lr": 0.01},
            "trainer": {"max_epochs": 16, "accelerator": "cpu"},
            "run": {"dir": str(folder / "run")},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captions")
    train(experiment(path))
    return path


def test_captions_of_other_pictures(folder: Path) -> None:
    """The table has no captions; in batches of any size they are the same."""
    table, expected = make_rows(folder, 30, 1, captions=False)
    found = []
    for size in (30, 7):
        written = predict(folder / "run" / "bundle", test=str(table), output=folder / "out.csv", batch_size=size)
        with written.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == [f"1-{number}" for number in range(30)]
        found.append([row["text"].strip() for row in rows])
    assert found[0] == found[1]
    assert sum(a == b for a, b in zip(found[0], expected, strict=True)) >= 28


def test_pictures_in_memory(folder: Path) -> None:
    make_rows(folder, 2, 3, captions=False)
    names = [f"pictures/3-{number}.png" for number in range(2)]
    predictor = Predictor(read_bundle(folder / "run" / "bundle"), accelerator="cpu", file_dir=folder)
    expected = predictor.predict([{"picture": name} for name in names])
    assert predictor.predict([{"picture": Image.open(folder / name)} for name in names]) == expected
    assert predictor.predict([{"picture": np.asarray(Image.open(folder / name))} for name in names]) == expected


def test_a_caption_may_be_begun(folder: Path) -> None:
    table, _ = make_rows(folder, 6, 2)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line.rpartition(",")[0] + ",a green spot" for line in lines[1:])]) + "\n")
    written = predict(folder / "run", test=str(table), output=folder / "begun.csv")
    with written.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["text_prompt"] for row in rows} == {"a green spot"}
    assert {row["text"].strip() for row in rows} <= {"on dark ground", "on bright ground"}


def test_captions_are_written_while_it_learns(folder: Path) -> None:
    samples = read_samples(folder / "run")
    assert len({sample.step for sample in samples}) == 16
    last = [sample for sample in samples if sample.step == samples[-1].step]
    assert all(sample.prompt.startswith("[0-") for sample in last)
    assert all(sample.text.strip().startswith("a ") for sample in last)


def test_pictures_are_needed(folder: Path) -> None:
    bundle = folder / "run" / "bundle"
    with pytest.raises(
        UserError, match=r"prompt: .* reads pixel_values in addition to a text; give a table with its rows"
    ):
        predict(bundle, prompt="a red", output=folder / "out.csv")
    path = folder / "bad.csv"
    path.write_text("id,picture\n1,pictures/0-0.png\n2,pictures/none.png\n3,\n")
    with pytest.raises(UserError) as caught:
        predict(bundle, test=str(path), output=folder / "out.csv")
    lines = [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]
    assert lines[0].startswith("bad.csv line 3: 'picture' names pictures/none.png, which is no file")
    assert lines[1] == "bad.csv line 4: 'picture' is empty"
    written = predict(bundle, test=str(path), output=folder / "out.csv", reading={"on_bad_row": "skip"})
    with written.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], bool(row["text"])) for row in rows] == [("1", True), ("2", False), ("3", False)]
    assert "none.png, which is no file" in rows[1]["not predicted"]


def test_captions_stay_by_their_pictures(tmp_path: Path) -> None:
    """Texts with tensors of their own are not cut into blocks."""
    with pytest.raises(UserError, match=r"outputs\.text\.documents: 'packed' is for a language model alone"):
        experiment(tmp_path, documents="packed")
