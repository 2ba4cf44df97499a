from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.schema import DataConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities import build_modality
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.training.run import train
from tests.training.table import table_experiment

transformers = pytest.importorskip("transformers")

ROWS = Rows.of({"text": ["a bright warm day and a cold grey day", "kind and rude", "six"]})
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
MODELS: dict[str, dict[str, Any]] = {
    "modernbert": {"model_type": "modernbert", **SIZES},
    "qwen3": {"model_type": "qwen3", **SIZES, "num_key_value_heads": 1, "head_dim": 4},
    "mt5": {"model_type": "mt5", "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2},
    "xmod": {"model_type": "xmod", **SIZES, "default_language": "en_XX", "max_position_embeddings": 20},
}
NEWER = ["modernbert", "qwen3"]


def fit(**model: Any) -> FittedSequence:
    config = SequenceInputConfig.model_validate({"column": "text", "max_length": 16, "model": model})
    fitted = build_modality("review", config).fit(ROWS, 0)
    assert isinstance(fitted, FittedSequence)
    return fitted


def fresh(name: str, **model: Any) -> tuple[FittedSequence, SequenceEncoder]:
    fitted = fit(model_type="auto", model_init_config=MODELS[name], **model)
    return fitted, fitted.build_encoder(DataConfig()).eval()


def batch(fitted: FittedSequence, rows: list[int]) -> dict[str, torch.Tensor]:
    return fitted.collator(EncodedInMemory(fitted, ROWS[:]), rows, Draw(0))


def faults(**model: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        fit(**model).build_encoder(DataConfig())
    return [str(fault) for fault in caught.value.faults]


def saved(name: str, folder: Path) -> tuple[Path, FittedSequence, SequenceEncoder]:
    """A published folder with its tokenizer, and the encoder that it was made of."""
    fitted, encoder = fresh(name)
    body: Any = encoder.backbone.body
    body.save_pretrained(folder)
    fitted.tokenizer.save(folder)
    return folder, fitted, encoder


@pytest.mark.parametrize("pool", ["avg", "max", "first", "last"])
@pytest.mark.parametrize("name", NEWER)
def test_pooled_states_are_those_of_the_library(name: str, pool: str) -> None:
    fitted, encoder = fresh(name, pool=pool)
    body: Any = encoder.backbone.body
    assert type(body) is type(transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**MODELS[name])))
    assert encoder.output_size == 8
    assert body.config.vocab_size == fitted.tokenizer.vocab_size
    assert body.config.pad_token_id == fitted.tokenizer.pad_id
    together = encoder(**batch(fitted, [0, 1, 2]))
    for row in range(3):
        ids = batch(fitted, [row])["input_ids"]
        states = body(input_ids=ids).last_hidden_state[0]
        expected = {"avg": states.mean(0), "max": states.amax(0), "first": states[0], "last": states[-1]}[pool]
        torch.testing.assert_close(together[row], expected, atol=1e-5, rtol=0)


def test_the_pooler_of_a_type_that_has_one() -> None:
    options = {**MODELS["xmod"], "model_type": "bert"}
    options = {name: value for name, value in options.items() if name != "default_language"}
    fitted = fit(model_type="auto", model_init_config=options, pool="pooler")
    encoder = fitted.build_encoder(DataConfig()).eval()
    body: Any = encoder.backbone.body
    assert all(parameter.requires_grad for parameter in body.pooler.parameters())
    tensors = batch(fitted, [0, 1])
    expected = body(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"]).pooler_output
    torch.testing.assert_close(encoder(**tensors), expected, atol=1e-6, rtol=0)
    assert faults(model_type="auto", model_init_config=MODELS["qwen3"], pool="pooler") == [
        "inputs.review.model.pool: 'auto' has no pooler; use avg, max, first or last"
    ]


@pytest.mark.parametrize("name", MODELS)
def test_what_stands_at_padding_does_not_matter(name: str) -> None:
    fitted, encoder = fresh(name)
    tensors = batch(fitted, [0, 1, 2])
    mask = tensors["attention_mask"]
    assert not mask.all()
    other = {**tensors, "input_ids": tensors["input_ids"].masked_fill(~mask, 5)}
    torch.testing.assert_close(encoder(**other), encoder(**tensors), atol=1e-5, rtol=0)


def test_layers_and_gradients() -> None:
    for name in MODELS:
        fitted, encoder = fresh(name)
        backbone: Any = encoder.backbone
        layers = {backbone.layer_of(parameter) for parameter, _ in backbone.named_parameters()}
        assert layers == {0, 1, 2}
        encoder(**batch(fitted, [0, 1])).square().sum().backward()
        idle = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
        assert [n for n in idle if "adapter_modules" not in n] == []


def test_positions_counted_from_behind_the_padding_are_fewer() -> None:
    _, encoder = fresh("xmod")
    backbone: Any = encoder.backbone
    assert backbone.max_positions == 20 - 1 - backbone.config.pad_token_id


@pytest.mark.parametrize("name", NEWER)
def test_published_weights(name: str, tmp_path: Path) -> None:
    folder, fitted, encoder = saved(name, tmp_path / "published")
    loaded = fit(model_type=str(folder), pretrained_model=True)
    tensors = batch(fitted, [0, 1, 2])
    torch.testing.assert_close(loaded.build_encoder(DataConfig()).eval()(**tensors), encoder(**tensors))
    loaded.save(tmp_path / "input")
    shutil.rmtree(folder)
    again = FittedSequence.load(tmp_path / "input").build_encoder(DataConfig(), pretrained=False)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in encoder.named_parameters()}


def test_a_checkpoint_without_all_weights_is_refused(tmp_path: Path) -> None:
    folder, _, _ = saved("qwen3", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3, "layer_types": None}))
    (line,) = faults(model_type=str(folder), pretrained_model=True)
    assert "of the model's tensors are not in the checkpoint (first: layers.2." in line


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", NEWER)
def test_a_run_predicts_the_same_from_its_bundle(name: str, published: bool, tmp_path: Path) -> None:
    model: dict[str, Any] = {"model_type": "auto", "model_init_config": MODELS[name]}
    if published:
        model = {"model_type": str(saved(name, tmp_path / "published")[0]), "pretrained_model": True}
    source = {"type": "sequence", "column": "text", "max_length": 12, "model": model}
    config = table_experiment(tmp_path, inputs={"text": source}, trainer={"max_epochs": 1, "accelerator": "cpu"})
    train(config)
    shutil.rmtree(tmp_path / "published", ignore_errors=True)
    predict(tmp_path / "run", output=tmp_path / "predicted.csv", accelerator="cpu")
    tables = [tmp_path / "predicted.csv", tmp_path / "run" / "predictions" / "test.csv"]
    predicted, recorded = ({row["id"]: row for row in csv.DictReader(path.open())} for path in tables)
    assert predicted.keys() == recorded.keys()
    column = next(key for key in next(iter(predicted.values())) if key.startswith("mood_p("))
    for row, values in predicted.items():
        assert float(values[column]) == pytest.approx(float(recorded[row][column]), abs=1e-5)


def test_unknown_options_and_types_are_refused() -> None:
    options = {**MODELS["qwen3"], "hiden_size": 8, "num_heds": 2}
    lines = faults(model_type="auto", model_init_config=options)
    place = "inputs.review.model.model_init_config"
    assert lines[0] == f"{place}.hiden_size: not an option of 'qwen3'; did you mean 'hidden_size'?"
    assert lines[1].startswith(f"{place}.num_heds: not an option of 'qwen3'")
    (line,) = faults(model_type="auto", model_init_config={"model_type": "modernbertt"})
    assert line.startswith(f"{place}.model_type: 'modernbertt' is known neither here nor to transformers; did you mean")
    (line,) = faults(model_type="auto", model_init_config={"model_type": "vit"})
    assert line == "inputs.review.model.model_type: 'vit' does not read token ids with a mask"


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert faults(model_type="auto", model_init_config=MODELS["qwen3"]) == [
        "inputs.review.model.model_type: a model outside the catalogue needs transformers: "
        "pip install 'eir_seq[transformers]'"
    ]


@pytest.mark.parametrize(
    ("model", "place", "words"),
    [
        ({"model_type": "auto"}, "model_init_config.model_type", "'auto' needs the name of a type"),
        (
            {"model_type": "auto", "model_init_config": {"model_type": "bert"}},
            "model_init_config.model_type",
            "'bert' is in the catalogue; name it as model_type",
        ),
        ({"model_type": "auto", "pretrained_model": True}, "model_type", "'auto' is for models from scratch"),
    ],
)
def test_the_config_says_what_auto_needs(model: dict[str, Any], place: str, words: str, tmp_path: Path) -> None:
    raw = table_experiment(tmp_path).model_dump(mode="json")
    raw["inputs"]["text"]["model"] = model
    with pytest.raises(UserError) as caught:
        validate_experiment(raw)
    (fault,) = caught.value.faults
    assert fault.place == f"inputs.text.model.{place}"
    assert words in fault.message
