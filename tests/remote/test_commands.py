"""Commands about runs that are in a store."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from eir_seq.commands import main
from eir_seq.errors import UserError
from eir_seq.inference.predictor import Predictor
from eir_seq.training.run import train
from tests.commands.test_runs import write_run
from tests.remote.conftest import Bucket
from tests.remote.hub import Hub
from tests.training.conversations import experiment, questions, write_json_lines
from tests.training.table import table_experiment

ONE_EPOCH: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and ``run``."""
    folder = tmp_path_factory.mktemp("moods")
    train(table_experiment(folder, trainer=ONE_EPOCH))
    return folder


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``run``, of a model that answers questions."""
    folder = tmp_path_factory.mktemp("talker")
    write_json_lines(folder / "train.jsonl", questions(40))
    train(experiment(folder, trainer=ONE_EPOCH))
    return folder


def upload(bucket: Bucket, folder: Path, name: str) -> str:
    """Put a folder into a bucket, and give its URL."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())
    return f"{bucket.url}/{name}"


def command(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What a command prints, on standard output or, where it fails, as an error."""
    capsys.readouterr()
    assert main(words) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def test_embed_and_predict(
    bucket: Bucket, moods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    url = upload(bucket, moods / "run", "runs/moods")
    table = bucket.put("test.csv", (moods / "test.csv").read_bytes())
    for run in (url, f"{url}/bundle"):
        command(capsys, "embed", f"run={run}", f"data.test={table}", "output=remote.npy", "accelerator=cpu")
        command(capsys, "predict", f"run={run}", f"data.test={table}", "output=remote.csv", "accelerator=cpu")
    here = (f"run={moods / 'run'}", f"data.test={moods / 'test.csv'}", "accelerator=cpu")
    command(capsys, "embed", *here, "output=local.npy")
    command(capsys, "predict", *here, "output=local.csv")
    assert np.array_equal(np.load("remote.npy"), np.load("local.npy"))
    assert Path("remote.csv").read_bytes() == Path("local.csv").read_bytes()
    said = command(capsys, "embed", f"run={url}", "accelerator=cpu")
    written = Path(said.rpartition("vectors: ")[2].strip())
    assert written.is_file(), "with neither a file nor an output"
    assert "cache" not in str(written), "it goes into the working directory"
    for word in ("embed", "predict"):
        said = command(capsys, word, f"run={url}", f"output={bucket.url}/a.npy", code=2)
        assert said == f"output: {bucket.url}/a.npy: a local file is written; name one (command line)\n"
        said = command(capsys, word, f"run={bucket.url}/nothing", f"data.test={table}", code=2)
        assert said == f"run: {bucket.url}/nothing is neither a run folder with a bundle nor a bundle\n"


def test_chat(
    bucket: Bucket, talker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = upload(bucket, talker / "run", "runs/talker")
    answers = []
    for run in (f"run={talker / 'run'}", f"run={url}", f"bundle={url}/bundle"):
        monkeypatch.setattr("sys.stdin", io.StringIO("say red\nsay blue\n"))
        answers.append(command(capsys, "chat", run, "accelerator=cpu"))
    assert len(answers[0].splitlines()) >= 2
    assert answers[1:] == answers[:1] * 2


def test_chat_names_the_url_of_a_run_that_does_not_talk(
    bucket: Bucket, moods: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = upload(bucket, moods / "run", "runs/moods")
    said = command(capsys, "chat", f"run={url}", code=2)
    assert len(said.splitlines()) == 1
    assert "/cache/" not in said


def test_runs_below_a_url(bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"seed-{seed}", seed=seed)
    write_run(tmp_path / "running", "running", seed=3)
    url = upload(bucket, tmp_path, "runs")
    listed = command(capsys, "runs", "list", url)
    assert listed.splitlines()[-1].startswith(f"{url}: 3 runs (")
    assert "1 running" in listed, "on this machine or another"
    rows = list(csv.DictReader(io.StringIO(command(capsys, "runs", "list", url, "--csv"))))
    local = list(csv.DictReader(io.StringIO(command(capsys, "runs", "list", str(tmp_path), "--csv"))))
    assert [(row["run"], row["value"], row["bytes"]) for row in rows] == [
        (row["run"], row["value"], row["bytes"]) for row in local
    ]
    shown = command(capsys, "runs", "show", f"{url}/seed-1")
    assert f"{url}/seed-1" in shown
    assert f"predict run={url}/seed-1 " in shown
    assert "eir_seq-" not in shown, "no path of a copy"
    assert "bundle" in shown
    for _ in range(2):
        said = command(capsys, "runs", "compare", url)
        assert f"written: {url}/compare.csv, {url}/compare.md, {url}/compare.html" in said
    page = bucket.system.cat(f"{url}/compare.html").decode()
    assert f"from the runs in {url}" in page
    assert command(capsys, "runs", "compare", str(tmp_path), "--csv") == command(
        capsys, "runs", "compare", url, "--csv"
    )
    for words, message in {
        ("clean", url): f"{url}: only runs in local folders are cleaned",
        ("list", f"{url}/nothing"): f"{url}/nothing: no such folder",
        ("show", f"{url}/nothing"): f"{url}/nothing: no such folder",
        ("show", url): f"{url}: is not a run folder: it has no config.yaml and manifest.json (runs list shows those "
        "below it)",
        ("compare", "hf://datasets/owner/name"): "hf://datasets/owner/name: hf:// is read only; name a local folder, "
        "or one by s3:// or gs://",
    }.items():
        assert command(capsys, "runs", *words, code=2) == f"{message}\n"


def test_a_search_starts_from_a_run_at_a_url(bucket: Bucket, tmp_path: Path) -> None:
    from eir_seq.commands.search.starts import _settings

    write_run(tmp_path / "one", optimizer={"lr": 0.25})
    url = upload(bucket, tmp_path, "runs")
    (found,) = _settings(f"{url}/one", "sweep.start[0]")
    assert found["optimizer.lr"] == 0.25
    with pytest.raises(UserError, match=rf"sweep.start\[0\]: {url}/nothing: no such folder"):
        list(_settings(f"{url}/nothing", "sweep.start[0]"))


def test_a_bundle_on_the_hub(
    hub: Hub, moods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = moods / "run" / "bundle"
    for path in bundle.rglob("*"):
        if path.is_file():
            hub.put("owner/moods", str(path.relative_to(bundle)), path.read_bytes())
    row = [{"text": "a warm and kind day"}]
    assert Predictor.load("hf://owner/moods").predict(row) == Predictor.load(moods / "run").predict(row)
    config = tmp_path / "conf" / "experiment" / "mine.yaml"
    config.parent.mkdir(parents=True)
    text = yaml.safe_dump(table_experiment(moods, run={"dir": None}).model_dump(mode="json", exclude_unset=True))
    config.write_text(f"# @package _global_\n# Moods\n{text}")
    said = command(capsys, "check", "experiment=mine", "run.dir=hf://owner/moods", code=2)
    assert said.startswith(
        "run.dir: hf://owner/moods: hf:// is read only; name a local folder, or one by s3:// or gs://"
    )
    assert len(said.splitlines()) == 1
    shutil.rmtree(tmp_path / "conf")
