"""Texts written from texts: what a run leaves, that it resumes exactly, predictions, what is refused."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.compose import compose_experiment
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.models import create_model
from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from eir_seq.training.samples import read_samples

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff"]
TINY = {
    "d_model": 32,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 16),
    "max_position_embeddings": 24,
}


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


def table(path: Path, rows: int, seed: int = 0, *, targets: bool = True) -> Path:
    """Texts and the same in capitals."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(2, 5))) for _ in range(rows)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "low", "high"][: 2 + targets])
        writer.writerows([f"{path.stem}-{i}", text, text.upper()][: 2 + targets] for i, text in enumerate(texts))
    return path


def raw(folder: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": "translator",
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.csv"),
            "id": "id",
            "batch_size": 8,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "source": {
                "type": "sequence",
                "column": "low",
                "max_length": 24,
                "tokenizer": {"type": "word"},
                "model": {"model_type": "m2m_100", "model_init_config": TINY},
            }
        },
        "outputs": {
            "capitals": {
                "type": "seq2seq_lm",
                "column": "high",
                "max_length": 24,
                "label_smoothing": 0.1,
                "generate_rows": 6,
                "generation": {"num_beams": 2, "min_new_tokens": 4},
            }
        },
        "optimizer": {"type": "adamw", "lr": 0.03},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "validate_every": 9,
            "monitor": {"output": "capitals", "metric": "chrf"},
        },
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    return config


def experiment(folder: Path, **changes: Any) -> ExperimentConfig:
    return validate_experiment(raw(folder, **changes))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translator")
    table(folder / "train.csv", 160)
    table(folder / "test.csv", 12, seed=1)
    train(experiment(folder), finish=lambda path: write_report(path))
    return folder


def test_what_a_run_measures(finished: Path) -> None:
    lines = read_metrics(finished / "run" / "metrics.csv")
    found = {(m.metric, m.step): m.value for m in lines if m.split == "validation" and m.output == "capitals"}
    steps = sorted({step for _, step in found})
    assert len(steps) > 3
    assert found["loss", steps[-1]] < found["loss", steps[0]]
    result = json.loads((finished / "run" / "result.json").read_text())
    best = max((found["chrf", step], -step) for step in steps)
    assert (result["monitor"]["value"], -result["best_step"]) == best
    assert result["validation"]["capitals"]["chrf"] == best[0], "the best weights are measured on the same rows"
    rows = read(finished / "run" / "predictions" / "test.csv")
    expected = text_metrics([row["capitals"] for row in rows], [row["capitals_true"] for row in rows])
    for name, value in expected.items():
        assert result["test"]["capitals"][name] == pytest.approx(value), name


def test_of_validation_rows_some_get_texts_and_of_test_rows_all(finished: Path) -> None:
    rows = {split: read(finished / "run" / "predictions" / f"{split}.csv") for split in ("validation", "test")}
    assert len(rows["validation"]) == 16
    assert sum(row["capitals_score"] != "" for row in rows["validation"]) == 6
    assert all(row["capitals_score"] != "" for row in rows["test"])
    assert all(float(row["capitals_score"]) < 0 for row in rows["test"])
    assert all(row["capitals_true"] == row["capitals_true"].upper() != "" for row in rows["test"])


def test_texts_of_each_evaluation_are_kept_and_shown(finished: Path) -> None:
    samples = read_samples(finished / "run")
    steps = {m.step for m in read_metrics(finished / "run" / "metrics.csv") if m.split == "validation"}
    assert {sample.step for sample in samples} == steps
    assert len(samples) == 4 * len(steps)
    assert all(sample.true == sample.prompt.upper() for sample in samples)
    last = samples[-1]
    assert f"capitals writes: {last.prompt}\n→ {last.text}\n= {last.true}" in (finished / "run" / "log.txt").read_text()
    page = (finished / "run" / "report" / "index.html").read_text()
    for text in (f"<b>{last.prompt}</b>", f"= {last.true}", "BLEU", "Texts were written for 6 of 16 rows"):
        assert text in page, text


def test_the_bundle_writes_what_the_run_wrote(finished: Path, tmp_path: Path) -> None:
    path = predict(finished / "run", test=str(finished / "test.csv"), output=tmp_path / "found.csv")
    assert path.read_text() == (finished / "run" / "predictions" / "test.csv").read_text()
    metrics = json.loads((tmp_path / "found.metrics.json").read_text())
    assert metrics == json.loads((finished / "run" / "result.json").read_text())["test"]


def test_texts_without_targets_are_written_from(finished: Path, tmp_path: Path) -> None:
    same = read(finished / "run" / "predictions" / "test.csv")
    bare = table(tmp_path / "bare.csv", 12, seed=1, targets=False)
    rows = read(predict(finished / "run", test=str(bare), output=tmp_path / "found.csv"))
    assert [row["capitals"] for row in rows] == [row["capitals"] for row in same]
    assert rows[0].keys() == {"id", "capitals", "capitals_score"}
    assert not (tmp_path / "found.metrics.json").exists()
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{row['low']}\n" for row in read(bare)))
    rows = read(predict(finished / "run", test=str(lines), output=tmp_path / "found.csv"))
    assert [row["capitals"] for row in rows] == [row["capitals"] for row in same]
    gap = tmp_path / "gap.csv"
    gap.write_text(bare.read_text().replace(read(bare)[1]["low"], " ", 1))
    skip = {"on_bad_row": "skip"}
    rows = read(predict(finished / "run", test=str(gap), output=tmp_path / "found.csv", reading=skip))
    assert [row["capitals"] for row in rows] == [same[0]["capitals"], "", *(row["capitals"] for row in same[2:])]
    assert [row["not predicted"] for row in rows][:3] == ["", "'low' is blank", ""]
    first = read(bare)[0]["low"]
    rows = read(predict(finished / "run", prompt=first, output=tmp_path / "found.csv"))
    assert [row["capitals"] for row in rows] == [same[0]["capitals"]]
    long = predict(finished / "run", prompt=first, output=tmp_path / "found.csv", generation={"min_new_tokens": 6})
    assert len(read(long)[0]["capitals"].split()) > 3


def test_wrong_options_of_generation(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^generation.num_beam: not an option of generate; did you mean 'num_beams'"):
        predict(finished / "run", prompt="aa", output=tmp_path / "x.csv", generation={"num_beam": 2})
    with pytest.raises(UserError, match=r"^outputs.capitals.generation.num_return_sequences: has no effect"):
        train(experiment(finished, outputs=output(generation={"num_return_sequences": 2}), run={"dir": "x"}))
    with pytest.raises(UserError, match=r"^outputs.capitals.generation.min_new_tokens: 50 is more than the text may h"):
        predict(finished / "run", prompt="aa", output=tmp_path / "x.csv", generation={"min_new_tokens": 50})
    with pytest.raises(UserError, match="give this or prompt, not both"):
        predict(finished / "run", prompt="aa", test=str(finished / "test.csv"), output=tmp_path / "x.csv")


def output(**changes: Any) -> dict[str, Any]:
    return {"capitals": {"type": "seq2seq_lm", "column": "high", "max_length": 24, **changes}}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill", [7, 18, 30])
def test_a_killed_run_ends_with_the_same_bytes(
    kill: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    config = experiment(tmp_path, trainer={"checkpoint_every": 5})
    step = Console.step

    def deadly(self: Console, now: int, *others: Any) -> None:
        if now == kill:
            raise Killed
        step(self, now, *others)

    monkeypatch.setattr(Console, "step", deadly)
    with pytest.raises(Killed):
        train(config)
    monkeypatch.setattr(Console, "step", step)
    train(config)
    for name in ("metrics.csv", "samples.csv", "predictions/test.csv", "bundle/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / "run" / name).read_bytes(), name


def test_rows_without_a_text_to_write(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", 20)
    (tmp_path / "test.csv").write_text("id,low,high\nt1,aa,\nt2,bb,NA\n")
    with pytest.raises(UserError, match=r"test.csv line 2: 'high' is (empty|missing)"):
        load_splits(experiment(tmp_path))
    splits = load_splits(experiment(tmp_path, data={"on_bad_row": "skip"}))
    assert splits.test is not None
    assert splits.test["high"] == ["NA"], "that a text may well say"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"outputs": {**output(), "stars": {"type": "regression", "column": "stars"}}},
            "outputs.capitals: a seq2seq_lm output cannot be combined with others (stars)",
        ),
        (
            {"inputs": {"source": {"type": "sequence", "column": "low", "model": {"model_type": "gpt2"}}}},
            "inputs.source.model.model_type: 'gpt2' has no language-model head (task seq2seq-lm); these have one: ",
        ),
        ({"outputs": output(column="low")}, "inputs.source.column: column 'low' is the target of outputs.capitals"),
        ({"outputs": output(column="id")}, "outputs.capitals.column: 'id' is the id of the rows (data.id), not a text"),
        (
            {"outputs": output(generate_rows=0)},
            "trainer.monitor.metric: 'chrf' is measured on written texts; outputs.capitals.generate_rows is 0",
        ),
        ({"outputs": output(dropout=0.1)}, "outputs.capitals.dropout: unknown key"),
        (
            {"outputs": output(label_smoothing=1.0)},
            "outputs.capitals.label_smoothing: 1.0 is not a number >= 0 and < 1",
        ),
        ({"outputs": output(input="text")}, "outputs.capitals.input: 'text' is not a sequence input"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    table(tmp_path / "train.csv", 4)
    table(tmp_path / "test.csv", 4)
    with pytest.raises(UserError, match=f"(?m)^{re.escape(message)}"):
        experiment(tmp_path, **changes)


@pytest.mark.parametrize("name", ["translate_m2m100", "summarise_t5"])
def test_shipped_experiments_are_valid(name: str) -> None:
    composed = compose_experiment([f"experiment={name}"])
    assert [config.type for config in composed.config.outputs.values()] == ["seq2seq_lm"]


def test_pairs_of_the_hub_suit_the_experiment() -> None:
    data = compose_experiment(["experiment=translate_m2m100", "data=multi30k"]).config.data
    assert (data.source, data.name) == ("hub", "bentrevett/multi30k")
    assert set(data.rename.values()) == {"source", "target"}


def test_pairs_in_the_layout_of_the_hub_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as the Hub has it, with the columns and splits of Multi30k: both columns under their new names."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "multi30k"
    folder.mkdir()
    pairs = {
        "en": ["A dog runs.", "Two men sleep.", "A cat."],
        "de": ["Ein Hund läuft.", "Zwei Männer.", "Eine Katze."],
    }
    for split, rows in {"train": 3, "validation": 2, "test": 1}.items():
        part = {language: texts[:rows] for language, texts in pairs.items()}
        lines = [json.dumps(dict(zip(part, row, strict=True))) for row in zip(*part.values(), strict=True)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    chosen = ["experiment=translate_m2m100", "data=multi30k", f"data.name={folder}"]
    splits = load_splits(compose_experiment(chosen).config)
    assert splits.train is not None
    assert [splits.train[name][:] for name in ("source", "target")] == [pairs["en"], pairs["de"]]
    assert splits.validation is not None
    assert splits.test is not None
    assert [splits.validation.num_rows, splits.test.num_rows] == [2, 1]
    other_way = "data.rename={de: source, en: target}"
    turned = load_splits(compose_experiment([*chosen, other_way]).config).train
    assert turned is not None
    assert [turned["source"][0], turned["target"][0]] == ["Ein Hund läuft.", "A dog runs."]


@pytest.mark.slow
def test_the_shipped_translator_translates(tmp_path: Path) -> None:
    config = compose_experiment(["experiment=translate_m2m100", f"run.dir={tmp_path / 'run'}"]).config
    assert train(config)["validation"]["translation"]["bleu"] > 70


@pytest.mark.parametrize(("frozen", "tuned"), [("encoder.*", "decoder"), ("decoder.*", "encoder")])
def test_one_side_of_published_weights_is_tuned(finished: Path, tmp_path: Path, frozen: str, tuned: str) -> None:
    """The way from a folder of published files, its own tokenizer included, to a bundle that needs it no more."""
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    tokenizer = train_tokenizer("word", " ".join(WORDS + [word.upper() for word in WORDS]).split())
    tokens = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.sep_id, "vocab_size": tokenizer.vocab_size}
    start = {"decoder_start_token_id": tokenizer.sep_id, "bos_token_id": tokenizer.cls_id, "forced_eos_token_id": None}
    before = create_model("bart", {**TINY, **tokens, **start}, task="seq2seq-lm")
    before.save_pretrained(tmp_path / "published")
    tokenizer.save(tmp_path / "published")
    model = {"model_type": str(tmp_path / "published"), "pretrained_model": True, "freeze": [frozen]}
    source = {"type": "sequence", "column": "low", "max_length": 24, "model": model}
    train(experiment(tmp_path, inputs={"source": source}, trainer={"max_epochs": 1}))
    (tmp_path / "published").rename(tmp_path / "moved")
    after: Any = read_bundle(tmp_path / "run" / "bundle").network.encoder("source")
    old, new = before.published_tensors(), after.backbone.published_tensors()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    layers = {name for name in moved if ".layers." in name}
    assert layers
    assert all(f"{tuned}.layers" in name for name in layers)
    rows = read(predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "found.csv"))
    assert [row["capitals"] for row in rows] == [
        row["capitals"] for row in read(tmp_path / "run" / "predictions" / "test.csv")
    ]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        (
            {"max_new_tokens": 40},
            r"max_new_tokens: a text of 41 tokens .prompt: 1. is longer than the model's 24 posit",
        ),
        ({"max_length": 40}, "max_length: a text of 40 tokens"),
        ({"max_length": 1}, "max_length: 1 leaves no room"),
        ({"min_length": 40}, "min_length: 40 is more than the text may have"),
        ({"min_new_tokens": 40}, "min_new_tokens: 40 is more than the text may have"),
        ({"forced_bos_token_id": 999}, "forced_bos_token_id: 999 is outside the vocabulary of 17"),
        ({"suppress_tokens": [3, 17]}, "suppress_tokens: 17 is outside the vocabulary of 17"),
    ],
)
def test_what_could_not_be_written_is_found_before_training(
    tmp_path: Path, generation: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path / "train.csv", 20)
    table(tmp_path / "test.csv", 4)

    def never(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(Console, "step", never)
    with pytest.raises(UserError, match=f"^outputs.capitals.generation.{message}"):
        train(experiment(tmp_path, outputs=output(generation=generation)))


def test_a_fault_of_the_input_is_the_only_one() -> None:
    with pytest.raises(UserError) as raised:
        compose_experiment(["experiment=translate_m2m100", "inputs.source.model.pretrained_parts=encodr"])
    assert [fault.place for fault in raised.value.faults] == ["inputs.source.model.pretrained_parts"]
