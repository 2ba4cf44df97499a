"""The examples of docstrings are run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import eir_seq
from eir_seq.training.run import train
from tests.training.table import table_experiment

PACKAGE = Path(eir_seq.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
SHOWN = (
    "eir_seq.models.factory.create_model",
    "eir_seq.models.factory.from_pretrained",
    "eir_seq.models.catalogue.list_models",
    "eir_seq.models.generation.methods.GenerationMethods.generate",
    "eir_seq.tokenizers.training.train_tokenizer",
    "eir_seq.tokenizers.published.load_tokenizer",
    "eir_seq.registry.Registry",
    "eir_seq.rows.Rows",
    "eir_seq.modalities.base.ragged",
    "eir_seq.modalities.base.stacked",
    "eir_seq.config.metrics.Metric",
    "eir_seq.inference.predictor.Predictor",
)
"""What has an example."""


@pytest.fixture(scope="module")
def with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has left ``runs/moods``."""
    folder = tmp_path_factory.mktemp("examples")
    run = {"dir": str(folder / "runs" / "moods")}
    trainer = {"max_steps": 1, "accelerator": "cpu"}
    train(table_experiment(folder, trainer=trainer, run=run))
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(name)
    asks_for_a_run = '"runs/moods' in Path(str(module.__file__)).read_text(encoding="utf-8")
    monkeypatch.chdir(request.getfixturevalue("with_a_run") if asks_for_a_run else tmp_path)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", SHOWN)
def test_public_names_have_an_example(name: str) -> None:
    parts = name.split(".")
    depth = next(count for count in range(len(parts) - 1, 0, -1) if ".".join(parts[:count]) in MODULES)
    found = importlib.import_module(".".join(parts[:depth]))
    for part in parts[depth:]:
        found = getattr(found, part)
    assert ">>> " in str(found.__doc__)
