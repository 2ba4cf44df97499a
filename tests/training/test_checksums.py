"""What a finished run left is checked when the run is met again: made again, or named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.inference.compare import compare
from eir_seq.training.bundle import left_models
from eir_seq.training.checksums import CHECKSUMS, wrong_files
from eir_seq.training.folder import RunFolder
from eir_seq.training.run import train
from tests.training.table import table_experiment

KEPT = {"max_epochs": 2, "keep_optimizer_state": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checksums")
    train(table_experiment(folder, trainer=KEPT))
    return folder


@pytest.fixture
def again(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a config of `finished` with another run.dir goes on with."""
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def change(path: Path) -> bytes:
    """Another digit in the place of the last one."""
    content = bytearray(path.read_bytes())
    place = max(i for i, byte in enumerate(content) if chr(byte).isdigit())
    content[place] ^= 1
    path.write_bytes(content)
    return bytes(content)


def go_on(finished: Path, run: Path, **changes: Any) -> Any:
    return train(table_experiment(finished, trainer=KEPT, run={"dir": str(run)}, **changes))


def test_the_standard_tool_checks_them(finished: Path) -> None:
    assert not list(wrong_files(finished / "run"))
    checked = subprocess.run(["sha256sum", "--strict", "-c", CHECKSUMS], cwd=finished / "run", capture_output=True)
    assert checked.returncode == 0, checked.stderr
    names = {line.partition("  ")[2] for line in (finished / "run" / CHECKSUMS).read_text().splitlines()}
    assert {"config.yaml", "manifest.json", "result.json", "metrics.csv", "predictions/test.csv"} <= names


@pytest.mark.parametrize("name", ["predictions/test.csv", "report/data.json", "bundle/manifest.json"])
def test_what_is_wrong_is_made_again(
    name: str, finished: Path, again: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = change(again / name)
    go_on(finished, again)
    assert "it is rebuilt" in capsys.readouterr().out
    assert (again / name).read_bytes() != written
    assert not list(wrong_files(again))
    for same in ("predictions/test.csv", "metrics.csv", "bundle/model.safetensors"):
        assert (again / same).read_bytes() == (finished / "run" / same).read_bytes()


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_what_cannot_be_made_again_is_named(name: str, finished: Path, again: Path) -> None:
    with (again / name).open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=rf"{name}: is not what was written \(its sha256 differs\); restore it"):
        go_on(finished, again)
    with pytest.raises(UserError, match=rf"{name}: is not what was written"):
        compare(again.parent)
    (again / CHECKSUMS).unlink()
    assert go_on(finished, again)["status"] == "finished"
    assert not list(wrong_files(again))
    assert (again / CHECKSUMS).is_file()


def test_a_result_that_was_changed_is_not_compared(finished: Path, again: Path) -> None:
    change(again / "result.json")
    assert compare(again.parent).problems == (("run", "result.json is not what was written (its sha256 differs)"),)
    del finished


def test_damaged_weights_of_the_best_step_are_told_before_anything_is_removed(finished: Path, again: Path) -> None:
    (best,) = again.glob("checkpoints/best-*/model.safetensors")
    change(best)
    shutil.rmtree(again / "bundle")
    with pytest.raises(UserError, match=r"its bundle is gone .*best-\d+ is damaged \(model.safetensors is not what"):
        go_on(finished, again)
    assert json.loads((again / "result.json").read_text())["status"] == "finished"


def test_files_of_a_run_are_regular_and_inside(finished: Path, again: Path) -> None:
    config = table_experiment(finished, trainer=KEPT, run={"dir": str(again)})
    kept = again.parent / "kept"
    kept.write_text("kept")
    for name in ("log.txt", "metrics.csv"):
        (again / name).unlink()
        (again / name).symlink_to(kept)
    with pytest.raises(UserError) as refused, RunFolder(config):
        pass
    assert [fault.message.partition(" is ")[0] for fault in refused.value.faults] == [
        str(again / "log.txt"), str(again / "metrics.csv"),
    ]  # fmt: skip
    (again / ".owner").unlink()
    (again / ".owner").symlink_to(kept)
    with (
        pytest.raises(UserError, match=r"\.owner cannot be written: Too many levels of symbolic links"),
        RunFolder(config),
    ):
        pass
    (again / ".owner").unlink()
    os.mkfifo(again / ".owner")
    with pytest.raises(UserError, match=r"\.owner is not a regular file"), RunFolder(config):
        pass
    assert kept.read_text() == "kept"


def test_folders_in_the_places_of_files_are_named(finished: Path, again: Path) -> None:
    (again / CHECKSUMS).unlink()
    (again / CHECKSUMS).mkdir()
    with pytest.raises(UserError, match=r"checksums\.sha256 is a folder, not a file; remove it"):
        go_on(finished, again)


def test_the_models_that_are_left(tmp_path: Path) -> None:
    lora = {"text": {"column": "text", "model": {"model_type": "./x", "pretrained_model": True, "lora": {"rank": 2}}}}
    config = table_experiment(tmp_path, inputs=lora)
    assert left_models(tmp_path, config) == [tmp_path / "bundle", tmp_path / "adapters" / "text"]
    masked = config.model_dump() | {"outputs": {"words": {"type": "masked_lm"}}}
    masked["inputs"]["text"]["model"]["lora"] = None
    config = type(config).model_validate(masked)
    assert left_models(tmp_path, config) == [tmp_path / "bundle", tmp_path / "pretrained" / "text"]
