"""Published weights for one side, frozen or tuned, from YAML: what a run changes, resumes and predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models import create_model
from eir_seq.models.model import Model
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.run import train
from tests.training.test_seq2seq import TINY, WORDS, Killed, experiment, read, table

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    folder = tmp_path_factory.mktemp("published")
    tokenizer = train_tokenizer("word", " ".join(WORDS + [word.upper() for word in WORDS]).split())
    tokens = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.sep_id, "vocab_size": tokenizer.vocab_size}
    start = {"decoder_start_token_id": tokenizer.sep_id, "bos_token_id": tokenizer.cls_id, "forced_eos_token_id": None}
    torch.manual_seed(11)
    model = create_model("bart", {**TINY, **tokens, **start, "init_std": 0.5}, task="seq2seq-lm")
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder, model


def source(published: Path, **model: Any) -> dict[str, Any]:
    backbone = {"model_type": str(published), "pretrained_model": True, **model}
    return {"source": {"type": "sequence", "column": "low", "max_length": 24, "model": backbone}}


def one_side(folder: Path, published: Path, **model: Any) -> Any:
    table(folder / "train.csv", 40)
    table(folder / "test.csv", 6, seed=1)
    trainer = {"max_epochs": 2, "validate_every": None, "checkpoint_every": 3}
    return experiment(folder, inputs=source(published, **model), trainer=trainer)


def backbone_of(folder: Path) -> Model:
    network: Any = read_bundle(folder / "run" / "bundle").network
    backbone: Model = network.encoder("source").backbone
    return backbone


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_with_one_side(tmp_path: Path, published: tuple[Path, Model], side: str, frozen: bool) -> None:
    folder, before = published
    train(one_side(tmp_path, folder, pretrained_parts=side, freeze_pretrained_model=frozen))
    after = dict(backbone_of(tmp_path).named_parameters())
    kept = {name for name, x in before.named_parameters() if torch.equal(x, after[name])}
    assert kept == (before.names_of_side(side) & after.keys() if frozen else set())
    loaded = before.names_of_side(side) & after.keys()
    for name in (
        name for name in loaded if "layers" in name and name.endswith("weight")
    ):  # a few steps away from the file, not from weights of another draw
        old, new = before.get_parameter(name).flatten(), after[name].flatten()
        assert torch.corrcoef(torch.stack((old, new)))[0, 1] > 0.8 or old.std() == 0, name
    rows = read(predict(tmp_path / "run", test=str(tmp_path / "test.csv"), output=tmp_path / "found.csv"))
    written = read(tmp_path / "run" / "predictions" / "test.csv")
    assert [row["capitals"] for row in rows] == [row["capitals"] for row in written]


def test_a_killed_run_with_a_fresh_side_ends_with_the_same_bytes(
    tmp_path: Path, published: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    choice = {"pretrained_parts": "encoder", "freeze_pretrained_model": True}
    for folder in (whole, parted):
        folder.mkdir()
    train(one_side(whole, published[0], **choice))
    step = Console.step

    def deadly(self: Console, now: int, *others: Any) -> None:
        if now == 5:
            raise Killed
        step(self, now, *others)

    monkeypatch.setattr(Console, "step", deadly)
    with pytest.raises(Killed):
        train(one_side(parted, published[0], **choice))
    monkeypatch.setattr(Console, "step", step)
    train(one_side(parted, published[0], **choice))
    for name in ("metrics.csv", "bundle/model.safetensors"):
        assert (parted / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name


def test_a_frozen_side_stays_in_evaluation(published: tuple[Path, Model]) -> None:
    model = create_model("bart", TINY, task="seq2seq-lm")
    encoder = SequenceEncoder(model, hidden_size=32, pool="avg", frozen=model.side("encoder"), num_types=0)
    assert [model.body.encoder.training, model.body.decoder.training] == [False, True]  # type: ignore[union-attr]
    assert {name for name, x in model.named_parameters() if not x.requires_grad} == model.names_of_side("encoder")
    assert not encoder.eval().backbone.training


def test_what_is_refused(tmp_path: Path, published: tuple[Path, Model]) -> None:
    table(tmp_path / "train.csv", 20)
    table(tmp_path / "test.csv", 6)
    fresh = source(tmp_path, model_type="bart", pretrained_model=False, pretrained_parts="encoder")
    with pytest.raises(UserError, match=r"model.pretrained_parts: has no effect without pretrained_model: true"):
        experiment(tmp_path, inputs=fresh)
    create_model("gpt2", {"n_embd": 8, "n_head": 1, "n_layer": 1, "vocab_size": 9}).save_pretrained(tmp_path / "gpt2")
    message = r"source.model.pretrained_parts: 'encoder' is no part of 'gpt2', which has one side only"
    with pytest.raises(UserError, match=message):
        experiment(tmp_path, inputs=source(tmp_path / "gpt2", pretrained_parts="encoder"))
    with pytest.raises(UserError, match=r"source.model.pretrained_parts: 'encodr' is not one of"):
        experiment(tmp_path, inputs=source(published[0], pretrained_parts="encodr"))


def test_options_of_a_checkpoint_that_nobody_could_look_at_before(
    tmp_path: Path, published: tuple[Path, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one on the Hub: what is no option is none of `from_pretrained` either."""
    monkeypatch.setattr("eir_seq.config.model_checks._architecture", lambda model: None)
    table(tmp_path / "train.csv", 20)
    table(tmp_path / "test.csv", 6)
    for name in ("attn_implementation", "local_files_only", "dropuot"):
        with pytest.raises(UserError, match=f"^inputs.source.model.model_init_config.{name}: not an option of 'bart'"):
            train(experiment(tmp_path, inputs=source(published[0], model_init_config={name: "sdpa"})))
