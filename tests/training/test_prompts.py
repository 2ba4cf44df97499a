"""The guide's recipes for prompts: a bart folder opened as mvp, of which the prompts alone are trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.bundle import read_bundle
from eir_seq.training.run import train
from tests.training.test_seq2seq import TINY, WORDS

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "fine_tuning.md"


def recipes() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return [yaml.safe_load(block)["model"] for block in blocks if "use_prompt" in block]


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    tokenizer = train_tokenizer("word", " ".join(WORDS + [word.upper() for word in WORDS]).split())
    tokens = {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.sep_id, "vocab_size": tokenizer.vocab_size}
    start = {"decoder_start_token_id": tokenizer.sep_id, "bos_token_id": tokenizer.cls_id, "forced_eos_token_id": None}
    torch.manual_seed(1)
    create_model("bart", {**TINY, **tokens, **start}, task="seq2seq-lm").save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def run_of(folder: Path, bart: Path, model: dict[str, Any], output: dict[str, Any]) -> Any:
    words = [" ".join(WORDS[i % 6] for i in range(start, start + 4)) for start in range(24)]
    lines = [f"r{number},{text},{text.upper()},{'xy'[number % 2]}" for number, text in enumerate(words)]
    for name in ("train", "test"):
        (folder / f"{name}.csv").write_text("\n".join(["id,low,high,kind", *lines]) + "\n")
    small = {**model["model_init_config"], "prompt_length": 4, "prompt_mid_dim": 6}
    backbone = {**model, "model_type": str(bart), "model_init_config": small}
    return validate_experiment(
        {
            "name": "prompts",
            "data": {
                "train": str(folder / "train.csv"),
                "id": "id",
                "batch_size": 8,
                "cache_dir": str(folder / "cache"),
            },
            "inputs": {"source": {"type": "sequence", "column": "low", "max_length": 24, "model": backbone}},
            "outputs": {"found": output},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
            "run": {"dir": str(folder / "run")},
        }
    )


OUTPUTS = {
    "written": {"type": "seq2seq_lm", "column": "high", "max_length": 8, "generate_rows": 1},
    "read": {"type": "classification", "column": "kind"},
}


@pytest.mark.parametrize(("recipe", "output"), list(enumerate(OUTPUTS.values())), ids=OUTPUTS)
def test_the_recipe_trains_the_prompts_alone(recipe: int, output: dict[str, Any], bart: Path, tmp_path: Path) -> None:
    train(run_of(tmp_path, bart, recipes()[recipe], output))
    network: Any = read_bundle(tmp_path / "run" / "bundle").network
    learnt = network.encoder("source").backbone
    assert learnt.config.model_type == "mvp"
    before = dict(from_pretrained(bart, model_type="mvp", task=learnt.task).named_parameters())
    found = dict(learnt.named_parameters())
    assert len(found.keys() - before.keys()) == (15 if learnt.task == "seq2seq-lm" else 5)
    assert all("_prompts." in name for name in found.keys() - before.keys())
    assert before.keys() <= found.keys()
    assert all(torch.equal(x, found[name]) for name, x in before.items())


def test_a_type_that_there_is_not(bart: Path, tmp_path: Path) -> None:
    model = {**recipes()[0], "model_init_config": {"model_type": "mpv"}}
    with pytest.raises(UserError) as caught:
        run_of(tmp_path, bart, model, OUTPUTS["read"])
    place = "inputs.source.model.model_init_config.model_type"
    assert str(caught.value) == f"{place}: 'mpv' is not in the catalogue; did you mean 'mvp'?"
