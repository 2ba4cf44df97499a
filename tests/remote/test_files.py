"""Tables and files by URL: read, cached, and refused in one line."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from eir_seq import remote
from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.source import load_splits
from eir_seq.errors import UserError
from eir_seq.inference.run_list import runs_at
from eir_seq.remote import urls
from eir_seq.training.redaction import redact
from tests.data.stream.tables import epoch, ids, module, rows, streamed
from tests.remote.conftest import Bucket, Folder, Site, hurry, skip_without


def csv_of(count: int, path: Path) -> bytes:
    pa_csv.write_csv(pa.Table.from_pylist(rows(count)), path)
    return path.read_bytes()


def whole(train: str, folder: Path, **data: Any) -> ExperimentConfig:
    """An experiment that keeps its rows."""
    config = streamed(train, folder, **data).model_dump(mode="json")
    for key in ("streaming", "shuffle_buffer", "fit_rows"):
        config["data"].pop(key)
    return ExperimentConfig.model_validate(config)


def test_a_table_in_a_store(folder: Folder, tmp_path: Path) -> None:
    url = folder.put("tables/reviews.csv", csv_of(40, tmp_path / "reviews.csv"))
    splits = load_splits(whole(url, tmp_path))
    assert splits.train is not None
    assert splits.train["id"] == [f"r{row}" for row in range(40)]
    assert splits.describe()["files"][0]["path"] == url
    folder.put("tables/reviews.csv", csv_of(41, tmp_path / "reviews.csv"))
    again = load_splits(whole(url, tmp_path))
    assert again.train is not None
    assert again.train.num_rows == 41, "a file that was replaced is fetched again"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_shards_in_a_store_are_streamed(folder: Folder, tmp_path: Path, workers: int) -> None:
    table = pa.Table.from_pylist(rows(120))
    (tmp_path / "local").mkdir()
    for shard in range(3):
        path = tmp_path / "local" / f"part-{shard}.parquet"
        pq.write_table(table.slice(shard * 40, 40), path, row_group_size=10)
        folder.put(f"shards/part-{shard}.parquet", path.read_bytes())
    folder.put("shards/_SUCCESS", b"")
    local = epoch(module(streamed(tmp_path / "local", tmp_path)))
    for url in (f"{folder.url}/shards", f"{folder.url}/shards/*.parquet"):
        data = module(streamed(url, tmp_path, num_workers=workers))
        assert ids(epoch(data)) == ids(local)
        data.close()


def test_a_table_on_the_web_is_fetched_once(site: Site, tmp_path: Path) -> None:
    csv_of(40, site.folder / "reviews.csv")
    config = whole(f"{site.url}/reviews.csv", tmp_path)
    assert len(load_splits(config).train or ()) == 40
    fetched = [line for line in site.asked if line.startswith("GET")]
    load_splits(config)
    assert [line for line in site.asked if line.startswith("GET")] == fetched
    assert len(load_splits(whole(f"{site.url}/reviews.csv", tmp_path, validation=0.5)).train or ()) == 20


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_a_file_on_the_web_is_streamed(site: Site, tmp_path: Path, suffix: str) -> None:
    table = pa.Table.from_pylist(rows(60))
    if suffix == "parquet":
        pq.write_table(table, site.folder / "a.parquet", row_group_size=10)
    elif suffix == "csv":
        pa_csv.write_csv(table, site.folder / "a.csv")
    else:
        table.to_pandas().to_json(site.folder / "a.jsonl", orient="records", lines=True)
    if suffix == "parquet":
        with pytest.raises(UserError, match="the server gives files as a whole only"):
            module(streamed(f"{site.url}/a.parquet", tmp_path))
    site.ranges = True
    data = module(streamed(f"{site.url}/a.{suffix}", tmp_path))
    assert sorted(row for batch in ids(epoch(data)) for row in batch) == sorted(f"r{row}" for row in range(60))


def test_faults_name_the_url(site: Site, tmp_path: Path) -> None:
    (site.folder / "a.csv").write_text("id,text\n1,a\n")
    with pytest.raises(UserError) as raised:
        load_splits(whole(f"{site.url}/a.csv", tmp_path))
    assert str(raised.value).startswith(f"outputs.mood.column: no column 'mood' in {site.url}/a.csv")
    (site.folder / "b.csv").write_text("id,text,mood\n1,a,x\n2,,x\n3,c,y\n")
    with pytest.raises(UserError, match=rf"{site.url}/b.csv line 3: 'text' is empty"):
        load_splits(whole(f"{site.url}/b.csv", tmp_path))


def pictures(folder: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red" if name == "a.png" else "blue").save(folder / name)


def picture_experiment(train: str, folder: Path, **data: Any) -> ExperimentConfig:
    inputs = {"picture": {"type": "image", "column": "file", "size": 8, "model": {"model_type": "cnn"}}}
    return whole(train, folder, inputs=inputs, **data)


@pytest.mark.parametrize("named", [True, False], ids=["file_dir", "next to the table"])
def test_files_that_cells_name(site: Site, tmp_path: Path, named: bool) -> None:
    (site.folder / "pictures").mkdir()
    folder = site.folder / "pictures" if named else site.folder
    pictures(folder)
    cells = [f"r{row},{'ab'[row % 2]}.png,{('x', 'y')[row % 2]}" for row in range(8)]
    table = tmp_path / "table.csv" if named else site.folder / "table.csv"
    table.write_text("id,file,mood\n" + "\n".join(cells) + "\n")
    where = {"file_dir": f"{site.url}/pictures"} if named else {}
    train = str(table) if named else f"{site.url}/table.csv"
    splits = load_splits(picture_experiment(train, tmp_path, **where))
    assert len(splits.train or ()) == 8
    gets = [line for line in site.asked if line.startswith("GET") and line.endswith(".png")]
    assert len(gets) == 2, "each file once"
    cells[3] = "r3,missing.png,x"
    cells[4] = "r4,../table.csv,x"
    table.write_text("id,file,mood\n" + "\n".join(cells) + "\n")
    base = f"{site.url}/pictures" if named else site.url
    with pytest.raises(UserError) as raised:
        load_splits(picture_experiment(train, tmp_path, **where))
    text = str(raised.value)
    assert f"names {base}/missing.png, which is no file" in text
    assert "outside of the folder" in text


def test_files_of_a_store_that_cells_name(folder: Folder, tmp_path: Path) -> None:
    pictures(tmp_path)
    for name in ("a.png", "b.png"):
        folder.put(f"pictures/{name}", (tmp_path / name).read_bytes())
    cells = [f"r{row},{'ab'[row % 2]}.png,{('x', 'y')[row % 2]}" for row in range(8)]
    (tmp_path / "table.csv").write_text("id,file,mood\n" + "\n".join(cells) + "\n")
    config = picture_experiment(str(tmp_path / "table.csv"), tmp_path, file_dir=f"{folder.url}/pictures")
    assert len(load_splits(config).train or ()) == 8


# -------------------------------------------------------------------------------------------------------- refused


def refusal(url: str, folder: Path, **data: Any) -> str:
    with pytest.raises(UserError) as raised:
        load_splits(whole(url, folder, **data))
    assert len(raised.value.faults) == 1
    return str(raised.value)


def test_what_a_bucket_refuses(bucket: Bucket, tmp_path: Path) -> None:
    assert refusal(f"{bucket.url}/a.csv", tmp_path).endswith(f"{bucket.url}/a.csv: there is no such file or folder")
    other = f"{bucket.scheme}://no-bucket-of-that-name"
    assert "no such" in refusal(f"{other}/a.csv", tmp_path)
    with pytest.raises(UserError, match=rf"{other}/shards: (no such bucket|there is no)"):
        load_splits(streamed(f"{other}/shards", tmp_path))


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_a_bucket_without_credentials(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    type(bucket.system).clear_instance_cache()
    assert "no credentials; set AWS_ACCESS_KEY_ID" in refusal(f"{bucket.url}/a.csv", tmp_path)


def test_a_store_that_cannot_be_reached(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.leave(monkeypatch)
    caplog.clear()
    assert refusal(f"{bucket.url}/a.csv", tmp_path).endswith("the server cannot be reached")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "access denied; check the credentials and their permissions"),
        (403, "access denied; check the credentials and their permissions"),
        (503, "the server answers with an error (503)"),
    ],
)
def test_what_the_store_of_google_answers(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, message: str
) -> None:
    skip_without("gs")
    for name, value in {"STORAGE_EMULATOR_HOST": site.url, "NO_GCE_CHECK": "true"}.items():
        monkeypatch.setenv(name, value)
    hurry(monkeypatch)
    site.status = status
    assert refusal("gs://bucket/a.csv", tmp_path) == f"data.train: gs://bucket/a.csv: {message}"


def test_what_a_web_server_refuses(site: Site, tmp_path: Path) -> None:
    csv_of(40, site.folder / "a.csv")
    assert refusal(f"{site.url}/b.csv", tmp_path) == f"data.train: {site.url}/b.csv: there is no such file or folder"
    site.password = "me:never-shown"
    assert "access denied" in refusal(f"{site.url}/a.csv", tmp_path)
    wrong = refusal(site.with_login("me:also-never-shown") + "/a.csv", tmp_path)
    assert "access denied" in wrong
    assert "never-shown" not in wrong
    config = whole(site.with_login("me:never-shown") + "/a.csv", tmp_path)
    splits = load_splits(config)
    assert len(splits.train or ()) == 40
    assert "never-shown" not in repr(splits.describe())
    streams = module(streamed(site.with_login("me:never-shown") + "/a.csv", tmp_path))
    assert len(epoch(streams)) == streams.batches_per_epoch
    assert "never-shown" not in repr(streams.splits.describe())
    (site.folder / "d.csv").write_text("id,text,mood\n1,a,x\n2,,x\n3,c,y\n")
    with pytest.raises(UserError) as raised:
        load_splits(streamed(site.with_login("me:never-shown") + "/d.csv", tmp_path))
    assert "/d.csv row 2: 'text' is empty" in str(raised.value)
    assert "never-shown" not in str(raised.value)
    site.status = 500
    assert refusal(f"{site.url}/c.csv", tmp_path).endswith("/c.csv: the server answers with an error (500)")
    assert "cannot be reached" in refusal("http://127.0.0.1:9/a.csv", tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "shards/", "shards/*.csv"])
def test_a_server_out_of_reach_is_no_empty_folder(tmp_path: Path, name: str) -> None:
    url = f"http://127.0.0.1:9/{name}"
    with pytest.raises(UserError, match="the server cannot be reached"):
        remote.matching(url, (".csv",), "data.train")
    with pytest.raises(UserError, match="the server cannot be reached"), runs_at(url):
        pass


def test_a_server_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.csv"
        assert "no answer within" in refusal(url, tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/a.csv", "ftp:// is not read (there are s3://, gs://, hf://, https://, http://)"),
        ("s3:///a.csv", "names no bucket"),
        ("https:///a.csv", "names no host"),
    ],
)
def test_urls_that_are_none(tmp_path: Path, url: str, message: str) -> None:
    if url.startswith("s3") and remote.url_fault("s3://bucket/a", "") is not None:
        pytest.skip("not installed: s3fs")
    assert message in refusal(url, tmp_path)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "find_spec", lambda _: None)
    for url, extra in (("s3://bucket/a.csv", "s3"), ("gs://bucket/a.csv", "gcs")):
        assert f"pip install 'eir_seq[{extra}]'" in refusal(url, tmp_path)
        with pytest.raises(UserError, match=rf"eir_seq\[{extra}\]"):
            load_splits(streamed(url, tmp_path))


def test_secrets_of_urls_are_hidden() -> None:
    signed = "https://host/a.csv?X-Amz-Signature=abc&X-Amz-Credential=key"
    assert redact(signed) == "https://host/a.csv?***"
    assert redact({"train": "https://me:pass@host/a.csv"}) == {"train": "https://***@host/a.csv"}
    assert redact("https://host/a.csv?download=1") == "https://host/a.csv?download=1"
    assert remote.shown("https://me:pass@host/a.csv?token=1") == "https://***@host/a.csv?***"
