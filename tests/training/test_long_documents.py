"""What stands 4,000 tokens apart is brought together by a model that reads it all, and by no other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eir_seq.config.compose import compose_experiment
from eir_seq.training.run import train

GUIDE = Path(__file__).parents[2] / "docs/guide/long_documents.md"
MODEL = "inputs.document.model"
SHORT = ["inputs.document.max_length=512", f"{MODEL}.model_type=bert", f"~{MODEL}.model_init_config.attention_window"]


def commands() -> list[list[str]]:
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[3:] for line in re.findall(r"(?m)^python -m eir_seq experiment.*", text)]


def test_the_commands_of_the_guide_are_valid() -> None:
    configs = [compose_experiment(words).config for words in commands()]
    models = [config.inputs["document"].model.model_type for config in configs]
    assert len(set(models)) == len(models) == 8
    assert models[-1] == "bert"
    assert models[0] == "longformer"


@pytest.mark.slow
def test_a_long_reader_learns_the_task(tmp_path: Path) -> None:
    config = compose_experiment(["experiment=long_documents", f"run.dir={tmp_path / 'run'}"]).config
    assert train(config)["validation"]["same"]["accuracy"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("truncation", "seen"), [("head", "hidden"), ("tail", "found"), ("middle-out", None)])
def test_512_tokens_hold_no_answer(tmp_path: Path, truncation: str, seen: str | None) -> None:
    words = [*SHORT, f"inputs.document.truncation={truncation}", f"run.dir={tmp_path / 'run'}"]
    found = train(compose_experiment(["experiment=long_documents", *words]).config)["validation"]
    for name in ("hidden", "found", "same"):
        if name == seen:
            assert found[name]["accuracy"] > 0.95, "the model learns what it sees"
        else:  # of 120 rows by chance: a deviation of 0.046, and the best of three epochs
            assert abs(found[name]["accuracy"] - 0.5) < 0.15
