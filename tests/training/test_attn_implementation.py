"""How attention is computed, from YAML: a run of each way, and what is refused before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models.layers.attention.dot_product import DotProduct
from eir_seq.training.bundle import read_bundle
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.run import train
from tests.training.test_seq2seq import TINY, experiment, table


def choice(way: str, **model: Any) -> dict[str, Any]:
    backbone = {"model_type": "m2m_100", "model_init_config": TINY, "attn_implementation": way, **model}
    tokenizer = {"type": "word"}
    source = {"type": "sequence", "column": "low", "max_length": 24, "tokenizer": tokenizer, "model": backbone}
    return {"source": source}


def tables(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    table(folder / "train.csv", 30)
    table(folder / "test.csv", 4, seed=1)


def test_runs_agree(tmp_path: Path) -> None:
    """Without dropout of attention, whose random numbers they draw in another order."""
    losses, options = [], {"model_init_config": {**TINY, "attention_dropout": 0.0}}
    for way in ("eager", "sdpa"):
        tables(folder := tmp_path / way)
        train(experiment(folder, inputs=choice(way, **options), trainer={"max_epochs": 1, "validate_every": None}))
        network: Any = read_bundle(folder / "run" / "bundle").network
        ways = {m.attn_implementation for m in network.modules() if isinstance(m, DotProduct)}
        assert ways == {way}
        losses += [m.value for m in read_metrics(folder / "run" / "metrics.csv") if m.metric == "loss"][-1:]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


FLASH = "inputs.source.model.attn_implementation: 'flash_attention_2' "


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"accelerator": "auto"}, "computes in half precision; set trainer.precision=bf16-mixed"),
        ({"accelerator": "cpu", "precision": "bf16-mixed"}, "needs a GPU; trainer.accelerator is 'cpu'"),
    ],
)
def test_what_a_config_shows(tmp_path: Path, trainer: dict[str, Any], message: str) -> None:
    tables(tmp_path)
    with pytest.raises(UserError, match=f"(?m)^{FLASH}{message}$"):
        experiment(tmp_path, inputs=choice("flash_attention_2"), trainer=trainer)
    with pytest.raises(UserError, match=r"model.attn_implementation: 'sdap' is not one of .*'sdpa'"):
        experiment(tmp_path, inputs=choice("sdap"))


def test_what_a_model_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tables(tmp_path)
    half = {"accelerator": "auto", "precision": "bf16-mixed"}
    with pytest.raises(UserError, match=f"^{FLASH}needs a GPU with CUDA, which is not there"):
        train(experiment(tmp_path, inputs=choice("flash_attention_2"), trainer=half))
    t5 = choice("flash_attention_2", model_type="t5", model_init_config={"d_model": 16, "d_kv": 8, "num_layers": 1})
    with pytest.raises(UserError, match=f"^{FLASH}cannot be: the attention of 't5' has biases"):
        train(experiment(tmp_path, inputs=t5, trainer=half))
