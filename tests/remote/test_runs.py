"""Run folders and bundles by URL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eir_seq.commands.predict import run as predict
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import RunFailed, UserError
from eir_seq.inference.predictor import Predictor
from eir_seq.remote import RemoteFolder
from eir_seq.training.console import Console
from eir_seq.training.folder import check_destination
from eir_seq.training.remote_run import INDEX, RemoteRun
from eir_seq.training.run import train
from tests.remote.conftest import Bucket, Site
from tests.training.table import table_experiment


class Killed(BaseException):
    """Ends a process in the middle of an upload."""


def experiment(folder: Path, url: str, **changes: Any) -> ExperimentConfig:
    trainer = {"max_epochs": 2, "checkpoint_every": 3, "accelerator": "cpu"}
    return table_experiment(folder, run={"dir": url}, trainer=trainer, **changes)


def killed_at(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    step = Console.step

    def killed(self: Console, number: int, *others: Any) -> None:
        if number == last:
            raise Killed
        step(self, number, *others)

    monkeypatch.setattr(Console, "step", killed)


def test_the_whole_life_of_a_run(bucket: Bucket, tmp_path: Path) -> None:
    trainer = {"max_epochs": 2, "checkpoint_every": 3, "accelerator": "cpu"}
    train(table_experiment(tmp_path, trainer=trainer))
    url = f"{bucket.url}/runs/one"
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 8)
        with pytest.raises(Killed):
            train(experiment(tmp_path, url))
    run = RemoteRun(url, str(tmp_path / "cache"))
    assert (run.folder / "checkpoints" / "step-00000006").is_dir()
    shutil.rmtree(tmp_path / "cache" / "runs")  # another machine
    result = train(experiment(tmp_path, url))
    assert result["run_dir"] == url
    assert "continuing from step-00000006" in (run.folder / "log.txt").read_text()
    for name in ("metrics.csv", "predictions/validation.csv", "predictions/test.csv", "bundle/model.safetensors"):
        assert bucket.system.cat(f"{url}/{name}") == (tmp_path / "run" / name).read_bytes(), name
    names = bucket.names("runs/one")
    assert not any("checkpoints/" in name or ".owner" in name for name in names)
    # Once more: it is finished, here and on another machine.
    assert train(experiment(tmp_path, url))["steps"] == result["steps"]
    shutil.rmtree(tmp_path / "cache" / "runs")
    assert train(experiment(tmp_path, url))["steps"] == result["steps"]
    predicted = Predictor.load(url).predict([{"text": "a warm and kind day"}])
    assert predicted == Predictor.load(tmp_path / "run").predict([{"text": "a warm and kind day"}])
    output = tmp_path / "predicted.csv"
    bucket.put("test.csv", (tmp_path / "test.csv").read_bytes())
    assert predict([f"run={url}", f"data.test={bucket.url}/test.csv", f"output={output}"]) == 0
    assert len(output.read_text().splitlines()) == 13
    content = "".join(path.read_text(errors="replace") for path in run.folder.rglob("*") if path.is_file())
    assert "test-key-never-shown" not in content


@pytest.mark.slow
def test_a_process_killed_while_it_uploads_leaves_the_upload_before(bucket: Bucket, tmp_path: Path) -> None:
    url = f"{bucket.url}/run"
    stored: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        store = RemoteFolder.store

        def dying(self: RemoteFolder, source: Path, name: str) -> None:
            if len(stored) >= 9 and "step-00000006" in name:
                raise Killed
            stored.append(name)
            store(self, source, name)

        patch.setattr(RemoteFolder, "store", dying)
        with pytest.raises(Killed):
            train(experiment(tmp_path, url))
    index = json.loads(bucket.system.cat(f"{url}/{INDEX}"))
    assert any("step-00000003" in name for name in index["files"])
    assert not any("step-00000006" in name for name in index["files"])
    for name, (size, _) in index["files"].items():
        assert (
            name in ("log.txt", "metrics.csv", "manifest.json") or bucket.system.info(f"{url}/{name}")["size"] == size
        )
    shutil.rmtree(tmp_path / "cache" / "runs")
    assert train(experiment(tmp_path, url))["status"] == "finished"


def test_files_that_a_killed_process_had_to_remove(bucket: Bucket, tmp_path: Path) -> None:
    url = f"{bucket.url}/run"
    run = RemoteRun(url, str(tmp_path / "one"))
    run.restore()
    for name in ("config.yaml", "old/a.bin", "old/b.bin", "old/c.bin"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text(name)
    run.push()
    shutil.rmtree(run.folder / "old")
    with pytest.MonkeyPatch.context() as patch:

        def dying(self: RemoteFolder, names: Sequence[str]) -> None:
            self.system.rm(f"{self.path}/{names[0]}")
            raise Killed

        patch.setattr(RemoteFolder, "remove", dying)
        with pytest.raises(Killed):
            run.push()
    assert {"run/old/b.bin", "run/old/c.bin"} < set(bucket.names("run"))
    RemoteRun(url, str(tmp_path / "two")).restore()
    assert set(bucket.names("run")) == {"run/config.yaml", f"run/{INDEX}"}


def test_two_processes_and_foreign_files(bucket: Bucket, tmp_path: Path) -> None:
    url = f"{bucket.url}/run"
    first, second = RemoteRun(url, str(tmp_path / "one")), RemoteRun(url, str(tmp_path / "two"))
    first.restore()
    second.restore()
    second.folder.mkdir(parents=True)
    (second.folder / "config.yaml").write_text("a: 1\n")
    second.push()
    with pytest.raises(RunFailed, match=rf"{url} is now written by process \d+ on \S+; this run has ended here"):
        first.push()
    bucket.put("other/notes.txt", b"mine")
    with pytest.raises(UserError, match=r"run.dir: \w\w://\S+/other holds files that are not a run's: it has no"):
        train(experiment(tmp_path, f"{bucket.url}/other"))
    bucket.put("broken/" + INDEX, b"[]")
    with pytest.raises(UserError, match=r"uploaded.json is not what this version writes"):
        train(experiment(tmp_path, f"{bucket.url}/broken"))
    bucket.put(
        "evil/" + INDEX, json.dumps({"format": 1, "token": "", "owner": "", "files": {"../x": [1, ""]}}).encode()
    )
    with pytest.raises(UserError, match=r"uploaded.json is not what this version writes"):
        train(experiment(tmp_path, f"{bucket.url}/evil"))


@pytest.mark.slow
def test_a_store_that_fails_does_not_stop_a_run(bucket: Bucket, tmp_path: Path) -> None:
    url, calls = f"{bucket.url}/run", []
    store = RemoteFolder.store
    with pytest.MonkeyPatch.context() as patch:

        def failing(self: RemoteFolder, source: Path, name: str) -> None:
            calls.append(name)
            if len(calls) < 30:
                from eir_seq.errors import Fault

                raise UserError(Fault("run.dir", f"{self.url}: the server cannot be reached"))
            store(self, source, name)

        patch.setattr(RemoteFolder, "store", failing)
        assert train(experiment(tmp_path, url))["status"] == "finished"
    assert "run/result.json" in bucket.names("run")


@pytest.mark.slow
def test_a_run_begins_with_the_bundle_of_a_url(bucket: Bucket, tmp_path: Path) -> None:
    url = f"{bucket.url}/run"
    train(experiment(tmp_path, url))
    start = {"run": url, "load": {"inputs.text": "inputs.text"}}
    config = table_experiment(tmp_path, start_from=start, trainer={"max_epochs": 1, "accelerator": "cpu"})
    train(config)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["start_from"]["run"].startswith(url)


def test_a_bundle_on_the_web(site: Site, tmp_path: Path) -> None:
    config = table_experiment(site.folder, trainer={"max_epochs": 1, "accelerator": "cpu"})
    train(config)
    local = Predictor.load(site.folder / "run").predict([{"text": "a warm day"}])
    for url in (f"{site.url}/run", f"{site.url}/run/bundle/"):
        assert Predictor.load(url).predict([{"text": "a warm day"}]) == local
    gets = [line for line in site.asked if line.endswith("model.safetensors")]
    assert len(gets) <= 4, "a bundle is fetched once for each URL"
    weights = site.folder / "run" / "bundle" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    manifest = site.folder / "run" / "bundle" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(UserError, match=rf"{site.url}/run/bundle: the bundle is damaged: model.safetensors"):
        Predictor.load(f"{site.url}/run")
    manifest.write_text(json.dumps({"files": {"../../x": {}}}))
    with pytest.raises(UserError, match=r"names a file outside of it: '../../x'"):
        Predictor.load(f"{site.url}/run")
    with pytest.raises(UserError, match=r"run: \S+/nothing is neither a run folder with a bundle nor a bundle"):
        Predictor.load(f"{site.url}/nothing")


def test_places_are_looked_at_before_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run.dir: ftp://host/run: ftp:// is not read"):
        check_destination(experiment(tmp_path, "ftp://host/run"))
    config = table_experiment(tmp_path, run={"dir": None, "root": "https://host/runs"})
    with pytest.raises(UserError, match=r"run.root: https://host/runs: name the run's own folder, by run.dir"):
        check_destination(config)
