"""Runs that train adapters of low rank, or a part of a backbone: what changes, resuming, what they leave."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.lora import load_adapter
from eir_seq.models.names import is_adapter
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.checkpoints import CheckpointStore
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate
from eir_seq.training.run import train
from eir_seq.training.signals import Stopped
from tests.training.table import TINY, table_experiment

LORA = {"rank": 2, "alpha": 8, "dropout": 0.1, "target_modules": ["query", "value"]}


pytestmark = pytest.mark.usefixtures("one_thread")


def with_model(folder: Path, base: Path, **model: Any) -> ExperimentConfig:
    given = {"type": "sequence", "column": "text", "max_length": 12}
    model = {"model_type": str(base), "pretrained_model": True, **model}
    return table_experiment(folder, inputs={"text": {**given, "model": model}})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as one finds it on the Hub: model and tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    texts = ["bright warm kind day and a", "grey cold rude day and a"]
    tokenizer = train_tokenizer("word", texts)
    tokenizer.save(folder)
    torch.manual_seed(0)
    create_model("bert", {**TINY, "vocab_size": tokenizer.vocab_size, "num_hidden_layers": 2}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = with_model(folder, base, lora=LORA)
    trainer = config.trainer.model_copy(update={"keep_optimizer_state": True})
    train(config.model_copy(update={"trainer": trainer}))
    return folder


def last_weights(folder: Path) -> dict[str, Tensor]:
    newest = CheckpointStore(folder / "run" / "checkpoints", 1).newest_intact(print)
    assert newest is not None
    return load_file(newest / "tensors.safetensors")


def test_only_adapters_and_what_stands_above_are_trained(base: Path, finished: Path) -> None:
    """The loaded weights are those of the file, bit for bit, at the end of training."""
    parts = assemble(with_model(finished, base, lora=LORA), Console(io.StringIO()))
    backbone: Any = parts.network.encoder("text").backbone
    trained = [name for name, x in backbone.named_parameters() if x.requires_grad]
    assert trained
    assert all(map(is_adapter, trained))
    assert sum(backbone.get_parameter(name).numel() for name in trained) == 2 * 2 * (2 * 8 + 8 * 2)
    assert (
        f"{parts.network.count_parameters()['trainable']:,} of them trained"
        in (finished / "run" / "log.txt").read_text()
    )
    weights = last_weights(finished)
    loaded = dict(from_pretrained(base, task="base").named_parameters())
    found = {
        name.rpartition("backbone.")[2]: x for name, x in weights.items() if "network" in name and "backbone" in name
    }
    kept = {name: x for name, x in found.items() if name in loaded}
    assert len(kept) == len(loaded) - 2, "all but the pooler, which is taken off"
    assert all(torch.equal(x, loaded[name]) for name, x in kept.items())
    assert any(bool(x.abs().max() > 0) for name, x in found.items() if name.endswith("lora.b"))


def test_a_resumed_run_has_the_same_bits(base: Path, finished: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    original = Console.step

    def step(self: Any, step: int, *rest: Any) -> None:
        original(self, step, *rest)
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Console, "step", step)
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    with pytest.raises(Stopped):
        train(with_model(tmp_path, base, lora=LORA))
    monkeypatch.setattr(Console, "step", original)
    train(with_model(tmp_path, base, lora=LORA))
    for file in ("bundle/model.safetensors", "bundle/base.json", "adapters/text/adapter_model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (finished / "run" / file).read_bytes()


def test_a_bundle_is_read_with_merged_weights(base: Path, finished: Path) -> None:
    """It predicts what the run did, to rounding, and knows of no adapter."""
    bundle = read_bundle(finished / "run" / "bundle")
    assert not [name for name, _ in bundle.network.named_parameters() if is_adapter(name)]
    parts = assemble(with_model(finished, base, lora=LORA), Console(io.StringIO()))
    found = evaluate(bundle.network, bundle.outputs, parts.batches("test"), device=torch.device("cpu"))
    decoded = bundle.outputs["mood"].decode(found.raw["mood"])
    with (finished / "run" / "predictions" / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mood_p(good)"]) for row in rows] == pytest.approx(decoded["mood_p(good)"], rel=1e-5)


def test_the_adapter_beside_it_is_the_difference(base: Path, finished: Path) -> None:
    folder = finished / "run" / "adapters" / "text"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (2, 8, str(base))
    model: Any = from_pretrained(base, task="base")
    load_adapter(model, folder)
    merged = model.published_tensors()
    weights = read_bundle(finished / "run" / "bundle").network.state_dict()
    query = next(x for name, x in weights.items() if name.endswith("layers.1.mixer.query.weight"))
    assert torch.equal(query, merged["encoder.layer.1.attention.self.query.weight"])


def test_a_bundle_holds_what_was_trained_alone(base: Path, finished: Path, tmp_path: Path) -> None:
    """It names the model that it stands beside, and notices when that is missing or another one."""
    file = Path("adapters", "text", "adapter_model.safetensors")
    assert (finished / "run" / file).samefile(finished / "run" / "bundle" / file)
    folder = tmp_path / "bundle"
    shutil.copytree(finished / "run" / "bundle", folder)
    held = load_file(folder / "model.safetensors")
    trained = {name for name in held if "backbone" in name}
    assert trained
    assert all(map(is_adapter, trained))
    assert json.loads((folder / "base.json").read_text())["text"]["model"] == str(base)
    moved = base.with_name("moved")
    base.rename(moved)
    try:
        with pytest.raises(UserError, match=r"holds only adapters; copy .*/base/text \(lora\.merge: true") as refused:
            read_bundle(folder)
        assert len(refused.value.faults) == 1
        shutil.copytree(moved, folder / "base" / "text")
        read_bundle(folder)
        shutil.rmtree(folder / "base")
        shutil.copytree(moved, base)
        weights = load_file(base / "model.safetensors")
        weights["embeddings.LayerNorm.weight"] += 1e-3
        save_file(weights, base / "model.safetensors")
        with pytest.raises(UserError, match=r"is not the model that the adapters of inputs\.text were trained with"):
            read_bundle(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
        moved.rename(base)
    read_bundle(folder)


def test_a_merged_bundle_stands_alone(base: Path, finished: Path, tmp_path: Path) -> None:
    """It is the one that adapters and base make together, also for a run that began with a published adapter."""
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    adapter = {"adapter": str(finished / "run" / "adapters" / "text")}
    found = []
    for merge in (False, True):
        config = with_model(tmp_path, base, lora={**adapter, "merge": merge})
        config = config.model_copy(update={"run": config.run.model_copy(update={"dir": str(tmp_path / str(merge))})})
        train(config)
        bundle = tmp_path / str(merge) / "bundle"
        assert (bundle / "base.json").exists() != merge
        found.append(read_bundle(bundle).network.state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())
    assert not list((tmp_path / "True" / "checkpoints").iterdir())


@pytest.mark.parametrize("merge", [False, True])
def test_what_pretraining_by_adapters_leaves_is_merged(merge: bool, base: Path, tmp_path: Path) -> None:
    config = with_model(tmp_path, base, lora={**LORA, "merge": merge})
    outputs = {"text": {"type": "masked_lm"}}
    train(type(config).model_validate({**config.model_dump(exclude={"fusion"}), "outputs": outputs}))
    bundle = read_bundle(tmp_path / "run" / "bundle")
    learnt: Any = bundle.network.encoder("text").backbone
    published: Any = from_pretrained(tmp_path / "run" / "pretrained" / "text", task="masked-lm")
    weights = published.state_dict()
    assert weights.keys() == learnt.state_dict().keys()
    assert all(torch.equal(x, weights[name]) for name, x in learnt.state_dict().items())
    start = dict(from_pretrained(base, task="base").named_parameters())
    assert not torch.equal(weights[QUERY], start[QUERY])


QUERY = "body.layers.0.mixer.query.weight"


def test_an_adapter_to_begin_with(base: Path, finished: Path, tmp_path: Path) -> None:
    adapter = str(finished / "run" / "adapters" / "text")
    parts = assemble(with_model(tmp_path, base, lora={"adapter": adapter}), Console(io.StringIO()))
    backbone: Any = parts.network.encoder("text").backbone
    b = backbone.body.layers[0].mixer.query.lora.b
    assert torch.equal(b, load_file(f"{adapter}/adapter_model.safetensors")[
        "base_model.model.encoder.layer.0.attention.self.query.lora_B.weight"])  # fmt: skip
    assert b.requires_grad


def test_frozen_tensors_stay_and_the_others_move(base: Path, tmp_path: Path) -> None:
    train(with_model(tmp_path, base, freeze=["embeddings", "encoder.layer.0.*"]))
    weights = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    loaded = dict(from_pretrained(base, task="base").named_parameters())
    moved = {name.rpartition("backbone.")[2]: x for name, x in weights.items() if "backbone." in name}
    frozen = {name for name in moved if name.startswith(("body.embeddings.", "body.layers.0."))}
    assert len(frozen) == 5 + 16
    for name, tensor in moved.items():
        assert torch.equal(tensor, loaded[name]) == (name in frozen), name


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        (
            {"freeze": ["embeding", "encoder.layer.7"]},
            [
                "inputs.text.model.freeze: 'embeding' fits no tensor; did you mean 'embeddings'?",
                "inputs.text.model.freeze: 'encoder.layer.7' fits no tensor; did you mean 'encoder.layer.1'?",
            ],
        ),
        (
            {"lora": {"target_modules": ["q_proj", "qery"]}},
            [
                "inputs.text.model.lora.target_modules: 'q_proj': no linear layer is named so",
                "inputs.text.model.lora.target_modules: 'qery': no linear layer is named so; did you mean 'query'?",
            ],
        ),
        (
            {"lora": {"adapter": "BASE"}},
            ["inputs.text.model.lora.adapter: BASE holds no adapter_config.json, so it is no adapter folder"],
        ),
    ],
)
def test_what_the_model_does_not_have(model: dict[str, Any], lines: list[str], base: Path, tmp_path: Path) -> None:
    model = json.loads(json.dumps(model).replace("BASE", str(base)))
    with pytest.raises(UserError) as caught:
        train(with_model(tmp_path, base, **model))
    assert str(caught.value).splitlines() == [line.replace("BASE", str(base)) for line in lines]
