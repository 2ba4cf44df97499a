"""What a run lacks or finds damaged in its folder is made again, or named in one line.

Training is done once and copied; `tests.campaign` damages and kills whole runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.inference.predict import find_bundle
from eir_seq.inference.report import RunFiles
from eir_seq.training import manifest as manifest_module
from eir_seq.training import run as run_module
from eir_seq.training.checkpoints import CheckpointStore, read_json, verify_folder
from eir_seq.training.fit import _newest_fitting
from eir_seq.training.metrics_file import MetricsFile
from eir_seq.training.run import train
from eir_seq.training.run_state import RunState, recorded
from tests.training.table import table_experiment


def report(run: Path) -> None:
    """A report that shows of which result it is."""
    (run / "report").mkdir(exist_ok=True)
    (run / "report" / "index.html").write_bytes((run / "result.json").read_bytes())


class Trained:
    """A run of one epoch and its extension by a second one: what each leaves, and what training left before the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        self.parts: dict[int, Any] = {}
        self.evaluations: dict[int, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            self._record(patch)
            for epochs in (1, 2):
                train(self.config(epochs), finish=report)
                shutil.copytree(self.run, folder / f"finished{epochs}")

    def config(self, epochs: int) -> Any:
        return table_experiment(self.folder, trainer={"max_epochs": epochs, "keep_optimizer_state": True})

    def _record(self, patch: pytest.MonkeyPatch) -> None:
        assemble, run_class = run_module.assemble, run_module._Run
        fit, evaluate = run_class._fit, run_class._evaluate_best

        def record_parts(config: Any, *arguments: Any, **options: Any) -> Any:
            parts = self.parts[config.trainer.max_epochs] = assemble(config, *arguments, **options)
            parts.data.close = lambda: None  # type: ignore[method-assign]
            return parts

        def record_fit(run: Any, parts: Any) -> Any:
            loop = fit(run, parts)
            shutil.copytree(run.path, self.folder / f"trained{run.config.trainer.max_epochs}")
            return loop

        def record_evaluations(run: Any, parts: Any, loop: Any) -> Any:
            found = self.evaluations[run.config.trainer.max_epochs] = evaluate(run, parts, loop)
            return found

        patch.setattr(run_module, "assemble", record_parts)
        patch.setattr(run_class, "_fit", record_fit)
        patch.setattr(run_class, "_evaluate_best", record_evaluations)

    def replay(self, patch: pytest.MonkeyPatch) -> None:
        """Have runs start and end as they do, with what was trained and evaluated before."""

        def fit(run: Any, _: Any) -> Any:
            trained, store = self.folder / f"trained{run.config.trainer.max_epochs}", run.store
            _newest_fitting(store, {"metrics": MetricsFile(run.path / "metrics.csv")}, run.console.say)
            assert store.resumable(), "what a run goes on from is lost"
            assert all(verify_folder(path) is None for path in store.resumable())
            shutil.rmtree(store.folder)
            shutil.copytree(trained / "checkpoints", store.folder)
            shutil.copy(trained / "metrics.csv", run.path)
            return SimpleNamespace(state=RunState(**recorded(store.resumable()[0])))

        def evaluate(run: Any, parts: Any, loop: Any) -> Any:
            state = loop.state
            assert state.best_step is not None
            parts.network.load_tensors(run.store.read_best(state.best_step))
            found = self.evaluations[run.config.trainer.max_epochs]
            run._measure_test(found, state)
            return found

        patch.setattr(run_module, "assemble", lambda config, *_, **__: self.parts[config.trainer.max_epochs])
        patch.setattr(run_module._Run, "_fit", fit)
        patch.setattr(run_module._Run, "_evaluate_best", evaluate)
        patch.setattr(manifest_module, "git_state", lambda: None)
        patch.setattr(manifest_module, "versions", lambda: {})

    def start_from(self, name: str) -> None:
        shutil.rmtree(self.run)
        shutil.copytree(self.folder / name, self.run)

    def check(self, epochs: int) -> None:
        """The folder is as that of a run that nothing came in the way of."""
        expected = self.folder / f"finished{epochs}"
        for name in ("config.yaml", "result.json", "metrics.csv", "predictions/test.csv", "bundle/model.safetensors"):
            assert (self.run / name).read_bytes() == (expected / name).read_bytes(), name
        assert (self.run / "report" / "index.html").read_bytes() == (self.run / "result.json").read_bytes()
        assert read_json(self.run / "manifest.json")["status"] == "finished"
        assert verify_folder(self.run / "bundle") is None
        names = {path.relative_to(expected).as_posix() for path in expected.rglob("*")}
        assert {path.relative_to(self.run).as_posix() for path in self.run.rglob("*")} == names


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def test_what_a_finished_run_lacks_is_made_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.replay(monkeypatch)
    config = trained.config(1)
    weights = trained.run / "bundle" / "model.safetensors"
    trained.start_from("finished1")

    def cut_off() -> None:  # a file of its own: that of the best checkpoint is linked to it
        content = weights.read_bytes()[:100]
        weights.unlink()
        weights.write_bytes(content)

    for spoil in (
        lambda: shutil.rmtree(weights.parent),
        cut_off,
        lambda: (trained.run / "predictions" / "test.csv").unlink(),
    ):
        spoil()
        if not weights.parent.exists():
            with pytest.raises(UserError, match="is finished, but its bundle is gone"):
                find_bundle(trained.run)
        train(config, finish=report)
        assert "it is rebuilt" in capsys.readouterr().out
        trained.check(1)
    shutil.rmtree(trained.run / "checkpoints")
    shutil.rmtree(weights.parent)
    with pytest.raises(UserError, match=r"is finished, but its bundle is gone .*; no checkpoint is left"):
        train(config, finish=report)


def one_line(attempt: Callable[[], object]) -> list[str]:
    """What is told of a mistake of the user; nothing else may be raised."""
    try:
        attempt()
    except UserError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("name", ["manifest.json", "result.json", "config.yaml", "metrics.csv", "log.txt"])
@pytest.mark.parametrize("how", ["empty", "truncated", "cut", "binary", "another", "folder"])
@pytest.mark.parametrize("epochs", [1, 2], ids=["finished", "extended"])
def test_damaged_small_files(
    name: str, how: str, epochs: int, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.replay(monkeypatch)
    trained.start_from("finished1")
    path = trained.run / name
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    else:
        spoilt = {"empty": b"", "truncated": content[: len(content) // 2], "binary": bytes(range(256)) * 9}
        spoilt["cut"] = content[: content.rfind(b"\n", 0, len(content) // 2) + 1]  # a config that may still be YAML
        path.write_bytes(spoilt.get(how, b"[1, 2]\n"))
    said: list[str] = []
    for attempt in (lambda: train(trained.config(epochs), finish=report), lambda: RunFiles.read(trained.run)):
        said += one_line(attempt)
    assert all(name in line for line in said), said


def test_metrics_are_covered_by_the_checkpoint(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder / "trained2", tmp_path / "run")
    path, said = tmp_path / "run" / "metrics.csv", list[str]()
    whole, store = path.read_bytes(), CheckpointStore(tmp_path / "run" / "checkpoints", 3)
    shutil.copytree(trained.folder / "trained1" / "checkpoints", store.folder, dirs_exist_ok=True)
    files = {"metrics": MetricsFile(path)}
    newest, older = store.resumable()[:2]
    assert _newest_fitting(store, files, said.append) == newest
    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(UserError, match=r"metrics\.csv is not what was written .*, and no checkpoint fits it"):
        _newest_fitting(store, files, said.append)
    assert newest.exists(), "nothing is lost as long as nothing fits"
    path.write_bytes(whole[: recorded(older)["metrics_bytes"]])
    assert _newest_fitting(store, files, said.append) == older
    assert "falling back to the one before" in said[-1]
    assert not newest.exists()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"metrics\.csv is not a regular file"):
        _newest_fitting(store, files, said.append)
    assert json.loads((older / "state.json").read_text())["eir_seq"]["metrics_sha256"]
