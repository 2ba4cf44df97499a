"""Activation checkpointing from YAML: the same run, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.models.layers import checkpointing
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from tests.training.table import TINY, table_experiment
from tests.training.test_few_parameters import LORA

OFF_PLACE = "inputs.text.model.gradient_checkpointing"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer("word", ["bright warm kind day and a", "grey cold rude day and a"])
    tokenizer.save(folder)
    torch.manual_seed(0)
    create_model("bert", {**TINY, "vocab_size": tokenizer.vocab_size, "num_hidden_layers": 2}).save_pretrained(folder)
    return folder


def inputs(model: dict[str, object]) -> dict[str, object]:
    return {"text": {"type": "sequence", "column": "text", "max_length": 12, "model": model}}


def test_the_same_run(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    through = checkpointing.checkpointed

    def counted(*args: object) -> object:
        nonlocal calls
        calls += 1
        return through(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpointing, "checkpointed", counted)
    losses, counts = [], []
    for checkpoints in (False, True):
        model = {"model_type": str(base), "pretrained_model": True, "lora": LORA, "gradient_checkpointing": checkpoints}
        folder = tmp_path / str(checkpoints)
        folder.mkdir()
        train(table_experiment(folder, inputs=inputs(model), trainer={"max_steps": 4}))
        losses.append([(m.step, m.value) for m in read_metrics(folder / "run" / "metrics.csv") if m.metric == "loss"])
        counts.append(calls)
    assert losses[0] == losses[1]
    assert counts[0] == 0 < counts[1]


def test_what_is_refused(tmp_path: Path, base: Path) -> None:
    frozen = {"model_type": str(base), "pretrained_model": True, "freeze_pretrained_model": True}
    config = table_experiment(tmp_path, inputs=inputs({**frozen, "gradient_checkpointing": True})).model_dump()
    with pytest.raises(UserError, match=f"{OFF_PLACE}: has no effect with freeze_pretrained_model: true"):
        validate_experiment(config)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "attention_head_size": 4, "attn_layers": ["local"]}
    sizes |= {"axial_pos_shape": [2, 8], "axial_pos_embds_dim": [4, 4], "feed_forward_size": 8}
    reformer = {"model_type": "reformer", "model_init_config": sizes, "gradient_checkpointing": True}
    with pytest.raises(UserError, match=f"{OFF_PLACE}: layers of 'reformer' are undone in the backward pass"):
        train(table_experiment(tmp_path, inputs=inputs(reformer)))
