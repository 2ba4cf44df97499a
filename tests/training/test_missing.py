"""Rows that lack inputs and targets: losses and metrics are those of the rest, and runs learn, resume and predict."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.dataset import BatchKey
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.outputs.measure import measure
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate
from eir_seq.training.groups import Groups
from eir_seq.training.losses import loss_counts, loss_terms, weighted_loss
from eir_seq.training.objective import batch_loss
from eir_seq.training.run import train
from tests.training.stopping import stopped_after
from tests.training.table import TINY

CPU = torch.device("cpu")
MODEL = {"model_type": "bert", "model_init_config": {**TINY, "hidden_dropout_prob": 0.0}}


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def table(path: Path, rows: int, *, gaps: bool = True, seed: int = 0) -> Path:
    """Rows of three texts, each of which tells the class: row ``3 n`` lacks the first, ``3 n + 1`` the second.

    Every fifth row has no class, every fourth of the others no number, every seventh no tags.
    """
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "first", "second", "words", "mood", "score", "tags"])
        for row in range(rows):
            good = draw.random() < 0.5
            first, second = (
                " ".join([pair[not good], *draw.choices(["day", "and", "a"], k=draw.randint(1, 9))])
                for pair in (("bright", "grey"), ("warm", "cold"))
            )
            words = [("kind", "rude")[not good], *draw.choices("xyz", k=draw.randint(1, 6))]
            values = [first, second, json.dumps(words), "good" if good else "bad", good + draw.random() / 5]
            values.append(json.dumps(["B" if len(word) > 1 else "O" for word in words]))
            lacking = {
                0: row % 3 == 0,
                1: row % 3 == 1,
                2: row % 6 == 2,
                3: row % 5 == 0,
                4: row % 4 == 1 and row % 5 > 0,
            }
            lacking[5] = row % 7 == 0
            writer.writerow(
                [
                    f"{path.stem}-{row}",
                    *("" if gaps and lacking[place] else value for place, value in enumerate(values)),
                ]
            )
    return path


def experiment(folder: Path, *, gaps: bool = True, tags: bool = False, **changes: Any) -> ExperimentConfig:
    """An experiment on such rows; `changes` are merged into its sections."""
    for name, rows in (("train", 96), ("validation", 48)):
        if not (folder / f"{name}.csv").exists():
            table(folder / f"{name}.csv", rows, gaps=gaps, seed=rows)
    text = {"type": "sequence", "max_length": 12, "model": MODEL}
    sections: dict[str, Any] = {
        "data": {
            "train": str(folder / "train.csv"),
            "validation": str(folder / "validation.csv"),
            "id": "id",
            "batch_size": 16,
            "on_missing": "keep",
        },
        "inputs": {name: {**text, "column": name} for name in ("first", "second")},
        "fusion": {"type": "mlp-residual", "hidden_size": 8, "num_layers": 1, "dropout": 0.0},
        "outputs": {
            "mood": {"type": "classification", "column": "mood", "loss": "focal", "class_weights": "balanced"},
            "score": {"type": "regression", "column": "score"},
        },
        "optimizer": {"type": "adamw", "lr": 0.02},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
        "cache": {"dir": str(folder / "cache")},
    }
    if tags:
        sections["inputs"]["words"] = {**text, "column": "words", "is_split_into_words": True}
        sections["outputs"]["tags"] = {"type": "token_classification", "column": "tags", "input": "words"}
    for section, values in changes.items():
        sections[section] = {**sections[section], **values}
    return validate_experiment(sections)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("missing")


@pytest.fixture(scope="module")
def parts(folder: Path) -> Parts:
    with Console() as console:
        return assemble(experiment(folder, tags=True), console)


class TestMasks:
    def test_a_batch_says_what_its_rows_lack(self, parts: Parts) -> None:
        batch = parts.data.encoded["train"][BatchKey((0, 1, 2, 3, 8))]
        assert {name: mask.tolist() for name, mask in batch["present"].items()} == {
            "first": [False, True, True, False, True],
            "second": [True, False, True, True, True],
            "words": [True, True, False, True, False],
        }
        # Row 2 has tags and no words, whose tags they would be; row 0 has neither class nor tags.
        labelled = {name: rows.tolist() for name, rows in batch["labelled"].items()}
        assert labelled == {"mood": [1, 2, 3, 4], "score": [0, 2, 3, 4], "tags": [1, 3]}

    def test_what_is_learned_is_that_of_labelled_rows(self, parts: Parts) -> None:
        rows = [row for row in range(96) if row % 5]
        described = parts.outputs["mood"].describe()
        assert sum(described["classes"].values()) == len(rows)
        assert parts.splits.train is not None
        scores = [score for score in parts.splits.train["score"] if score is not None]
        assert parts.outputs["score"].describe()["mean"] == pytest.approx(sum(scores) / len(scores))

    @pytest.mark.parametrize("name", ["mood", "score", "tags"])
    def test_the_loss_is_that_of_the_labelled_rows_alone(self, parts: Parts, name: str) -> None:
        split, network = parts.data.encoded["train"], parts.network.eval()
        batch = split[BatchKey(tuple(range(24)))]
        kept = batch["labelled"][name]
        alone = split[BatchKey(tuple(kept.tolist()))]
        assert 0 < len(kept) < 24
        assert len(alone["labelled"][name]) == len(kept)
        found = []
        for given in (batch, alone):
            terms = loss_terms(parts.outputs, network(given["inputs"], given["present"]), given)
            found.append((terms[name].sum().detach(), loss_counts(network, parts.outputs, given)[name]))
        assert found[0][1] == found[1][1]
        # The same rows padded to other lengths.
        assert float(found[0][0]) == pytest.approx(float(found[1][0]), rel=1e-5)

    def test_rows_without_a_target_have_no_gradient(self, parts: Parts) -> None:
        batch = parts.data.encoded["train"][BatchKey(tuple(range(8)))]
        raw = {
            name: torch.randn_like(values) for name, values in parts.network(batch["inputs"], batch["present"]).items()
        }
        raw["score"].requires_grad_()
        loss_terms(parts.outputs, raw, batch)["score"].sum().backward()  # type: ignore[no-untyped-call]
        assert raw["score"].grad is not None
        assert raw["score"].grad.flatten().nonzero().flatten().tolist() == batch["labelled"]["score"].tolist()

    @pytest.mark.parametrize("row", [0, 5, 2])
    def test_a_batch_without_any_target_of_an_output(self, parts: Parts, row: int) -> None:
        batch = parts.data.encoded["train"][BatchKey((row,))]
        assert any(len(rows) == 0 for rows in batch["labelled"].values())
        assert float(batch_loss(parts.network, parts.outputs, batch, CPU).detach()) > 0

    def test_micro_batches_make_the_step_of_one_batch(self, parts: Parts) -> None:
        split, network = parts.data.encoded["train"], parts.network.eval()
        gradients = []
        for sizes in ((12,), (5, 4, 3), (1,) * 12):
            rows = iter(range(12))
            batches = [split[BatchKey(tuple(next(rows) for _ in range(size)))] for size in sizes]
            network.zero_grad()
            for batch in Groups(batches, network, parts.outputs, len(batches)):
                raw = network(batch["inputs"], batch["present"])
                terms = loss_terms(parts.outputs, raw, batch)
                weighted_loss(parts.outputs, terms, batch["step_counts"]).backward()  # type: ignore[no-untyped-call]
            gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        for found in gradients[1:]:
            assert (found - gradients[0]).norm() < 1e-5 * gradients[0].norm()  # sums in another order

    def test_metrics_are_those_of_the_labelled_rows(self, parts: Parts) -> None:
        split = parts.data.encoded["validation"]
        found = evaluate(parts.network, parts.outputs, parts.batches("validation"), device=CPU)
        for name, output in parts.outputs.items():
            rows = split.labelled[name].nonzero()[0].tolist()
            assert found.labelled[name] == rows
            values = measure(output, found.raw[name][rows], split.targets[name][rows])
            assert {metric: found.values[name, metric] for metric in values} == values
        columns = found.columns(parts.outputs, parts.splits.validation)  # type: ignore[arg-type]
        for name in ("mood", "score", "tags"):
            empty = {row for row, value in enumerate(columns[name][f"{name}_true"]) if value == ""}
            assert empty == set(range(48)) - set(found.labelled[name])
        assert {row for row, value in enumerate(columns["tags"]["tags"]) if value == ""} == set(range(2, 48, 6))
        assert "" not in columns["mood"]["mood"]

    def test_an_input_has_no_say_where_it_is_missing(self, parts: Parts) -> None:
        batch, network = parts.data.encoded["train"][BatchKey(tuple(range(6)))], parts.network.eval()
        before = network(batch["inputs"], batch["present"])["mood"]
        changed = {name: dict(tensors) for name, tensors in batch["inputs"].items()}
        changed["first"]["input_ids"] = changed["first"]["input_ids"].flip(0)
        after = network(changed, batch["present"])["mood"]
        moved = (before != after).any(dim=1).tolist()
        assert moved[0] is moved[3] is False
        assert moved[1] is True


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train(experiment(folder, trainer={"max_epochs": 8}), finish=write_report)
    return folder


class TestRuns:
    def test_learns_from_what_is_there(self, finished: Path) -> None:
        result = json.loads((finished / "run" / "result.json").read_text())
        assert result["validation"]["mood"]["accuracy"] > 0.9
        assert result["validation"]["score"]["r2"] > 0.6

    def test_says_what_is_missing(self, finished: Path) -> None:
        manifest = json.loads((finished / "run" / "manifest.json").read_text())
        assert manifest["data"]["missing"]["train"] == {
            "inputs.first": 32,
            "inputs.second": 32,
            "outputs.mood": 20,
            "outputs.score": 19,
        }
        report = (finished / "run" / "report" / "index.html").read_text()
        assert "Rows lack" in report
        assert "inputs.second" in report
        assert (
            "rows without inputs.first: train 32 of 96, validation 16 of 48" in (finished / "run/log.txt").read_text()
        )

    def test_predicts_rows_that_lack_an_input(self, finished: Path) -> None:
        predictor = Predictor(read_bundle(finished / "run" / "bundle"), file_dir=finished)
        both, one, other = predictor.predict(
            [
                {"first": "bright day", "second": "warm day"},
                {"first": "bright day", "second": None},
                {"first": " ", "second": "cold day"},
            ]
        )
        assert (both["mood"], one["mood"], other["mood"]) == ("good", "good", "bad")
        (alone,) = predictor.predict([{"first": "bright day"}])
        assert alone["mood_p(good)"] == pytest.approx(one["mood_p(good)"], abs=1e-6)  # padded differently
        with pytest.raises(UserError, match="'first' is missing"):
            predictor.predict([{"first": None, "second": ""}])

    def test_predicts_a_file_without_the_column_of_an_input(self, finished: Path, tmp_path: Path) -> None:
        (tmp_path / "new.csv").write_text("id,second\na,warm day\nb,cold and a day\n")
        path = predict(finished / "run", test=str(tmp_path / "new.csv"), output=tmp_path / "out.csv")
        with path.open() as file:
            assert [row["mood"] for row in csv.DictReader(file)] == ["good", "bad"]

    def test_check_says_what_is_missing(self, folder: Path) -> None:
        assert "rows without outputs.tags: train" in str(check(experiment(folder, tags=True)))


def test_pictures_and_pairs_may_be_missing(tmp_path: Path) -> None:
    """A picture that no row of the validation part has, and a text with its pair, which are there or not together."""
    (tmp_path / "pictures").mkdir()
    lines = ["picture,question,answer,side,part"]
    for row in range(24):
        right = row % 2
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[:, 4 * right : 4 * right + 4] = 250
        Image.fromarray(pixels).save(tmp_path / f"pictures/{row}.png")
        picture, text = f"pictures/{row}.png", f"which,{('left', 'right')[right]}"
        lines.append(f"{picture if row % 3 else ''},{text if row % 3 != 1 else ','},{('l', 'r')[right]},train")
    header, *rows = lines
    for name, found in (
        ("train", rows),
        ("validation", [f",{row.split(',', 1)[1]}" for row in rows if "which" in row]),
    ):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *found]) + "\n")
    gpt = {"model_type": "imagegpt", "model_init_config": {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}}
    config: dict[str, Any] = {
        "data": {
            "train": str(tmp_path / "train.csv"),
            "validation": str(tmp_path / "validation.csv"),
            "on_missing": "keep",
        },
        "inputs": {
            "picture": {"type": "image", "column": "picture", "size": 4, "colours": 4, "model": gpt},
            "text": {
                "type": "sequence",
                "column": "question",
                "pair_column": "answer",
                "max_length": 8,
                "model": MODEL,
            },
        },
        "outputs": {"side": {"type": "classification", "column": "side"}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "run": {"dir": str(tmp_path / "run")},
        "cache": {"dir": str(tmp_path / "cache")},
    }
    train(validate_experiment(config))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["missing"] == {
        "train": {"inputs.picture": 8, "inputs.text": 8},
        "validation": {"inputs.picture": 16},
    }
    with (tmp_path / "train.csv").open("a") as file:
        file.write("pictures/1.png,which,,l,train\npictures/none.png,which,left,l,train\n")
    with pytest.raises(UserError) as error, Console() as console:
        assemble(validate_experiment(config), console)
    assert "line 26: 'answer' is empty" in str(error.value)
    assert "line 27: 'picture'" in str(error.value)


class TestModalityDropout:
    def dropping(self, folder: Path, rate: float = 0.5, **changes: Any) -> ExperimentConfig:
        inputs = {
            name: {"type": "sequence", "column": name, "max_length": 12, "model": MODEL, "modality_dropout": rate}
            for name in ("first", "second")
        }
        return experiment(folder, gaps=False, inputs=inputs, **changes)

    def test_drops_inputs_of_training_rows_and_never_all(self, tmp_path: Path) -> None:
        with Console() as console:
            parts = assemble(self.dropping(tmp_path, data={"on_missing": "error"}), console)
        split, rows = parts.data.encoded["train"], tuple(range(96))
        masks = [split[BatchKey(rows, epoch)]["present"] for epoch in (0, 0, 1)]
        assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
        assert any(not torch.equal(masks[0][name], masks[2][name]) for name in masks[0])
        assert (masks[0]["first"] | masks[0]["second"]).all()
        # Half of the rows lose an input, but for half of the quarter that would have lost both: 0.375, +- 0.05.
        assert all(0.2 < 1 - float(mask.float().mean()) < 0.55 for mask in masks[0].values())
        # Whatever rows a batch has.
        apart = torch.cat([split[BatchKey((row,), 0)]["present"]["first"] for row in rows])
        assert torch.equal(apart, masks[0]["first"])
        assert "present" not in split[BatchKey(rows)]

    def test_a_stopped_run_resumes_exactly(self, tmp_path: Path) -> None:
        def weights(run: str) -> bytes:
            return (tmp_path / run / "bundle" / "model.safetensors").read_bytes()

        def config(run: str, workers: int = 0) -> ExperimentConfig:
            return self.dropping(tmp_path, data={"num_workers": workers}, run={"dir": str(tmp_path / run)})

        train(config("whole"))
        with stopped_after(8):
            train(config("stopped"))
        train(config("stopped", workers=1))
        assert weights("stopped") == weights("whole")


class TestWhatIsRefused:
    def refused(self, config: ExperimentConfig) -> str:
        with pytest.raises(UserError) as error, Console() as console:
            assemble(config, console)
        return str(error.value)

    def test_by_default_all_that_is_missing(self, folder: Path) -> None:
        said = self.refused(experiment(folder, data={"on_missing": "error"}))
        assert "line 2: 'first' is empty" in said
        assert "line 7: 'mood' has no label" in said

    def test_rows_without_anything(self, tmp_path: Path) -> None:
        config = experiment(tmp_path)
        with (tmp_path / "train.csv").open("a") as file:
            file.write('no-input,,"  ",,good,1,\nno-target,bright,,,,NA,\n')
        said = self.refused(config)
        assert "line 98: 'first' is empty" in said
        assert "line 98: 'second' is blank" in said
        assert "line 99: has no target of any output" in said
        assert "line 97" not in said

    def test_an_output_that_no_training_row_has(self, tmp_path: Path) -> None:
        config = experiment(tmp_path)
        lines = (tmp_path / "train.csv").read_text().splitlines()
        rows = [dict(zip(lines[0].split(","), row, strict=True)) for row in csv.reader(lines[1:])]
        with (tmp_path / "train.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, lines[0].split(","))
            writer.writeheader()
            writer.writerows({**row, "mood": ""} for row in rows if row["score"])
        table(tmp_path / "validation.csv", 12, gaps=False)
        assert "outputs.mood: has no value in any training row" in self.refused(config)

    def test_bad_values_are_no_missing_ones(self, tmp_path: Path) -> None:
        config = experiment(tmp_path)
        with (tmp_path / "train.csv").open("a") as file:
            file.write("odd,bright,,,good,many,\n")
        assert "line 98: 'score' is 'many', not a number" in self.refused(config)

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"data": {"on_missing": "keep"}}, "data.on_missing"),
            ({"data": {}, "dropout": 0.5}, "inputs.text.modality_dropout"),
        ],
    )
    def test_options_without_effect(self, tmp_path: Path, change: dict[str, Any], place: str) -> None:
        table(tmp_path / "train.csv", 8)
        text = {"type": "sequence", "column": "first", "model": MODEL, "modality_dropout": change.get("dropout", 0.0)}
        with pytest.raises(UserError, match=f"{place}: has no effect"):
            validate_experiment(
                {
                    "data": {"train": str(tmp_path / "train.csv"), **change["data"]},
                    "inputs": {"text": text},
                    "outputs": {"mood": {"type": "classification", "column": "mood"}},
                }
            )
