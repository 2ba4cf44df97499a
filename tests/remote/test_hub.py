"""Datasets of the Hub, and files in its repositories."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfFileSystem

from eir_seq.commands import main
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from tests.data.stream.tables import epoch, ids, module, rows, streamed
from tests.remote.hub import Hub
from tests.remote.test_files import csv_of, refusal, whole

NAME = "datasets/owner/name"
URL = f"hf://{NAME}/a.csv"


def test_what_is_refused(hub: Hub, tmp_path: Path) -> None:
    url = hub.put(NAME, "a.csv", csv_of(40, tmp_path / "a.csv"))
    assert url == URL
    missing = "there is no such repository; it is hf://datasets/OWNER/NAME/..., and a private one needs HF_TOKEN"
    for given, message in {
        "hf://datasets/owner/name/b.csv": "there is no such file or folder",
        "hf://datasets/owner/name@v9/a.csv": "the repository has no such revision",
        "hf://datasets/owner/nothing/a.csv": missing,
        "hf://owner/name/a.csv": missing,
        "hf://datasets/owner": missing,
    }.items():
        assert refusal(given, tmp_path) == f"data.train: {given}: {message}"
    hub.repositories[NAME].gated = True
    assert refusal(url, tmp_path).endswith("access denied; check the credentials and their permissions")


def test_a_private_repository(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = hub.put(NAME, "a.csv", csv_of(40, tmp_path / "a.csv"))
    hub.repositories[NAME].token = "hf_never_shown"
    assert "HF_TOKEN" in refusal(url, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_never_shown")
    splits = load_splits(whole(url, tmp_path))
    assert len(splits.train or ()) == 40
    assert "never_shown" not in repr(splits.describe())


def test_a_file_of_a_revision(hub: Hub, tmp_path: Path) -> None:
    hub.put(NAME, "a.csv", csv_of(40, tmp_path / "a.csv"))
    commit = hub.repositories[NAME].commit
    assert len(load_splits(whole(f"hf://{NAME}@{commit}/a.csv", tmp_path)).train or ()) == 40


def test_a_hub_that_fails_or_cannot_be_reached(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.status = 500
    assert refusal(URL, tmp_path).endswith(f"{URL}: the server answers with an error (500)")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    HfFileSystem.clear_instance_cache()
    assert refusal(URL, tmp_path).endswith(f"{URL}: the server cannot be reached")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# ------------------------------------------------------------------------------------------------------- datasets


def put_dataset(hub: Hub, folder: Path, count: int = 120, shards: int = 3) -> None:
    table = pa.Table.from_pylist(rows(count + 30))
    for split, part in (("train", table.slice(0, count)), ("test", table.slice(count))):
        size = -(-part.num_rows // shards)
        for shard in range(shards):
            path = folder / "shard.parquet"
            pq.write_table(part.slice(shard * size, size), path)
            hub.put(NAME, f"data/{split}-{shard:05}-of-{shards:05}.parquet", path.read_bytes())


def dataset(folder: Path, **data: Any) -> Any:
    return whole("train", folder, **{"source": "hub", "name": "owner/name", "test": "test", **data})


def test_a_dataset(hub: Hub, tmp_path: Path) -> None:
    put_dataset(hub, tmp_path)
    splits = load_splits(dataset(tmp_path))
    assert splits.train is not None
    assert splits.train["id"] == [f"r{row}" for row in range(120)]
    assert len(splits.test or ()) == 30


def test_a_dataset_is_streamed(hub: Hub, tmp_path: Path) -> None:
    put_dataset(hub, tmp_path)
    trainer = {"max_epochs": None, "max_steps": 16, "validate_every": 8}
    data = module(streamed("train", tmp_path, source="hub", name="owner/name", trainer=trainer))
    found = [row for batch in ids(epoch(data)) for row in batch]
    data.close()
    assert set(found) == {f"r{row}" for row in range(120)}


def test_datasets_that_are_not_there(hub: Hub, tmp_path: Path) -> None:
    put_dataset(hub, tmp_path)
    for data, message in (
        ({"name": "owner/nothing"}, "no data set 'owner/nothing' on the Hub or as a folder"),
        ({"test": "tset"}, "owner/name has no split 'tset'; did you mean 'test'? (it has train, test)"),
        ({"revision": "v9"}, "owner/name has no revision 'v9'"),
    ):
        with pytest.raises(UserError) as raised:
            load_splits(dataset(tmp_path, **data))
        (fault,) = {fault.message for fault in raised.value.faults}
        assert fault.startswith(message)


def test_a_url_that_names_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", "hf://"]) == 2
    assert capsys.readouterr().err.endswith("names no host\n")
