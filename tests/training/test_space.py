"""What a run leaves on the disk: while it trains, at its end, and when it is to be extended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from eir_seq.errors import UserError
from eir_seq.training import checkpoints
from eir_seq.training.bundle import read_bundle
from eir_seq.training.checkpoints import STATE, TENSORS, CheckpointStore, remove_folder, write_folder, write_state
from eir_seq.training.run import train
from tests.training.table import table_experiment


def weight_files(run: Path) -> dict[int, list[str]]:
    """Files of tensors below a run folder by inode, so that hard links count once."""
    found: dict[int, list[str]] = {}
    for path in sorted(run.rglob("*.safetensors")):
        found.setdefault(path.stat().st_ino, []).append(path.relative_to(run).as_posix())
    return found


def test_a_finished_run_keeps_its_best_weights_once(tmp_path: Path) -> None:
    train(table_experiment(tmp_path))
    run = tmp_path / "run"
    assert list(weight_files(run).values()) == [["bundle/model.safetensors"]]
    assert list((run / "checkpoints").iterdir()) == []
    read_bundle(run / "bundle")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    with pytest.raises(UserError) as refused:
        train(table_experiment(tmp_path, trainer={"max_epochs": 3}))
    (fault,) = refused.value.faults
    assert fault.place == "trainer.max_epochs"
    assert "kept no optimizer state" in fault.message
    assert "trainer.keep_optimizer_state=true" in fault.message
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert {path: x for path, x in after.items() if path.name != ".owner"} == {
        path: x for path, x in before.items() if path.name != ".owner"
    }


@pytest.mark.parametrize("links", [True, False])
def test_optimizer_state_is_kept_on_demand(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    trainer = {"keep_optimizer_state": True, "checkpoint_every": 2}
    result = train(table_experiment(tmp_path, trainer=trainer))
    best = f"checkpoints/best-{result['best_step']:08d}/model.safetensors"
    files = list(weight_files(tmp_path / "run").values())
    shared = [["bundle/model.safetensors", best]] if links else [["bundle/model.safetensors"], [best]]
    assert sorted(files) == sorted([*shared, ["checkpoints/step-00000012/tensors.safetensors"]])
    bundle, kept = (load_file(tmp_path / "run" / name) for name in ("bundle/model.safetensors", best))
    assert bundle.keys() == kept.keys()
    assert all(torch.equal(bundle[name], kept[name]) for name in kept)
    report = tmp_path / "run" / "report" / "index.html"
    report.write_text("of the former end")
    longer = train(table_experiment(tmp_path, trainer={**trainer, "max_epochs": 3}))
    assert longer["steps"] == 18
    assert not report.exists()
    read_bundle(tmp_path / "run" / "bundle")


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("keep", [True, False])
def test_killed_while_checkpoints_are_removed(keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start of the finished run removes the others."""
    config = table_experiment(tmp_path, trainer={"keep_optimizer_state": keep, "checkpoint_every": 2})
    removed: list[Path] = []

    def remove_one(folder: Path) -> None:
        if (tmp_path / "run" / "result.json").exists():
            if removed:
                raise Killed
            removed.append(folder)
        remove_folder(folder)

    monkeypatch.setattr(checkpoints, "remove_folder", remove_one)
    with pytest.raises(Killed):
        train(config)
    monkeypatch.setattr(checkpoints, "remove_folder", remove_folder)
    result = train(config)
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == ({"step-00000012", f"best-{result['best_step']:08d}"} if keep else set())
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "finished"
    (tmp_path / "run" / "checkpoints" / "best-00000099").mkdir()
    assert train(config) == result
    assert (tmp_path / "run" / "checkpoints" / "best-00000099").exists(), "a run that was tidied up is left alone"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train(table_experiment(tmp_path))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run" / "bundle").iterdir()}
    assert (modes["model.safetensors"], modes["config.yaml"]) == (0o640, 0o640)


def test_best_weights_of_earlier_versions_are_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 1)
    weights = {"a": torch.ones(2)}
    write_folder(store.best(3), lambda folder: write_state(folder, weights))
    assert {TENSORS, STATE} <= set(os.listdir(store.best(3)))
    assert torch.equal(store.read_best(3)["a"], weights["a"])
