"""What is streamed: formats, folders, Hub datasets; what is held out, sampled, left out, refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from eir_seq.data.source import load_splits
from eir_seq.data.stream import survey
from eir_seq.data.stream.table import Survey
from eir_seq.errors import RunFailed, UserError
from tests.data.stream.tables import epoch, ids, module, rows, streamed, write_shards


def jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")


def packed(table: pa.Table, path: Path) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("id,text,mood\n" + "".join(f'{r["id"]},"{r["text"]}",{r["mood"]}\n' for r in table.to_pylist()))


def packed_json(table: pa.Table, path: Path) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())


WRITERS: dict[str, Callable[[pa.Table, Path], Any]] = {
    "parquet": pq.write_table,
    "arrow": lambda table, path: feather.write_feather(table, str(path), compression="uncompressed"),
    "csv": lambda table, path: pa_csv.write_csv(table, path),
    "tsv": lambda table, path: pa_csv.write_csv(table, path, pa_csv.WriteOptions(delimiter="\t")),
    "csv.gz": packed,
    "jsonl": jsonl,
    "jsonl.gz": packed_json,
}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("shards", [1, 2])
def test_formats(tmp_path: Path, suffix: str, shards: int) -> None:
    table, folder = pa.Table.from_pylist(rows(80)), tmp_path / "table"
    folder.mkdir()
    for shard in range(shards):
        WRITERS[suffix](table.slice(shard * 80 // shards, 80 // shards), folder / f"part-{shard}.{suffix}")
    train: Path | str = folder if shards == 2 else folder / f"part-0.{suffix}"
    found = epoch(module(streamed(train, tmp_path)))
    assert sorted(row for batch in ids(found) for row in batch) == sorted(table.column("id").to_pylist())
    if shards == 2:
        named = module(streamed(f"{folder}/*.{suffix}", tmp_path))
        assert ids(epoch(named)) == ids(found)


def test_a_text_file_has_a_row_per_line(tmp_path: Path) -> None:
    lines = [f"line {row} " + "word " * (row % 5) for row in range(60)]
    (tmp_path / "texts.txt").write_text("\n\n".join(lines) + "\r\n", encoding="utf-8")
    inputs = {"text": {"type": "sequence", "column": "text", "max_length": 16, "model": {"model_type": "gpt2"}}}
    config = streamed(
        tmp_path / "texts.txt",
        tmp_path,
        id=None,
        inputs=inputs,
        outputs={"next": {"type": "causal_lm"}},
        trainer={"max_steps": 4},
    )
    splits = load_splits(config)
    assert splits.train is not None
    assert [text.strip() for text in splits.train["text"]] == [line.strip() for line in lines]
    assert splits.train["id"][:2] == ["1", "2"]
    assert len(epoch(module(config))) == 4


def test_a_hub_dataset_is_streamed_in_passes(tmp_path: Path) -> None:
    folder = tmp_path / "dataset" / "data"
    folder.mkdir(parents=True)
    for shard in range(4):
        pq.write_table(pa.Table.from_pylist(rows(160)[shard * 40 : shard * 40 + 40]), folder / f"train-{shard}.parquet")
    trainer = {"max_steps": 23, "validate_every": 5}
    config = streamed("train", tmp_path, source="hub", name=str(folder.parent), trainer=trainer, shuffle_buffer=48)
    data = module(config)
    assert data.splits.counts == {}
    batches = epoch(data)
    assert len(batches) == 23
    seen = [row for batch in ids(batches) for row in batch]
    assert set(seen) == {f"r{row}" for row in range(160)}
    assert {seen.count(row) for row in seen} == {2, 3}
    for done in (2, 14):
        assert ids(epoch(module(config), 0, done, batches[done - 1]["window"])) == ids(batches[done:])
    one, other = (ids(epoch(module(config, rank, 2))) for rank in range(2))
    assert [sorted([*a, *b]) for a, b in zip(one, other, strict=True)] == [sorted(batch) for batch in ids(batches)]


def test_ids_count_the_rows_of_each_file(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", 120, 2)
    data = module(streamed(tmp_path / "shards", tmp_path, id=None))
    found = {row for batch in ids(epoch(data)) for row in batch}
    assert found == {f"{shard}-{row}" for shard in (1, 2) for row in range(1, 61)}
    single = module(streamed(tmp_path / "shards" / "part-0.parquet", tmp_path, id=None))
    assert {row for batch in ids(epoch(single)) for row in batch} == {str(row) for row in range(1, 61)}


@pytest.mark.parametrize("parts", [(0.2, 0.1), (40, 17), (0.2, None)])
def test_rows_are_held_out_by_the_hash_of_their_id(tmp_path: Path, parts: tuple[Any, Any]) -> None:
    write_shards(tmp_path / "shards", 300, 3)
    validation, test = parts
    data = module(streamed(tmp_path / "shards", tmp_path, validation=validation, test=test))
    held = [set(part["id"]) for part in (data.splits.validation, data.splits.test) if part is not None]
    train = {row for batch in ids(epoch(data)) for row in batch}
    assert sum(map(len, [train, *held])) == len(train.union(*held)) == 300
    if isinstance(validation, int):
        assert [len(part) for part in held] == [40, 17]
    else:
        assert 40 <= len(held[0]) <= 80
    table = pa.Table.from_pylist(rows(300)[::-1])
    pq.write_table(table, tmp_path / "other.parquet", row_group_size=20)
    other = module(streamed(tmp_path / "other.parquet", tmp_path, validation=validation, test=test))
    assert other.splits.validation is not None
    assert set(other.splits.validation["id"]) == held[0], "the order of the rows does not matter"


def test_groups_stay_together(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**row, "who": f"p{number // 3}"} for number, row in enumerate(rows(300))])
    pq.write_table(table, tmp_path / "table.parquet")
    data = module(streamed(tmp_path / "table.parquet", tmp_path, validation=0.3, group="who"))
    assert data.splits.validation is not None
    groups = {int(row[1:]) // 3 for row in data.splits.validation["id"]}
    assert data.splits.validation.num_rows == 3 * len(groups)
    assert 60 <= data.splits.validation.num_rows <= 120


def test_the_sample_is_bounded_uniform_and_has_every_class(tmp_path: Path) -> None:
    table = rows(2000)
    table[1999]["mood"] = "rare"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table.parquet", row_group_size=100)
    data = module(streamed(tmp_path / "table.parquet", tmp_path, fit_rows=100))
    sample = data.splits.train
    assert sample is not None
    assert sample.num_rows == 101
    places = sorted(int(row[1:]) for row in sample["id"])
    assert 800 < sum(places[:-1]) / 100 < 1200
    assert list(data.outputs["mood"].parts) == ["bad", "good", "rare"]
    assert data.splits.counts == {"train": 2000}
    rare = [batch for batch in epoch(data) if "r1999" in batch["id"]]
    assert rare[0]["targets"]["mood"][rare[0]["id"].index("r1999")] == 2


def test_the_table_is_read_once_for_that_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    passes: list[int] = []
    whole = survey._Pass.survey

    def noted(self: survey._Pass, advance: Callable[[int], None]) -> Survey:
        passes.append(1)
        return whole(self, advance)

    monkeypatch.setattr(survey._Pass, "survey", noted)
    pa_csv.write_csv(pa.Table.from_pylist(rows(100)), path)
    config = streamed(path, tmp_path, validation=0.1)
    first = load_splits(config)
    again = load_splits(config)
    assert passes == [1]
    assert again.fingerprint == first.fingerprint
    assert again.stream == first.stream or again.counts == first.counts
    pa_csv.write_csv(pa.Table.from_pylist(rows(101)), path)
    assert load_splits(config).fingerprint != first.fingerprint
    assert passes == [1, 1]


def test_bad_rows_are_named_or_left_out(tmp_path: Path) -> None:
    table = rows(100)
    table[30]["text"], table[77]["mood"] = "", None
    for shard in range(2):
        pq.write_table(pa.Table.from_pylist(table[shard * 50 : shard * 50 + 50]), tmp_path / f"{shard}.parquet")
    config = streamed(f"{tmp_path}/*.parquet", tmp_path)
    with pytest.raises(UserError, match=r"0\.parquet row 31: 'text' is empty"):
        load_splits(config)
    data = module(streamed(f"{tmp_path}/*.parquet", tmp_path, on_bad_row="skip", batch_size=8))
    assert [(row.id, row.place) for row in data.splits.skipped] == [
        ("r30", f"{tmp_path}/0.parquet row 31"),
        ("r77", f"{tmp_path}/1.parquet row 28"),
    ]
    assert data.splits.counts["train"] == 98
    found = epoch(data)
    assert sorted(r for batch in ids(found) for r in batch) == sorted(f"r{r}" for r in range(100) if r not in (30, 77))
    assert ids(epoch(data, 0, 7)) == ids(found[7:])


def test_a_file_that_changes_while_it_is_streamed_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist(rows(200)), path, row_group_size=20)
    data = module(streamed(path, tmp_path))
    pq.write_table(pa.Table.from_pylist(rows(180)), path, row_group_size=18)
    with pytest.raises((RunFailed, UserError), match=r"table\.parquet"):
        epoch(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", "nothing", r"data.train: \S+a.parquet is truncated or damaged"),
        ("a.csv", "id,text,mood\n1,a\n", r"data.train: \S+a.csv is truncated or damaged \(CSV parse error"),
        ("a.csv", "id,text\n1,a\n", r"no column 'mood' in \S+a.csv \(it has 'id', 'text'\)"),
        ("a.jsonl", '{"id": "1", "text": "a", "mood": "x"}\n{"id"', r"data.train: \S+a.jsonl is truncated or damaged"),
        ("a.conll", "x", r"a.conll: no file with a suffix that is streamed"),
        ("a.csv", "", r"data.train: \S+a.csv is (empty|truncated)"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        load_splits(streamed(tmp_path / name, tmp_path))
    assert len(raised.value.faults) == 1


def test_files_of_several_formats_and_none(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    with pytest.raises(UserError, match="no such file or folder"):
        load_splits(streamed(folder, tmp_path))
    (folder / "a.csv").write_text("id\n")
    (folder / "b.jsonl").write_text("{}\n")
    (folder / "_SUCCESS").write_text("")
    with pytest.raises(UserError, match=r"holds files of several formats \('\S+a.csv' and '\S+b.jsonl'\)"):
        load_splits(streamed(folder, tmp_path))


def test_what_is_no_file_among_shards_is_named(tmp_path: Path) -> None:
    """Its rows would be missing in silence."""
    write_shards(tmp_path / "shards", 40, 2)
    (tmp_path / "shards" / "9.parquet").symlink_to("nothing-there")
    for train in (tmp_path / "shards", f"{tmp_path}/shards/*.parquet"):
        with pytest.raises(UserError, match=r"9\.parquet is not a file"):
            load_splits(streamed(train, tmp_path))
