"""A run multiplies matrices as it began to, wherever it continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.errors import RunFailed, UserError
from eir_seq.models.layers import kernels as module
from eir_seq.models.layers.kernels import NEVER, RULE, Kernels, kernels, used
from eir_seq.training import manifest as manifest_module
from eir_seq.training import run as run_module
from eir_seq.training.manifest import RunManifest
from tests.training.fakes import experiment
from tests.training.table import table_experiment


@pytest.fixture(autouse=True)
def _unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EIR_SEQ_ONEDNN", raising=False)


def manifest_of(folder: Path) -> RunManifest:
    return RunManifest(folder, experiment(), torch.device("cpu"))


def test_the_choice_of_the_first_session_stays(tmp_path: Path) -> None:
    with used(RULE):
        manifest_of(tmp_path).write()
    with used(NEVER):
        later = manifest_of(tmp_path)
        assert later.products.least == RULE.least
        later.write()
    assert json.loads((tmp_path / "manifest.json").read_text())["products"]["least"]["output"] == [22, 22]


def test_on_another_machine_it_is_that_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with used(RULE):
        manifest_of(tmp_path).write()
    for place in (manifest_module, module):
        monkeypatch.setattr(place, "machine_name", lambda: "another one")
    with used(NEVER):
        assert manifest_of(tmp_path).products.least == NEVER.least


def test_the_environment_decides_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with used(RULE):
        manifest_of(tmp_path).write()
    monkeypatch.setenv("EIR_SEQ_ONEDNN", "0")
    module._chosen.cache_clear()
    assert manifest_of(tmp_path).products.least == NEVER.least
    module._chosen.cache_clear()


def test_damage_is_reported(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"products": {"least": 3}}))
    with pytest.raises(UserError, match=r"manifest.json: is damaged \(products\)"):
        manifest_of(tmp_path)


def test_a_run_computes_with_what_its_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Kernels({"output": (30, None)})
    seen: list[Kernels] = []

    def execute(_: Any) -> None:
        seen.append(kernels())
        raise RunFailed("far enough")

    monkeypatch.setattr(RunManifest, "_products_of", lambda *_: choice)
    monkeypatch.setattr(run_module._Run, "_execute", execute)
    with used(NEVER), pytest.raises(RunFailed):
        run_module.train(table_experiment(tmp_path))
    assert seen == [choice]
