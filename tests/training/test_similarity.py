"""Similarity from YAML: shared and different encoders, rows that lack an input, bundles, vectors, messages."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional

from eir_seq.commands import main
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.embed import embed
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.training.bundle import read_bundle
from eir_seq.training.check import check
from eir_seq.training.run import train
from tests.training.table import TINY

SYNONYMS = {
    "red": "crimson", "blue": "azure", "green": "emerald", "pink": "rosy", "grey": "ashen", "black": "ebony",
    "fox": "vixen", "owl": "fowl", "hen": "chicken", "cat": "kitten", "dog": "puppy", "cow": "calf",
    "runs": "sprints", "sits": "rests", "eats": "dines", "flies": "soars", "naps": "sleeps", "sings": "hums",
}  # fmt: skip
WORDS = [list(SYNONYMS)[start : start + 6] for start in (0, 6, 12)]


def write(path: Path, rows: int, seed: int, lacking: bool = False) -> None:
    """A sentence, the same with synonyms in another order, another one, how many of three words agree, a number."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "a", "b", "c", "score", "match", "size", "mood"])
        for row in range(rows):
            one, other = ([draw.choice(words) for words in WORDS] for _ in range(2))
            own = one if row % 2 else other
            cells = ["a {} {} {}".format(*one), "there {2} a {1} , {0}".format(*(SYNONYMS[word] for word in one))]
            cells += ["there {2} a {1} , {0}".format(*(SYNONYMS[word] for word in other))]
            if lacking and row % 5 < 3:
                cells[row % 5] = ""
            score = sum(x == y for x, y in zip(one, own, strict=True)) / 3
            size = WORDS[0].index(one[0])
            writer.writerow([f"{path.stem}{row}", *cells, score, row % 2, size, ("good", "bad")[row % 2]])


def experiment(folder: Path, lacking: bool = False, rows: int = 48, **changes: Any) -> dict[str, Any]:
    """A bi-encoder with one encoder on `a` and `b`."""
    folder.mkdir(exist_ok=True)
    write(folder / "train.csv", rows, 1, lacking)
    write(folder / "test.csv", 16, 2, lacking)
    model = {"model_type": "bert", "model_init_config": {**TINY, "hidden_dropout_prob": 0.0}}
    config: dict[str, Any] = {
        "data": {
            "train": str(folder / "train.csv"),
            "validation": str(folder / "test.csv"),
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "left": {"type": "sequence", "column": "a", "max_length": 12, "model": model},
            "right": {"type": "sequence", "column": "b", "share": "left"},
        },
        "outputs": {"same": {"type": "similarity"}},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "run": {"dir": str(folder / "run")},
    }
    if lacking:
        config["data"] |= {"on_missing": "keep"}
    for key, value in changes.items():
        config[key] = {**config[key], **value} if key in ("inputs", "data", "trainer") else value
    return config


def checked(folder: Path, **changes: Any) -> ExperimentConfig:
    return validate_experiment(experiment(folder, **changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a bi-encoder with shared weights."""
    folder = tmp_path_factory.mktemp("similarity")
    train(checked(folder))
    return folder / "run"


def test_one_encoder_is_there_once(run: Path) -> None:
    bundle = read_bundle(run / "bundle")
    network = bundle.network
    assert network.encoder("left") is network.encoder("right")
    counts = network.count_parameters()
    assert counts["inputs.right"] == counts["outputs.same"] == 0
    assert counts["total"] == counts["inputs.left"] == sum(x.numel() for x in network.encoder("left").parameters())
    assert not any(name.startswith("encoders.of_right") for name in network.tensors())
    left, right = bundle.inputs["left"], bundle.inputs["right"]
    assert left.tokenizer.fingerprint() == right.tokenizer.fingerprint()
    words = left.tokenizer.encode("crimson red", add_special_tokens=False)
    assert left.tokenizer.unk_id not in words
    assert len(set(words)) == 2


def test_predictions_hold_the_cosine_the_rank_and_the_nearest(run: Path, tmp_path: Path) -> None:
    table = predict(run, test=str(run.parent / "test.csv"), output=tmp_path / "out.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "same", "same_rank", "same_nearest", "same_nearest(b)", "same_nearest_cosine"]
    with (run / "predictions" / "validation.csv").open() as file:
        assert [row["same"] for row in csv.DictReader(file)] == [row["same"] for row in rows]
    pair = [embed(run, input=name, output=tmp_path / f"{name}.npy", test=str(run.parent / "test.csv")) for name in
            ("left", "right")]  # fmt: skip
    left, right = (np.load(path, allow_pickle=False) for path in pair)
    assert np.allclose(np.linalg.norm(left, axis=1), 1, atol=1e-6)
    cosines = left @ right.T
    with (run.parent / "test.csv").open() as file:
        texts = [row["b"] for row in csv.DictReader(file)]
    for number, row in enumerate(rows):
        assert float(row["same"]) == pytest.approx(cosines[number, number], abs=1e-5)
        assert row["same_nearest(b)"] == texts[int(cosines[number].argmax())]
    metrics = json.loads(table.with_name("out.metrics.json").read_text())["same"]
    assert metrics["mrr"] == pytest.approx(np.mean([1 / int(row["same_rank"]) for row in rows]))
    html = write_report(run).read_text()
    for shown in ("Nearest neighbours", "Recall", "Cosines", "Worst pairs"):
        assert shown in html


def test_embed_reads_the_columns_of_one_input_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus.csv").write_text("b\nthere hums a puppy\na red fox runs\n")
    out = tmp_path / "corpus.parquet"
    words = ["embed", f"run={run}", f"data.test={tmp_path / 'corpus.csv'}", "input=right", f"output={out}"]
    assert main([*words, "normalize=false"]) == 0
    assert f"vectors: {out}" in capsys.readouterr().out
    table = pq.read_table(out).to_pydict()
    predictor = Predictor(read_bundle(run / "bundle"))
    rows = [{"b": "there hums a puppy"}, {"b": "a red fox runs"}]
    assert table["id"] == ["1", "2"] or table["id"] == ["test-1", "test-2"]
    plain = predictor.embed(rows, "right", normalize=False)
    assert np.allclose(plain, np.array(table["vector"], np.float32), atol=1e-6)
    unit = predictor.embed(rows, "right")
    assert np.allclose(unit, functional.normalize(torch.from_numpy(plain), dim=1).numpy(), atol=1e-6)
    assert np.allclose(unit, predictor.embed([{"a": row["b"]} for row in rows]), atol=1e-6)
    assert main(["embed", f"run={run}", "input=rigth"]) == 2
    assert "input: 'rigth' is none of left, right; did you mean 'right'?" in capsys.readouterr().err
    assert main([*words[:3], "output=x.txt"]) == 2
    assert "output: x.txt ends in none of .npy, .parquet" in capsys.readouterr().err


def test_a_warm_start_takes_a_shared_encoder_and_gives_it(run: Path, tmp_path: Path) -> None:
    start = {"run": str(run), "load": {"inputs.left": "inputs.right"}, "freeze": True}
    outputs = {"same": {"type": "similarity", "projection": 6}}
    train(checked(tmp_path / "one", start_from=start, outputs=outputs))
    before, after = (read_bundle(path / "bundle").network for path in (run, tmp_path / "one" / "run"))
    assert after.encoder("left") is after.encoder("right")
    for name, tensor in before.encoder("left").state_dict().items():
        assert torch.equal(tensor, after.encoder("right").state_dict()[name]), name
    assert list(dict(after.head("same").named_parameters())) == ["projections.of_left.weight"]
    config = experiment(tmp_path / "two", outputs={"mood": {"type": "classification", "column": "mood"}})
    config["inputs"] = {"text": config["inputs"]["left"]}
    config["start_from"] = {"run": str(run), "load": {"inputs.text": "inputs.right"}, "fitted": "take"}
    train(validate_experiment(config))
    predictor = Predictor(read_bundle(tmp_path / "two" / "run" / "bundle"))
    assert predictor.embed([{"a": "a red fox"}]).shape == (1, 8)
    assert predictor.embed([{"a": "a red fox"}], "fusion").shape[0] == 1
    with pytest.raises(UserError, match=r"'fusio' is none of text, fusion, fusion\.mood; did you mean 'fusion'"):
        predictor.embed([{"a": "a red fox"}], "fusio")
    rows = [{"a": "a red fox"}]
    assert np.array_equal(predictor.embed(rows, source="fusion"), predictor.embed(rows, input="fusion"))
    with pytest.raises(UserError, match="source: is the former name of input"):
        predictor.embed(rows, "text", source="fusion")
    with pytest.raises(UserError) as caught:
        embed(tmp_path / "two" / "run", input="fusio", output=tmp_path / "none" / "vectors.npz")
    assert [str(fault).replace(str(tmp_path), "") for fault in caught.value.faults] == [
        "output: vectors.npz ends in none of .npy, .parquet; did you mean '.npy'?",
        "output: there is no folder /none",
        "input: 'fusio' is none of text, fusion, fusion.mood; did you mean 'fusion'?",
    ]


def test_adapters_of_a_shared_encoder_are_written_once(run: Path, tmp_path: Path) -> None:
    predictor = Predictor(read_bundle(run / "bundle"))
    backbone: Any = predictor.bundle.network.encoder("left")
    published = tmp_path / "published"
    backbone.backbone.save_pretrained(published)
    predictor.bundle.inputs["left"].tokenizer.save(published)
    lora = {"rank": 2, "target_modules": ["query"]}
    model = {"model_type": str(published), "pretrained_model": True, "lora": lora}
    config = experiment(tmp_path / "lora")
    config["inputs"]["left"] |= {"model": model}
    train(validate_experiment(config))
    bundle = tmp_path / "lora" / "run" / "bundle"
    assert [path.name for path in (bundle / "adapters").iterdir()] == ["left"]
    network = read_bundle(bundle).network
    assert network.encoder("left") is network.encoder("right")
    assert network.count_parameters()["total"] == sum(p.numel() for p in network.encoder("left").parameters())


LOSSES: dict[str, dict[str, Any]] = {
    "cosine": {"column": "score", "loss": "cosine"},
    "margin": {"column": "match", "loss": "margin", "online": True},
    "contrastive": {"inputs": ["left", "right"], "negatives": ["hard"], "learn_temperature": True, "symmetric": True},
    "triplet": {"negatives": ["hard"], "loss": "triplet"},
}


def of_loss(folder: Path, loss: str) -> ExperimentConfig:
    """An experiment whose rows lack inputs."""
    config = experiment(folder, lacking=True, outputs={"same": {"type": "similarity", **LOSSES[loss]}})
    if "negatives" in LOSSES[loss]:
        config["inputs"]["hard"] = {"type": "sequence", "column": "c", "share": "left"}
    return validate_experiment(config)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_with_rows_that_lack_inputs(loss: str, tmp_path: Path) -> None:
    result = train(of_loss(tmp_path, loss))["validation"]["same"]
    with (tmp_path / "run" / "predictions" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["same"] == "" for row in rows] == [row % 5 < 2 for row in range(16)]
    if "negatives" in LOSSES[loss]:
        assert [row["same_cosine(hard)"] == "" for row in rows] == [row % 5 in (0, 2) for row in range(16)]
        assert 0 <= result["triplet_accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_reports_of_every_loss(loss: str, tmp_path: Path) -> None:
    train(of_loss(tmp_path, loss))
    html = write_report(tmp_path / "run").read_text()
    shown = {"cosine": "Scores over cosines", "margin": "pairs that match", "triplet": "hard", "contrastive": "Recall"}
    assert shown[loss] in html


def test_arrays_share_an_encoder_and_their_scale(tmp_path: Path) -> None:
    config = experiment(tmp_path, outputs={"same": {"type": "similarity", "column": "score"}})
    draw = np.random.default_rng(0)
    for name in ("train", "test"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "one", "two", "score"])
            for row in range(16):
                one, two = (json.dumps((draw.normal(size=8) + shift).round(2).tolist()) for shift in (0.0, 4.0))
                writer.writerow([f"{name}{row}", one, two, row % 3 / 2])
    array = {"type": "array", "column": "one", "model": {"model_type": "linear"}}
    config["inputs"] = {"right": {"share": "left", "column": "two"}, "left": array}
    train(validate_experiment(config))
    bundle = read_bundle(tmp_path / "run" / "bundle")
    assert bundle.network.encoder("left") is bundle.network.encoder("right")
    assert float(bundle.inputs["left"].mean.mean()) == pytest.approx(2.0, abs=0.3)
    assert np.array_equal(bundle.inputs["left"].mean, bundle.inputs["right"].mean)


def test_two_encoders_need_a_common_width(tmp_path: Path) -> None:
    table = {"type": "tabular", "continuous": ["size"]}
    config = experiment(tmp_path)
    config["inputs"]["right"] = table
    with pytest.raises(UserError, match=r"outputs\.same\.projection: is missing: the vectors differ in width"):
        check(validate_experiment(config))
    config["outputs"] = {"same": {"type": "similarity", "projection": 4}}
    train(validate_experiment(config))
    bundle = read_bundle(tmp_path / "run" / "bundle")
    assert set(dict(bundle.network.head("same").named_parameters())) == {
        "projections.of_left.weight",
        "projections.of_right.weight",
    }
    assert Predictor(bundle).embed([{"size": 2.0}], "right").shape == (1, 4)


def test_a_fused_output_beside_it_reads_each_encoder_once(tmp_path: Path) -> None:
    outputs = {"same": {"type": "similarity"}, "mood": {"type": "classification", "column": "mood"}}
    config = checked(tmp_path, outputs=outputs)
    assert check(config).parameters["inputs.right"] == 0
    train(config)
    network = read_bundle(tmp_path / "run" / "bundle").network
    encoder: Any = network.encoder("left")
    calls, read = [], encoder.read

    def counted(**tensors: Any) -> Any:
        calls.append("read")
        return read(**tensors)

    encoder.read = counted
    tokens = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2).bool()}
    batch = {"inputs": {"left": tokens, "right": tokens}}
    network.run(batch)
    assert calls == ["read", "read"]


def test_micro_batches_compare_their_own_rows(tmp_path: Path) -> None:
    config = checked(tmp_path, trainer={"accumulate": 3})
    assert train(config)["steps"] == 2


def messages(folder: Path, **changes: Any) -> str:
    inputs = changes.pop("inputs", {})
    config = experiment(folder, **changes)
    for name, given in inputs.items():
        config["inputs"][name] = {**config["inputs"].get(name, {}), **given}
    with pytest.raises(UserError) as caught:
        validate_experiment(config)
    return str(caught.value)


def test_messages_about_the_output(tmp_path: Path) -> None:
    def said(**output: Any) -> str:
        return messages(tmp_path, outputs={"same": {"type": "similarity", **output}})

    found = said(inputs=["lef", "right"], loss="triplet")
    assert "outputs.same.inputs[0]: 'lef' is no input (there are: 'left', 'right'); did you mean 'left'?" in found
    assert "outputs.same.negatives: is missing; a triplet is the pair of `inputs` and a negative" in found
    assert "outputs.same.inputs[1]: 'left' is compared with itself; name two inputs" in said(inputs=["left", "left"])
    assert "outputs.same.negatives[0]: 'right' is compared with itself" in said(
        inputs=["left", "right"], negatives=["right"]
    )
    found = said(loss="cosine", negatives=["right"], temperature=0.1, ranks=False)
    assert "outputs.same.column: is missing; loss 'cosine' needs the column with the score of each pair" in found
    assert "outputs.same.negatives: has no effect with loss 'cosine' ('contrastive' and 'triplet' have it)" in found
    assert "outputs.same.temperature: has no effect with loss 'cosine' ('contrastive' has it)" in found
    assert "outputs.same.ranks: has no effect with loss 'cosine'" in found
    assert "outputs.same.column: has no effect with loss 'contrastive'" in said(loss="contrastive", column="score")
    assert "outputs.same.range: [5.0, 0.0] does not rise" in said(column="score", range=[5.0, 0.0])
    alone = messages(tmp_path, data={"batch_size": 1})
    assert "data.batch_size: is 1; outputs.same (loss contrastive) compares the rows of a batch" in alone
    dropped = messages(tmp_path, inputs={"left": {"modality_dropout": 0.1}})
    assert "inputs.left.modality_dropout: has no effect where outputs read single inputs alone" in dropped
    monitor = messages(tmp_path, trainer={"monitor": {"metric": "spearman"}})
    assert "'spearman' of outputs.same is not measured with loss 'contrastive'" in monitor
    third = messages(tmp_path, inputs={"more": {"type": "sequence", "column": "c", "share": "left"}})
    assert (
        "outputs.same.inputs: is missing; name the two that are compared (there are: 'left', 'right', 'more')" in third
    )
    assert "but a pair" not in third


def test_messages_about_shared_encoders(tmp_path: Path) -> None:
    def said(**inputs: Any) -> str:
        return messages(tmp_path, inputs=inputs)

    assert "inputs.right.share: 'lef' is no other input (there are: 'left')" in said(right={"share": "lef"})
    assert "inputs.right.share: 'right' is no other input" in said(
        right={"share": "right", "model": {"model_type": "bert"}}
    )
    found = said(right={"max_length": 6})
    assert "inputs.right.max_length: differs from that of inputs.left, whose encoder it shares; leave it out" in found
    assert "inputs.right.share: this input reads 2 columns, and inputs.left 1" in said(right={"pair_column": "c"})
    assert "inputs.more.share: inputs.right has the encoder of inputs.left; name that one" in said(
        more={"type": "sequence", "column": "c", "share": "right"}
    )
    assert "inputs.right.share: inputs.left has the encoder of inputs.right; name that one" in said(
        left={"share": "right"}
    )
    twice = said(left={"max_length": 2})
    assert "inputs.left.max_length" in twice
    assert "inputs.right.max_length" not in twice
    mood = {"mood": {"type": "classification", "column": "mood"}}
    mixed = messages(tmp_path, trainer={"mixing": {"type": "mixup"}}, outputs=mood)
    assert "trainer.mixing: inputs.right has the encoder of inputs.left, in which each would be mixed twice" in mixed
    sent = messages(tmp_path, broker=[{"from": "inputs.left.backbone", "to": "fusion"}], outputs=mood)
    assert "'inputs.left.backbone' is a layer of an encoder that several inputs share" in sent
    config = experiment(tmp_path)
    config["trainer"] |= {"latents": ["inputs.left"]}
    with pytest.raises(UserError, match=r"'inputs\.left' is a layer of an encoder that several inputs share"):
        check(validate_experiment(config))


def test_labels_of_margin_are_true_or_false(tmp_path: Path) -> None:
    outputs = {"same": {"type": "similarity", "loss": "margin", "column": "score"}}
    with pytest.raises(UserError, match="neither true nor false"):
        check(checked(tmp_path, outputs=outputs))


@pytest.mark.slow
def test_held_out_paraphrases_are_found(tmp_path: Path) -> None:
    wide = {**TINY, "hidden_size": 32, "intermediate_size": 64, "hidden_dropout_prob": 0.0}
    recalls = []
    for seed in range(3):
        config = experiment(tmp_path / str(seed), rows=400, seed=seed)
        config["inputs"]["left"]["model"] = {"model_type": "bert", "model_init_config": wide}
        write(tmp_path / str(seed) / "test.csv", 100, 2)
        config["trainer"] |= {"max_epochs": 10, "monitor": {"metric": "mrr"}}
        config["data"] |= {"batch_size": 32}
        config["optimizer"] |= {"lr": 0.003}
        recalls.append(train(validate_experiment(config))["validation"]["same"]["recall_at_1"])
    assert sum(recalls) / 3 > 0.9


@pytest.mark.slow
def test_captions_find_the_pictures_that_they_describe(tmp_path: Path) -> None:
    from PIL import Image, ImageDraw

    draw = random.Random(0)
    (tmp_path / "pictures").mkdir()
    for split, count in (("train", 240), ("test", 60)):
        with (tmp_path / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "file", "caption"])
            for row in range(count):
                colour, shape = draw.choice(["red", "green", "blue", "gold"]), draw.choice(["square", "disc", "bar"])
                picture = Image.new("RGB", (16, 16), (draw.randint(0, 60),) * 3)
                x, y = draw.randint(0, 6), draw.randint(0, 6)
                pen = ImageDraw.Draw(picture)
                if shape == "disc":
                    pen.ellipse((x, y, x + 9, y + 9), fill=colour)
                else:
                    pen.rectangle((x, y, x + 9, y + (9 if shape == "square" else 2)), fill=colour)
                picture.save(tmp_path / "pictures" / f"{split}{row}.png")
                caption = draw.choice(["a {} {}", "here is a {} {}"]).format(colour, shape)
                writer.writerow([f"{split}{row}", f"pictures/{split}{row}.png", caption])
    (tmp_path / "other").mkdir()
    config = experiment(tmp_path / "other")
    left = {**config["inputs"]["left"], "column": "caption"}
    photo = {"type": "image", "column": "file", "size": 16, "model": {"model_type": "cnn"}}
    config["inputs"] = {"photo": photo, "caption": left}
    learned = {"learn_temperature": True, "temperature": 0.1}
    config["outputs"] = {"pair": {"type": "similarity", "projection": 16, "symmetric": True, **learned}}
    config["data"] |= {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "test.csv"), "batch_size": 32}
    config["trainer"] |= {"max_epochs": 25, "monitor": {"metric": "mrr"}}
    config["optimizer"] |= {"lr": 0.003}
    found = train(validate_experiment(config))["validation"]["pair"]
    assert found["recall_at_5"] > 0.95
    predictor = Predictor(read_bundle(Path(config["run"]["dir"]) / "bundle"))
    vectors = predictor.embed([{"caption": "a red disc"}, {"caption": "here is a red disc"}], "caption")
    assert vectors[0] @ vectors[1] > 0.8
