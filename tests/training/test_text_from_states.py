"""Texts that a decoder of an output writes from the states of several inputs, beside other outputs."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.report import write_report
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.lora import load_adapter, merge_lora
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import assemble
from eir_seq.training.build import build_network
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.report_data import ReportData
from eir_seq.training.run import train
from tests.training import everything
from tests.training.table import TINY, table_experiment

BART = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 16, "dropout": 0.0,
}  # fmt: skip
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}


def write(path: Path, rows: int, seed: int, lacking: bool = False) -> None:
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "colour", "animal", "said", "mood", "echo"])
        for row in range(rows):
            colour, animal = draw.choice(["red", "blue", "green"]), draw.choice(["fox", "owl", "hen"])
            cells = [f"the {colour} one", f"an {animal}", f"{animal} is {colour}", colour, f"{colour} {colour}"]
            if lacking and row % 5 == 0:
                cells[row // 5 % 3] = ""
            writer.writerow([f"{path.stem}{row}", *cells])


def experiment(folder: Path, model: dict[str, Any], lacking: bool = False, **changes: Any) -> Any:
    write(folder / "train.csv", 90, 1, lacking)
    write(folder / "test.csv", 12, 2, lacking)
    wide = {**TINY, "hidden_size": 16, "hidden_dropout_prob": 0.0}
    text = {"type": "sequence", "max_length": 6, "model": {"model_type": "bert", "model_init_config": wide}}
    outputs = {
        "said": {"type": "seq2seq_lm", "column": "said", "max_length": 8, "model": model, "generate_rows": 0},
        "mood": {"type": "classification", "column": "mood"},
    }
    config = table_experiment(folder).model_dump(exclude_none=True, exclude={"inputs", "outputs"})
    config |= {"inputs": {"left": {**text, "column": "colour"}, "right": {**text, "column": "animal"}}}
    config |= {"outputs": outputs, **changes}
    return config


@pytest.mark.slow
def test_a_sentence_from_two_inputs_beside_a_class(tmp_path: Path) -> None:
    config = experiment(tmp_path, {"model_type": "bart", "model_init_config": BART})
    config["scheduler"] = {"type": "constant"}
    config["trainer"] |= {"max_epochs": 22, "validate_every": 198}
    config["optimizer"] |= {"lr": 0.01}
    metrics = train(validate_experiment(config))["test"]
    assert metrics["said"]["exact_match"] > 0.9
    assert metrics["mood"]["accuracy"] > 0.9
    table = predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "out.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["said"] == row["said_true"] for row in rows) >= 11


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_several_texts_beside_a_class_where_rows_lack_some(tmp_path: Path) -> None:
    config = experiment(tmp_path, {"model_type": "t5", "model_init_config": T5}, lacking=True)
    config["outputs"]["said"] |= {"generate_rows": 3, "generation": {"num_beams": 2}}
    gpt2 = {"model_type": "gpt2", "model_init_config": GPT2}
    short = {"type": "seq2seq_lm", "column": "echo", "inputs": ["left"], "model": gpt2, "max_length": 8}
    config["outputs"]["short"] = {**short, "generate_rows": 3, "generation": {"do_sample": True, "max_new_tokens": 4}}
    config["data"] |= {"on_missing": "keep"}
    config["trainer"] |= {"max_epochs": 1}
    result = train(validate_experiment(config))
    assert {"loss", "bleu", "rougeL", "exact_match"} <= result["test"]["said"].keys() & result["test"]["short"].keys()
    samples = rows_of(tmp_path / "run" / "samples.csv")
    assert {row["output"] for row in samples} == {"said", "short"}
    assert any(" | " in row["prompt"] for row in samples if row["output"] == "said")
    assert not any(" | " in row["prompt"] for row in samples if row["output"] == "short")
    columns = ["said", "said_score", "short", "short_score", "mood"]
    own = rows_of(tmp_path / "run" / "predictions" / "test.csv")
    again = rows_of(predict(tmp_path / "run", output=tmp_path / "again.csv"))
    assert [[row[name] for name in columns] for row in again] == [[row[name] for name in columns] for row in own]
    blank = tmp_path / "blank.csv"
    given = rows_of(tmp_path / "test.csv")
    with blank.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "colour", "animal"])
        writer.writeheader()
        writer.writerows({"id": row["id"], "colour": row["colour"], "animal": row["animal"]} for row in given)
    for size in (1, 5):
        found = rows_of(predict(tmp_path / "run", test=str(blank), output=tmp_path / "out.csv", batch_size=size))
        assert [row["said"] for row in found] == [row["said"] for row in own]
        scores = [[float(row["said_score"]) for row in rows] for rows in (found, own)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
        assert "said_true" not in found[0]
    longest = {"max_new_tokens": 2}
    found = rows_of(predict(tmp_path / "run", output=tmp_path / "out.csv", generation=longest))
    assert max(len(row[name].split()) for row in found for name in ("said", "short")) == 2
    with pytest.raises(UserError, match=r"generation.num_beam: not an option of generate"):
        predict(tmp_path / "run", output=tmp_path / "out.csv", generation={"num_beam": 2})
    with pytest.raises(UserError, match=r"prompt: the texts of .* are written from rows of a table"):
        predict(tmp_path / "run", output=tmp_path / "out.csv", prompt="a fox")


def test_the_report_shows_pictures(tmp_path: Path) -> None:
    """Those of the worst rows of any output, and of sampled texts."""
    train_rows = everything.write_rows(tmp_path, "train", 24, 0)
    kinds = {name: everything.OUTPUTS[name] for name in ("text", "classification")}
    config = everything.experiment(tmp_path, {"photo": everything.INPUTS["image"]}, kinds)
    train(validate_experiment(config))
    data = ReportData.load(tmp_path / "run")
    worst = {row.inputs["photo"] for rows in data.worst["validation"].values() for row in rows}
    assert len(worst) == 8
    assert worst == data.thumbnails.keys()
    assert Path(next(iter(worst))).parent == train_rows.parent
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    samples, tables = page.split("<h3>Texts it wrote", 1)[1].split('<table class="worst">', 1)
    assert samples.count('<img class="thumbnail" src="data:image/png;base64,iVBOR') == 2
    assert tables.count('<img class="thumbnail"') == 16


FROZEN, ADAPTED = {"freeze_pretrained_model": True}, {"lora": {"rank": 2, "merge": True}}


@pytest.mark.parametrize(
    ("model_type", "kept"),
    [
        ("bart", ADAPTED),
        ("bert", FROZEN),
        pytest.param("bart", FROZEN, marks=pytest.mark.slow),
        pytest.param("bert", ADAPTED, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_published_decoder(model_type: str, kept: dict[str, Any], tmp_path: Path) -> None:
    """The cross-attention that bert lacks is fresh, and trained."""
    tokenizer = train_tokenizer("word", ["red blue green fox owl hen is"])
    options: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id}
    options |= {**BART, "decoder_start_token_id": tokenizer.cls_id} if model_type == "bart" else TINY
    torch.manual_seed(0)
    task = {"bart": "seq2seq-lm", "bert": "masked-lm"}[model_type]
    create_model(model_type, options, task=task).save_pretrained(tmp_path / "published")
    tokenizer.save(tmp_path / "published")
    config = experiment(tmp_path, {"model_type": str(tmp_path / "published"), "pretrained_model": True, **kept})
    config["trainer"] |= {"max_epochs": 1}
    train(validate_experiment(config))
    network = read_bundle(tmp_path / "run" / "bundle").network
    decoder: Any = network.head("said")
    assert all(not name.endswith(("lora.a", "lora.b")) for name, _ in decoder.named_parameters())
    published = dict(from_pretrained(tmp_path / "published", task=task).named_parameters())
    found = {name: x for name, x in decoder.backbone.named_parameters() if name in published}
    changed = [name for name, x in found.items() if not torch.equal(x, published[name])]
    assert len(found) > 10
    assert bool(changed) == ("lora" in kept)
    assert all(name.endswith("weight") for name in changed)
    own = rows_of(tmp_path / "run" / "predictions" / "test.csv")
    again = rows_of(predict(tmp_path / "run", output=tmp_path / "again.csv"))
    assert [row["said"] for row in again] == [row["said"] for row in own]
    if "lora" in kept:
        adapter_is_the_difference(tmp_path, task, decoder.backbone)


def adapter_is_the_difference(folder: Path, task: str, merged: Any) -> None:
    """The adapter of the decoder, which peft loads onto the published model, and a further run begins with."""
    adapter = folder / "run" / "adapters" / "outputs.said"
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert (described["peft_type"], described["r"]) == ("LORA", 2)
    assert described["base_model_name_or_path"] == str(folder / "published")
    if task == "seq2seq-lm":
        assert described["task_type"] == "SEQ_2_SEQ_LM"
        names = load_file(adapter / "adapter_model.safetensors").keys()
        assert "base_model.model.model.decoder.layers.0.self_attn.q_proj.lora_A.weight" in names
        assert {name.split(".")[3] for name in names} == {"decoder"}
        model: Any = from_pretrained(folder / "published", task=task)
        load_adapter(model, adapter)
        merge_lora(model)
        given = dict(model.named_parameters())
        assert all(torch.equal(x, given[name]) for name, x in merged.named_parameters() if ".layers." in name)
    again = {"model_type": str(folder / "published"), "pretrained_model": True}
    again["lora"] = {"adapter": str(adapter), "merge": True}
    head: Any = assemble(validate_experiment(experiment(folder, again)), Console(io.StringIO())).network.head("said")
    assert any(x.any() for name, x in head.named_parameters() if name.endswith("lora.b"))


def test_messages(tmp_path: Path) -> None:
    def said(model: dict[str, Any], sections: dict[str, Any] | None = None, **output: Any) -> str:
        config = experiment(tmp_path, model)
        for name, section in (sections or {}).items():
            config[name] |= section
        config["outputs"]["said"] |= output
        with pytest.raises(UserError) as caught:
            validate_experiment(config)
        return str(caught.value)

    assert "outputs.said.inputs[0]: 'lef' is no input" in said({"model_type": "t5"}, inputs=["lef"])
    assert "outputs.said.inputs: names 'left' twice" in said({"model_type": "t5"}, inputs=["left", "right", "left"])
    assert "outputs.said.model.model_type: 'llama' has no decoder with cross-attention; these have one: bart," in said(
        {"model_type": "llama"}
    )
    assert "outputs.said.model.model_type: 'barrt' is not in the catalogue" in said({"model_type": "barrt"})
    assert "outputs.said.model.pool: has no effect" in said({"model_type": "t5", "pool": "max"})
    long = said({"model_type": "bart", "model_init_config": BART}, max_length=40)
    assert "outputs.said.max_length: 40 tokens are more than the 16 positions" in long
    published = {"model_type": str(tmp_path), "pretrained_model": True}
    assert "outputs.said.model.lora.merge: must be true" in said({**published, "lora": {"rank": 2}})
    bart = {"model_type": "bart", "model_init_config": BART}
    monitor = {"trainer": {"monitor": {"output": "said", "metric": "bleu"}}}
    assert "trainer.monitor.metric: 'bleu' is measured on written texts; outputs.said.generate_rows is 0" in said(
        bart, sections=monitor
    )


def test_an_encoder_without_states(tmp_path: Path) -> None:
    class Vectors:
        def build_encoder(self, *_: Any, **__: Any) -> torch.nn.Module:
            encoder = torch.nn.Linear(4, 4)
            encoder.output_size = 4  # type: ignore[assignment]
            return encoder

    config = validate_experiment(experiment(tmp_path, {"model_type": "t5", "model_init_config": T5}))
    parts = assemble(config, Console(io.StringIO()))
    with pytest.raises(UserError, match=r"inputs.left.model.model_type: Linear gives a vector and no states"):
        build_network(config, {**parts.inputs, "left": Vectors()}, parts.outputs)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"num_beam": 2}, "outputs.said.generation.num_beam: not an option of generate; did you mean 'num_beams'?"),
        ({"max_new_tokens": 16}, "outputs.said.generation.max_new_tokens: a text of 17 tokens (prompt: 1) is longer"),
        ({"min_new_tokens": 9, "max_new_tokens": 4}, "outputs.said.generation.min_new_tokens: 9 is more than"),
        ({"eos_token_id": 400}, "outputs.said.generation.eos_token_id: 400 is outside the vocabulary of"),
    ],
)
def test_options_of_generation_that_cannot_be(generation: dict[str, Any], message: str, tmp_path: Path) -> None:
    for model in ({"model_type": "bart", "model_init_config": BART}, {"model_type": "gpt2", "model_init_config": GPT2}):
        config = experiment(tmp_path, model)
        config["outputs"]["said"]["generation"] = generation
        with pytest.raises(UserError) as caught:
            train(validate_experiment(config))
        assert message in str(caught.value)
    assert not (tmp_path / "run" / "bundle").exists()


def test_no_row_has_a_text(tmp_path: Path) -> None:
    config = experiment(tmp_path, {"model_type": "t5", "model_init_config": T5})
    for name in ("train", "test"):
        rows = rows_of(tmp_path / f"{name}.csv")
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows({**row, "said": ""} for row in rows)
    with pytest.raises(UserError, match=r"train.csv line 2: 'said' is empty"):
        train(validate_experiment(config))
    config["data"] |= {"on_missing": "keep"}
    with pytest.raises(UserError, match=r"outputs.said: has no value in any training row"):
        train(validate_experiment(config))
