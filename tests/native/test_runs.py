"""A run continues with the kernels that it began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import UserError
from eir_seq.native import library
from eir_seq.training.kernels import TORCH
from eir_seq.training.run import train
from tests.training.table import table_experiment


class Killed(BaseException):
    """Stands for kill -9."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def undecided() -> Iterator[None]:
    yield
    library.forget()


def killed(config: ExperimentConfig) -> None:
    """Run up to the first checkpoint."""

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        train(config, saved=kill)


def short(folder: Path) -> ExperimentConfig:
    return table_experiment(folder, trainer={"checkpoint_every": 5})


def sessions(folder: Path) -> list[Any]:
    return [session.get("kernels") for session in json.loads((folder / "run/manifest.json").read_text())["sessions"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "run/bundle/model.safetensors")


@pytest.mark.usefixtures("kernels")
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = library.chosen()
    assert build is not None
    monkeypatch.delenv(library.SWITCH)
    for name in ("whole", "killed", "torch"):
        (tmp_path / name).mkdir()
    train(short(tmp_path / "whole"))
    killed(short(tmp_path / "killed"))
    train(short(tmp_path / "killed"))
    assert sessions(tmp_path / "killed") == [build.name] * 2
    whole, continued = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
    with library.without(), monkeypatch.context() as patch:
        patch.setenv(library.SWITCH, "0")
        killed(short(tmp_path / "torch"))
    train(short(tmp_path / "torch"))
    assert sessions(tmp_path / "torch") == [TORCH] * 2, "a build that is newer than the run is not used"
    assert any(not torch.equal(whole[name], found) for name, found in weights(tmp_path / "torch").items())


@pytest.mark.usefixtures("undecided")
def test_without_the_build_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(library.SWITCH, raising=False)
    library.forget()
    killed(short(tmp_path))
    assert sessions(tmp_path) == [TORCH]
    manifest = tmp_path / "run/manifest.json"
    content = json.loads(manifest.read_text())
    content["sessions"][-1]["kernels"] = "0123456789abcdef"
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run.dir: .* uses the native kernels 0123456789abcdef, which are not here"):
        train(short(tmp_path))
    monkeypatch.setenv(library.SWITCH, "0")
    capsys.readouterr()
    train(short(tmp_path))
    printed = capsys.readouterr()
    assert "EIR_SEQ_NATIVE=0: the run continues with other kernels" in printed.out + printed.err
    assert sessions(tmp_path)[-1] == TORCH
