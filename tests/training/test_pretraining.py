"""Whole runs that learn from texts alone, what they leave for fine-tuning, and what they fill in."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from eir_seq.config.compose import compose_experiment
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.models import from_pretrained
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train

WORDS = ["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"]
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked_lm": ("bert", BERT),
    "replaced_token_detection": ("electra", {**BERT, "embedding_size": 16}),
    "span_corruption": ("t5", {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}),
    "denoising": (
        "bart",
        {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
        | {"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    ),
}
KINDS = list(MODELS)


def table(path: Path, rows: int, seed: int = 0) -> Path:
    """Texts in which words follow the alphabet, so that a hidden one can be guessed."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for number in range(rows):
            start, length = draw.randrange(8), draw.randrange(5, 12)
            words = [WORDS[(start + i) % 8] for i in range(length)]
            writer.writerow([f"r{seed}-{number}", " ".join(words) + ".", "xy"[start % 2]])
    return path


def raw(folder: Path, kind: str, **changes: Any) -> dict[str, Any]:
    model_type, options = MODELS[kind]
    config: dict[str, Any] = {
        "name": "pretraining",
        "data": {
            "train": str(folder / "train.csv"),
            "test": str(folder / "test.csv"),
            "id": "id",
            "batch_size": 8,
            "validation": 0.1,
            "cache_dir": str(folder / "cache"),
        },
        "inputs": {
            "text": {
                "type": "sequence",
                "column": "text",
                "max_length": 24,
                "model": {"model_type": model_type, "model_init_config": options},
            }
        },
        "outputs": {"text": {"type": kind}},
        "optimizer": {"type": "adamw", "lr": 0.02},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "validate_every": 9},
        "run": {"dir": str(folder / "run")},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    return config


def experiment(folder: Path, kind: str, **changes: Any) -> ExperimentConfig:
    return validate_experiment(raw(folder, kind, **changes))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=KINDS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    table(folder / "train.csv", 160)
    table(folder / "test.csv", 12, seed=1)
    train(experiment(folder, request.param), finish=lambda path: write_report(path))
    return request.param, folder


def test_a_run_learns_and_measures(finished: tuple[str, Path]) -> None:
    kind, folder = finished
    lines = read_metrics(folder / "run" / "metrics.csv")
    found = {(m.metric, m.step): m.value for m in lines if m.split == "validation" and m.output == "text"}
    steps = sorted({step for _, step in found})
    loss = "generator_loss" if kind == "replaced_token_detection" else "loss"  # the better that is, the harder the rest
    assert found[loss, steps[-1]] < found[loss, steps[0]]
    config: Any = experiment(folder, kind).outputs["text"]
    assert {metric for metric, _ in found} == set(config.metrics())


def test_what_a_run_leaves_is_published_weights_for_fine_tuning(finished: tuple[str, Path], tmp_path: Path) -> None:
    """A classifier begins with the very weights, read by the tokenizer that stands beside them."""
    kind, folder = finished
    pretrained = folder / "run" / "pretrained" / "text"
    config = raw(tmp_path, "masked_lm", data={"train": str(folder / "train.csv"), "test": str(folder / "test.csv")})
    config["inputs"]["text"]["model"] = {"model_type": str(pretrained), "pretrained_model": True}
    config["outputs"] = {"label": {"type": "classification", "column": "label"}}
    config["trainer"]["max_epochs"] = 1
    with Console() as console:
        parts = assemble(validate_experiment(config), console)
    found: Any = parts.network.encoder("text")
    bundle = read_bundle(folder / "run" / "bundle")
    learnt: Any = bundle.network.encoder("text")
    tokens: Any = parts.inputs["text"]
    texts = ["aa bb <extra_id_0> [MASK] zz.", "hh"]
    assert tokens.tokenizer(texts) == bundle.inputs["text"].tokenizer(texts)
    assert all("pooler" in name for name in found.backbone.load_report.initialised), "and bert's is taken off"
    before = {tensor.numpy().tobytes() for tensor in learnt.backbone.body.state_dict().values()}
    after = found.backbone.body.state_dict()
    assert len(after) > 5
    assert all(tensor.numpy().tobytes() in before for tensor in after.values())
    if kind == "replaced_token_detection":
        generator: Any = from_pretrained(pretrained / "generator", task="masked-lm")
        assert generator.config.hidden_size == 4
    train(validate_experiment(config))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["label"]["accuracy"] > 0.3


def test_rows_of_a_table_are_measured_as_the_run_did(finished: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = finished
    path = predict(folder / "run", test=str(folder / "test.csv"), output=tmp_path / "found.csv")
    assert path.read_text() == (folder / "run" / "predictions" / "test.csv").read_text()
    metrics = json.loads((tmp_path / "found.metrics.json").read_text())
    assert metrics == json.loads((folder / "run" / "result.json").read_text())["test"]
    (tmp_path / "gap.csv").write_text((folder / "test.csv").read_text() + "gap, ,x\n")
    skip = {"on_bad_row": "skip"}
    rows = read(predict(folder / "run", test=str(tmp_path / "gap.csv"), output=tmp_path / "gap.out.csv", reading=skip))
    assert [row["id"] for row in rows[:-1]] == [row["id"] for row in read(path)]
    assert (rows[-1]["id"], rows[-1]["not predicted"]) == ("gap", "'text' is blank")
    assert all(not value for name, value in rows[-1].items() if name not in ("id", "not predicted"))


def test_the_weights_stand_on_the_disk_once(finished: tuple[str, Path]) -> None:
    """The bundle shares the published files; what it holds itself is what they lack."""
    kind, folder = finished
    run = folder / "run"
    published = sorted((run / "pretrained").rglob("model.safetensors"))
    assert len(published) == (2 if kind == "replaced_token_detection" else 1)
    for path in published:
        assert path.samefile(run / "bundle" / path.relative_to(run))
    network = read_bundle(run / "bundle").network
    assert not load_file(run / "bundle" / "model.safetensors").keys() - network.tensors().keys()
    size = sum(path.stat().st_size for path in run.rglob("*.safetensors") if "pretrained" not in path.parts)
    assert size < 0.1 * sum(path.stat().st_size for path in published)


GAPS = {"masked_lm": "[MASK]", "span_corruption": "<extra_id_0>", "denoising": "[MASK]"}


def test_gaps_of_prompts_are_filled(finished: tuple[str, Path], tmp_path: Path) -> None:
    kind, folder = finished
    if kind == "replaced_token_detection":
        with pytest.raises(UserError, match=r"^prompt: .* writes no texts"):
            predict(folder / "run", prompt="aa [MASK]", output=tmp_path / "x.csv")
        return
    gap = GAPS[kind]
    lines = tmp_path / "lines.txt"
    lines.write_text(f"aa bb {gap} dd ee.\nbb cc dd {gap}\n")
    rows = read(predict(folder / "run", test=str(lines), output=tmp_path / "found.csv"))
    assert [row["text_prompt"] for row in rows] == lines.read_text().splitlines()
    assert all(gap not in row["text"] for row in rows)
    alone = read(predict(folder / "run", prompt=f"aa bb {gap} dd ee.", output=tmp_path / "one.csv"))
    assert alone[0]["text"] == rows[0]["text"]
    if kind == "masked_lm":
        candidates = json.loads(rows[0]["text_candidates"])
        assert [len(found) for found in candidates] == [5]
        shares = [share for _, share in candidates[0]]
        assert shares == sorted(shares, reverse=True)
        assert rows[0]["text"].split() == ["aa", "bb", candidates[0][0][0], "dd", "ee", "."]
        more = predict(folder / "run", prompt=gap, output=tmp_path / "x.csv", generation={"top_k": 2})
        assert [len(found) for found in json.loads(read(more)[0]["text_candidates"])] == [2]
    if kind == "span_corruption":
        words = rows[0]["text"].split()
        assert words[:2] + words[-3:] == ["aa", "bb", "dd", "ee", "."]
    if kind != "denoising":
        with pytest.raises(UserError, match=rf"^prompt: has no gap; write {re.escape(gap)} where something is missing"):
            predict(folder / "run", prompt="aa bb", output=tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"^prompt: has \d+ tokens, the model reads 24 at most"):
        predict(folder / "run", prompt=" ".join([gap] * 40), output=tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"^generation.num_beam: "):
        predict(folder / "run", prompt=gap, output=tmp_path / "x.csv", generation={"num_beam": 2})
    with pytest.raises(UserError, match=r"^generation: has no effect on rows of a table"):
        predict(folder / "run", test=str(folder / "test.csv"), output=tmp_path / "x.csv", generation={"top_k": 2})


class Killed(BaseException):
    pass


def test_a_killed_run_ends_with_the_same_bytes(
    finished: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = finished
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = experiment(tmp_path, kind, trainer={"checkpoint_every": 5})
    step = Console.step

    def deadly(self: Console, now: int, *others: Any) -> None:
        if now == 22:
            raise Killed
        step(self, now, *others)

    monkeypatch.setattr(Console, "step", deadly)
    with pytest.raises(Killed):
        train(config)
    monkeypatch.setattr(Console, "step", step)
    train(config)
    for name in ("metrics.csv", "predictions/test.csv", "bundle/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / "run" / name).read_bytes(), name


BPE = {"type": "bpe", "vocab_size": 270}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("masked_lm", {"output": {"column": "label"}}, "outputs.text.column: unknown key"),
        ("masked_lm", {"output": {"mask_probability": 0.0}}, "outputs.text.mask_probability: 0.0 is not"),
        (
            "masked_lm",
            {"output": {"mask_share": 0.8, "random_share": 0.3}},
            "outputs.text.random_share: 0.3 and mask_share 0.8 are more than all hidden tokens",
        ),
        (
            "masked_lm",
            {"output": {"whole_words": True}},
            "outputs.text.whole_words: has no use with a 'word' tokenizer, which does not cut words into subwords",
        ),
        (
            "masked_lm",
            {"output": {"whole_words": True, "mean_span_length": 2.0}, "input": {"tokenizer": BPE}},
            "outputs.text.mean_span_length: has no effect with whole_words: true",
        ),
        (
            "masked_lm",
            {"input": {"model": {"model_type": "gpt2"}}},
            "inputs.text.model.model_type: 'gpt2' has no language-model head (task masked-lm); these have one: albert",
        ),
        (
            "masked_lm",
            {"output": {"documents": "packed"}, "input": {"pair_column": "label"}},
            "outputs.text.documents: 'packed' is for single texts alone; rows hold what",
        ),
        (
            "masked_lm",
            {"output": {"documents": "packed"}, "input": {"truncation": "random"}},
            "inputs.text.truncation: has no effect as a language model reads full texts",
        ),
        (
            "masked_lm",
            {"more": {"label": {"type": "classification", "column": "label"}}},
            "outputs.text: a masked_lm output cannot be combined with others (label)",
        ),
        (
            "masked_lm",
            {"trainer": {"monitor": {"output": "text", "metric": "f1"}}},
            "trainer.monitor.metric: 'f1' is not",
        ),
        (
            "replaced_token_detection",
            {"input": {"model": {"model_type": "bert", "model_init_config": BERT}}},
            "inputs.text.model.model_type: 'bert' does not learn to detect replaced tokens; these do: electra",
        ),
        (
            "replaced_token_detection",
            {"output": {"generator": {"model_init_config": {"hiden_size": 8}}}},
            "outputs.text.generator.model_init_config.hiden_size: not an option of 'electra'; did you mean",
        ),
        (
            "span_corruption",
            {"input": {"pair_column": "label"}},
            "inputs.text.pair_column: must be left out: a span_corruption output takes parts out of one text",
        ),
        ("span_corruption", {"output": {"noise_density": 1.0}}, "outputs.text.noise_density: 1.0 is not"),
        ("span_corruption", {"output": {"documents": "packed"}}, "outputs.text.documents: unknown key"),
        (
            "denoising",
            {"input": {"is_split_into_words": True}},
            "inputs.text.is_split_into_words: must be left out: a denoising output takes parts out of one text",
        ),
        (
            "denoising",
            {"input": {"model": {"model_type": "bert"}}},
            "inputs.text.model.model_type: 'bert' has no language-model head (task seq2seq-lm); these have one: bart, ",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, kind: str, changes: dict[str, Any], message: str) -> None:
    table(tmp_path / "train.csv", 4)
    table(tmp_path / "test.csv", 4, seed=1)
    config = raw(tmp_path, kind, trainer=changes.get("trainer", {}))
    config["outputs"]["text"] |= changes.get("output", {})
    config["outputs"] |= changes.get("more", {})
    config["inputs"]["text"] |= changes.get("input", {})
    with pytest.raises(UserError, match=f"(?m)^{re.escape(message)}"):
        validate_experiment(config)


def test_options_of_generation_are_looked_at_before_training(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", 4)
    table(tmp_path / "test.csv", 4, seed=1)
    config = raw(tmp_path, "denoising")
    config["outputs"]["text"]["generation"] = {"num_beam": 2}
    with pytest.raises(UserError, match=r"^outputs.text.generation.num_beam: not an option of generate"):
        train(validate_experiment(config))


@pytest.mark.parametrize(
    ("model_type", "message"),
    [("bert", "inputs.text.tokenizer: has no sentinels"), ("t5", "")],
)
def test_published_tokenizers_need_sentinels(tmp_path: Path, model_type: str, message: str) -> None:
    table(tmp_path / "train.csv", 20)
    table(tmp_path / "test.csv", 4, seed=1)
    train_tokenizer("word", WORDS, sentinels=100 if model_type == "t5" else 0).save(tmp_path / "tokenizer")
    config = raw(tmp_path, "span_corruption")
    config["inputs"]["text"]["tokenizer"] = {"type": "published", "path": str(tmp_path / "tokenizer")}
    with Console() as console:
        if not message:
            assemble(validate_experiment(config), console)
            return
        with pytest.raises(UserError, match=f"^{re.escape(message)}"):
            assemble(validate_experiment(config), console)


@pytest.mark.parametrize("layout", ["packed", "separate"])
def test_hidden_tokens_in_blocks(tmp_path: Path, layout: str) -> None:
    """Blocks are full, only their own tokens are hidden, and predictions go by block."""
    table(tmp_path / "train.csv", 40)
    table(tmp_path / "test.csv", 6, seed=1)
    config = raw(tmp_path, "masked_lm", trainer={"max_epochs": 1})
    config["outputs"]["text"]["documents"] = layout
    train(validate_experiment(config))
    rows = read(tmp_path / "run" / "predictions" / "test.csv")
    assert rows[0]["id"] == ("block-1" if layout == "packed" else "r1-0")
    assert all(float(row["text"]) > 0 for row in rows)
    found = read(predict(tmp_path / "run", prompt="aa [MASK] cc", output=tmp_path / "x.csv"))
    assert found[0]["text"].split()[::2] == ["aa", "cc"]


def test_the_shipped_experiment_is_valid() -> None:
    config = compose_experiment(["experiment=pretrain_bert"]).config
    assert [output.type for output in config.outputs.values()] == ["masked_lm"]
