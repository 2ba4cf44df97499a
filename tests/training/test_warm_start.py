"""Runs that begin with weights of another run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from eir_seq.commands.preflight import start_faults
from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.errors import UserError
from eir_seq.modalities.base import Collator
from eir_seq.modalities.json_state import JsonFittedModality, JsonModality
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.outputs.seq2seq_lm.fitted import Seq2SeqLmState
from eir_seq.outputs.seq2seq_lm.from_states import FittedTextFromStates
from eir_seq.rows import Rows
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.bundle import Bundle, read_bundle
from eir_seq.training.console import Console
from eir_seq.training.run import train
from tests.training.table import TINY, table_experiment, write_table

MODULES = {"inputs.text": "inputs.text", "fusion": "fusion", "outputs.mood": "outputs.mood"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    train(table_experiment(folder, trainer={"max_epochs": 1}))
    return folder


@pytest.fixture(scope="module")
def bundle(source: Path) -> Bundle:
    return read_bundle(source / "run" / "bundle")


def starting(source: Path, folder: Path, load: dict[str, str] | None = None, **changes: Any) -> ExperimentConfig:
    """The experiment of `source`, on its rows, in another folder."""
    folder.mkdir(exist_ok=True)
    for name in ("train.csv", "test.csv"):
        if not (folder / name).exists():
            shutil.copy(source / name, folder / name)
    keys: dict[str, Any] = {key: changes.pop(key) for key in ("fitted", "allow_missing", "freeze") if key in changes}
    start: dict[str, Any] = {"run": str(source / "run"), "load": load or MODULES, **keys}
    return table_experiment(folder, start_from=start, trainer={"max_epochs": 1}, **changes)


def table_experiment_input() -> Any:
    return SequenceInputConfig(column="text", model=SequenceModelConfig(model_type="bert"))


def parts_of(config: ExperimentConfig) -> Parts:
    with Console() as console:
        return assemble(config, console)


def test_modules_have_the_weights_of_the_other_run(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    renamed = {
        "review": {
            "type": "sequence",
            "column": "text",
            "max_length": 12,
            "model": {"model_type": "bert", "model_init_config": TINY},
        }
    }
    config = starting(source, tmp_path, {"inputs.review": "inputs.text", "outputs.score": "outputs.score"})
    config = config.model_copy(
        update={"inputs": ExperimentConfig.model_validate({**config.model_dump(), "inputs": renamed}).inputs}
    )
    parts = parts_of(config)
    fresh = parts_of(config.model_copy(update={"start_from": None})).network.public_tensors()
    own, other = parts.network.public_tensors(), bundle.network.public_tensors()
    for name, tensor in own.items():
        if name.startswith("inputs.review"):
            assert torch.equal(tensor, other[name.replace("review", "text")]), name
        elif name.startswith("outputs.score"):
            assert torch.equal(tensor, other[name]), name
        else:
            assert torch.equal(tensor, fresh[name]), name
    assert parts.started is not None
    assert parts.started["tensors"] == sum(name.startswith(("inputs.review", "outputs.score")) for name in own)
    assert all(parameter.requires_grad for parameter in parts.network.parameters())


def test_patterns_of_tensors_and_freezing(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    pattern = "inputs.text.backbone.*.layers.0.*"
    parts = parts_of(starting(source, tmp_path, {pattern: pattern}, freeze=True))
    own, other = parts.network.public_tensors(), bundle.network.public_tensors()
    loaded = [name for name in own if ".layers.0." in name]
    assert loaded
    assert all(torch.equal(own[name], other[name]) for name in loaded)
    assert not any(own[name].requires_grad for name in loaded)
    assert all(
        tensor.requires_grad for name, tensor in own.items() if name not in loaded and tensor.is_floating_point()
    )
    parts.network.train()
    modes = {name: module.training for name, module in parts.network.named_modules() if list(module.parameters())}
    assert {training for name, training in modes.items() if ".layers.0." in name} == {False}
    assert parts.network.training


def test_what_does_not_match_is_told(source: Path, tmp_path: Path) -> None:
    wider = {"type": "mlp-residual", "hidden_size": 12, "num_layers": 2}
    config = starting(source, tmp_path, fusion=wider)
    with pytest.raises(UserError) as error:
        parts_of(config)
    told = str(error.value)
    assert "has no counterpart fusion." in told
    assert "outputs.mood.1.weight is (2, 12), and outputs.mood.1.weight of" in told
    assert "start_from.allow_missing=[" in told
    parts = parts_of(starting(source, tmp_path, fusion=wider, allow_missing=["fusion", "outputs.*"]))
    assert parts.started is not None
    assert all(name.startswith(("fusion.", "outputs.")) for name in parts.started["missing"])
    deeper = {**wider, "hidden_size": 8}
    with pytest.raises(UserError, match="has no counterpart"):
        parts_of(starting(source, tmp_path, fusion=deeper))


def test_what_the_other_run_has_beyond_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"outputs\.mood\.1\.bias of \S+ has no counterpart here"):
        parts_of(starting(source, tmp_path, {"outputs.mood.1": "outputs.mood"}))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (
            {"inputs.txt": "inputs.text"},
            r"start_from\.load\.inputs\.txt: 'inputs\.txt' is in no module .*did you mean 'inputs\.text'",
        ),
        ({"inputs.text": "inputs.review"}, r"'inputs\.review' is in no module of"),
        ({"inputs.*": "inputs.text"}, r"must have the same number of \*"),
    ],
)
def test_names_that_are_none(source: Path, tmp_path: Path, load: dict[str, str], message: str) -> None:
    config = starting(source, tmp_path, load)
    assert any(re.search(message, str(fault)) for fault in start_faults(config))
    with pytest.raises(UserError, match=message):
        parts_of(config)


def test_patterns_that_fit_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fits no tensor; did you mean"):
        parts_of(starting(source, tmp_path, {"inputs.text.backbon": "inputs.text.backbone"}))
    with pytest.raises(UserError, match=r"start_from\.freeze: 'inputs' fits no loaded tensor"):
        parts_of(starting(source, tmp_path, {"fusion": "fusion"}, freeze=["inputs"]))
    with pytest.raises(UserError, match="is loaded twice"):
        parts_of(starting(source, tmp_path, {"fusion": "fusion", "*": "*"}))


def test_a_run_that_is_none(source: Path, tmp_path: Path) -> None:
    config = starting(source, tmp_path)
    assert config.start_from is not None
    for run, message in ((str(source / "rum"), "no such folder.*did you mean 'run'"), (str(source), "is neither")):
        moved = config.model_copy(update={"start_from": config.start_from.model_copy(update={"run": run})})
        faults = [str(fault) for fault in start_faults(moved)]
        assert run == str(source) or re.search(message, faults[0])
        with pytest.raises(UserError, match="is neither a finished run"):
            parts_of(moved)


def test_another_vocabulary_is_told_or_taken_over(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", 60, seed=7)
    text = (tmp_path / "train.csv").read_text(encoding="utf-8").replace("bright", "brilliant").replace("rude", "harsh")
    (tmp_path / "train.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        parts_of(starting(source, tmp_path))
    told = str(error.value)
    assert "inputs.text: vocabulary, categories or normalization, on which the loaded weights depend, differ" in told
    assert "start_from.fitted=take takes them over" in told
    assert "outputs.mood" not in told  # the classes are the same
    parts = parts_of(starting(source, tmp_path, fitted="take"))
    assert parts.inputs["text"].same_state(bundle.inputs["text"])
    assert parts.inputs["text"].name == "text"
    own = parts_of(starting(source, tmp_path, fitted="own", allow_missing=True))
    assert not own.inputs["text"].same_state(bundle.inputs["text"])


def test_another_scale_is_told_or_taken_over(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    write_table(tmp_path / "train.csv", 60, seed=7)
    load = {"outputs.score": "outputs.score"}
    with pytest.raises(UserError, match=r"outputs\.score: classes or scale, on which"):
        parts_of(starting(source, tmp_path, load))
    parts = parts_of(starting(source, tmp_path, load, fitted="take"))
    assert parts.outputs["score"].state == bundle.outputs["score"].state


class Scaled(JsonFittedModality):
    """A fitted input that learnt a mean."""

    @property
    def collator(self) -> Collator:
        raise AssertionError("it makes no batches")

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, pa.Array]:
        raise AssertionError("it encodes nothing")


class Means(JsonModality):
    FITTED = Scaled

    def learn(self, train_rows: Rows, seed: int) -> Any:
        return {"mean": sum(train_rows["score"]) / len(train_rows)}


def test_any_input_can_take_what_another_learnt() -> None:
    config = table_experiment_input()
    other = Means("old", config).fit(Rows.of({"score": [1.0, 3.0]}), 0)
    own = Means("new", config).fit(Rows.of({"score": [1.0, 5.0]}), 0)
    assert not own.same_state(other)
    assert own.same_state(Means("another", config).fit(Rows.of({"score": [3.0]}), 0))
    taken = Means("new", config).adopting(other).fit(Rows.of({"score": [1.0, 5.0]}), 0)
    assert isinstance(taken, Scaled)
    assert (taken.name, taken.state, other.name) == ("new", {"mean": 2.0}, "old")


def test_a_run_notes_what_it_began_with(source: Path, tmp_path: Path) -> None:
    config = starting(source, tmp_path, freeze=["inputs.text"])
    train(config)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    weights = (source / "run" / "bundle" / "model.safetensors").read_bytes()
    assert manifest["start_from"]["sha256"]["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert manifest["start_from"]["load"] == MODULES
    trained = read_bundle(tmp_path / "run" / "bundle")
    assert trained.config.start_from is None
    before, after = read_bundle(source / "run" / "bundle").network.public_tensors(), trained.network.public_tensors()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(found for name, found in same.items() if name.startswith("inputs.text"))
    assert not all(found for name, found in same.items() if name.startswith("fusion"))


def test_a_run_goes_on_from_the_same_start_alone(source: Path, tmp_path: Path) -> None:
    config = starting(source, tmp_path)
    kept = {"max_epochs": 1, "keep_optimizer_state": True}
    train(config.model_copy(update={"trainer": config.trainer.model_copy(update=kept)}))
    longer = config.model_copy(update={"trainer": config.trainer.model_copy(update={**kept, "max_epochs": 2})})
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    hashes = manifest["start_from"]["sha256"]
    changed = {
        **manifest,
        "start_from": {**manifest["start_from"], "sha256": {**hashes, "model.safetensors": "0" * 64}},
    }
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(UserError, match=r"start_from\.run: is not the run that .* began with: its files have changed"):
        train(longer)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert train(longer)["epochs"] == 2
    assert json.loads(path.read_text(encoding="utf-8"))["start_from"]["sha256"] == hashes


def test_an_output_that_writes_takes_the_tokenizer_along() -> None:
    choice, config = WordTokenizerConfig(), Seq2SeqLmOutputConfig(column="summary")
    first, second = (train_tokenizer(choice, [text]) for text in ("a warm day", "a cold day"))
    other = FittedTextFromStates(Seq2SeqLmState(name="old", config=config), first)
    own = FittedTextFromStates(Seq2SeqLmState(name="new", config=config), second)
    assert not own.same_state(other)
    taken = other.renamed("new", config)
    assert (taken.name, taken.tokenizer) == ("new", first)
    assert taken.same_state(other)
