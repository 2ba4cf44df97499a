"""What a header, a missing package or a folder shows is said before torch is imported, and leaves nothing behind."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import yaml

from eir_seq.commands import main
from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import columns_of
from eir_seq.config.schema import DataConfig
from eir_seq.modalities import build_modality
from eir_seq.modalities.image.config import ImageInputConfig
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from eir_seq.outputs.regression.config import RegressionOutputConfig

ROOT = Path(__file__).resolve().parents[2]
TINY = """\
# @package _global_
defaults:
  - override /data: table
inputs:
  t:
    type: sequence
    column: text
    model: {model_type: sequence-default, model_init_config: {embedding_dim: 16, num_layers: 1, num_heads: 2}}
outputs:
  y: {type: classification, column: label}
data: {train: rows.csv, validation: 0.2, batch_size: 8}
trainer: {max_epochs: 1, threads: 1}
"""
ROWS = "id,text,label\n1,good,a\n2,bad,b\n"
HAS = "(it has 'id', 'text', 'label')"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "conf" / "experiment" / "tiny.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TINY)
    (tmp_path / "rows.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EIR_SEQ_CONF", raising=False)
    return tmp_path


def files() -> list[Path]:
    return sorted(Path().rglob("*"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines that a command ends with; it leaves no file."""
    before = files()
    first = ["experiment=tiny"] if not words or words[0] not in ("check", "predict") else []
    assert main([*first, *words]) == 2
    assert files() == before
    lines = capsys.readouterr().err.replace(f"{ROOT}{os.sep}", "").splitlines()
    return [line.removesuffix(" (command line)") for line in lines]


IN_A_PROCESS = """
import contextlib, io, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from eir_seq.commands import main
codes, seconds = [], []
for words in json.loads(sys.argv[2]):
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        codes.append(main(words))
    seconds.append(time.process_time() - start)
heavy = {"torch", "lightning", "datasets", "pandas", "transformers", "matplotlib"}
print(json.dumps([codes, time.process_time(), sorted(heavy & set(sys.modules))]))
"""


def test_every_command_finds_it_before_torch_in_little_time(project: Path) -> None:
    bundle = project / "done" / "bundle"
    bundle.mkdir(parents=True)
    from eir_seq.config.compose import compose_experiment

    plain = compose_experiment(["experiment=tiny"]).config.model_dump(mode="json")
    (bundle / "config.yaml").write_text(yaml.safe_dump(plain))
    (project / "other.csv").write_text("id,words\n1,good\n")
    (project / "empty").mkdir()
    (project / "empty" / "config.json").write_text('{"model_type": "bert"}')
    model = "inputs.t.model"
    lines = [
        ["experiment=tiny", "outputs.y.column=lable"],
        ["check", "experiment=tiny", "outputs.y.column=lable"],
        ["-m", "experiment=tiny", "outputs.y.column=lable", "seed=1,2"],
        ["predict", "run=done", "data.test=other.csv"],
        ["experiment=tiny", "data.test=nowhere.csv"],
        ["experiment=tiny", "run.dir=rows.csv"],
        ["experiment=tiny", f"{model}.model_type=empty", f"{model}.pretrained_model=true"],
        ["experiment=tiny", f"{model}.model_type=electra", f"{model}.pool=pooler"],
    ]
    before = files()
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(ROOT), json.dumps(lines)], capture_output=True, text=True, check=True
    )
    codes, seconds, heavy = json.loads(done.stdout)
    assert codes == [2] * len(lines)
    assert heavy == []
    assert files() == before
    assert seconds < 4  # all of them; one by itself takes about 0.7 seconds, its imports among them


def test_missing_columns_are_told_with_all_else_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "outputs.y.column=lable", "inputs.t.column=txt", "seed=x", "run.dir=conf") == [
        "seed: 'x' is not an integer >= 0 and < 2**63",
        f"outputs.y.column: no column 'lable' in rows.csv; did you mean 'label'? {HAS}",
        f"inputs.t.column: no column 'txt' in rows.csv; did you mean 'text'? {HAS}",
    ]
    assert refused(capsys, "run.dir=conf", "data.id=ids", "data.group=g", "data.stratify=s") == [
        f"run.dir: {Path('conf').absolute()} holds files that are not a run's (experiment): it has no config.yaml",
        f"data.id: no column 'ids' in rows.csv; did you mean 'id'? {HAS}",
        f"data.group: no column 'g' in rows.csv {HAS}",
        f"data.stratify: no column 's' in rows.csv {HAS}",
    ]
    assert refused(capsys, "data.rename={label: y}") == [
        "outputs.y.column: no column 'label' in rows.csv (it has 'id', 'text', 'y') (conf/experiment/tiny.yaml:10)"
    ]


def write(name: str) -> None:
    rows = [{"id": str(n), "text": "good", "label": "a"} for n in range(3)]
    table = pa.table({key: [row[key] for row in rows] for key in rows[0]})
    if name.endswith(".gz"):
        Path(name).write_bytes(gzip.compress(ROWS.encode()))
    elif name.endswith(".tsv"):
        Path(name).write_text(ROWS.replace(",", "\t"))
    elif name.endswith(".jsonl"):
        Path(name).write_text("\n".join(map(json.dumps, rows)))
    elif name.endswith(".json"):
        Path(name).write_text(json.dumps(rows))
    elif name.endswith(".parquet"):
        pyarrow.parquet.write_table(table, name)
    elif name.endswith(".arrow"):
        with pa.ipc.new_stream(name, table.schema) as writer:
            writer.write_table(table)
    elif name.endswith(".feather"):
        pyarrow.feather.write_feather(table, name)
    else:
        Path(name).write_text("good JJ a\n")


@pytest.mark.parametrize(
    "name", ["r.csv.gz", "r.tsv", "r.jsonl", "r.json", "r.parquet", "r.arrow", "r.feather", "r.conll"]
)
def test_the_header_of_every_format_is_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(name)
    (line, *_) = refused(capsys, f"data.train={name}", "outputs.y.column=lable")
    assert line.startswith(f"outputs.y.column: no column 'lable' in {name}")


def test_of_large_json_lines_the_first_rows_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.dumps({"text": "x" * 2000, "label": "a"})
    Path("large.jsonl").write_text("\n".join([row] * 600))
    assert refused(capsys, "data.train=large.jsonl", "outputs.y.column=lable") == [
        "outputs.y.column: no column 'lable' in the first 100 rows of large.jsonl; did you mean 'label'? (it has "
        "'text', 'label')"
    ]
    refused(capsys, "data.train=large.jsonl", "run.dir=conf")  # the columns are there, the folder is not free


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.train: odd.csv is empty"),
        (b"\xff\xfei\x00d\x00", "data.train: odd.csv is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04", "data.train: odd.csv is a zip archive or an Excel workbook; save the table as CSV"),
        (b"text;label\ngood;a\n", "data.delimiter: only one column was found in odd.csv ('text;label'): "),
    ],
)
def test_files_that_are_no_tables(content: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.csv").write_bytes(content)
    (line,) = refused(capsys, "data.train=odd.csv")
    assert line.startswith(message)
    Path("odd.xlsx").write_bytes(b"PK")
    (line,) = refused(capsys, "data.train=odd.xlsx")
    assert line.startswith("data.train: odd.xlsx: the format is determined by the file's suffix")


def test_the_labels_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts").mkdir()
    (Path("texts") / "1.txt").write_text("good")
    assert refused(capsys, "data.train=texts", "data.labels=rows.csv", "data.id=id", "outputs.y.column=lable") == [
        f"outputs.y.column: no column 'lable' in rows.csv; did you mean 'label'? {HAS}"
    ]


@pytest.mark.parametrize("there", [None, ModuleSpec("wandb", None)], ids=["nothing", "a-folder-of-that-name"])
def test_a_tracker_that_is_not_installed(
    there: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there)
    line = "tracker.type: wandb is not installed; run: pip install 'eir_seq[wandb]' (conf/tracker/wandb.yaml:2)"
    assert refused(capsys, "tracker=wandb") == [line]
    assert refused(capsys, "check", "experiment=tiny", "tracker=wandb") == [line]
    missing = f"outputs.y.column: no column 'lable' in rows.csv; did you mean 'label'? {HAS}"
    assert refused(capsys, "-m", "tracker=wandb,csv", "outputs.y.column=lable") == [line, missing]


def test_folders_of_published_models_and_tokenizers(capsys: pytest.CaptureFixture[str]) -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text('{"model_type": "bert"}')
    words = ["inputs.t.model.model_type=model", "inputs.t.model.pretrained_model=true"]
    vocabulary = "tokenizer.json, or vocab.txt, vocab.json with merges.txt, or a sentencepiece model"
    (weights, tokenizer) = refused(capsys, *words)
    assert weights == "inputs.t.model.model_type: model holds no weights (*.safetensors or *.bin)"
    assert tokenizer.startswith("inputs.t.model.model_type: no tokenizer in model: tokenizer.json, or vocab.txt")
    Path("model/model.safetensors").write_bytes(b"")
    Path("model/vocab.txt").write_text("[UNK]\n")
    Path("lora").mkdir()
    assert refused(capsys, *words, "inputs.t.model.lora.adapter=lora") == [
        "inputs.t.model.lora.adapter: lora holds no adapter_config.json, so it is no adapter folder"
    ]
    for name, problem in (
        ("./lorra", "./lorra: no such folder; did you mean 'lora'?"),
        ("rows.csv", "rows.csv: a folder is expected, this is a file"),
        ("s3://me:secret@bucket/lora", "s3://... is a URL; the path of a folder or a Hub id (OWNER/NAME) is expected"),
    ):
        adapter = f"lora: {{adapter: '{name}', merge: true}}"
        own = f"model: {{model_type: model, pretrained_model: true, {adapter}}}"
        output = f"outputs.w={{type: seq2seq_lm, column: label, {own}}}"
        tokenizer = f"outputs.w.tokenizer={{type: published, path: '{name}'}}"
        assert refused(capsys, *words, f"inputs.t.model.lora.adapter={name}", "~outputs.y", output, tokenizer) == [
            f"{key}: {problem}"
            for key in ("inputs.t.model.lora.adapter", "outputs.w.model.lora.adapter", "outputs.w.tokenizer.path")
        ]
        assert refused(capsys, words[1], f"inputs.t.model.model_type={name}") == [
            f"inputs.t.model.model_type: {problem}"
        ]
    (line,) = refused(capsys, "inputs.t.tokenizer={type: published, path: lora}")
    assert line.startswith(f"inputs.t.tokenizer.path: no tokenizer in lora: {vocabulary}")
    (line,) = refused(capsys, "inputs.t.tokenizer={type: published, path: ./lorra}")
    assert line == "inputs.t.tokenizer.path: ./lorra: no such folder; did you mean 'lora'?"


def test_a_run_folder_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path.cwd()
    assert refused(capsys, "run.dir=rows.csv") == [f"run.dir: {here / 'rows.csv'} is not a folder"]
    assert refused(capsys, "run.dir=rows.csv/a") == [f"run.dir: {here / 'rows.csv'} is not a folder"]
    assert refused(capsys, "run.root=rows.csv") == [f"run.root: {here / 'rows.csv'} is not a folder"]
    Path("before").mkdir()
    Path("before/config.yaml").write_text("seed: 3\n")
    (line,) = refused(capsys, "run.dir=before")
    assert line.startswith(f"run.dir: {here / 'before/config.yaml'} is that of another experiment, or damaged: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_run_folder_without_permission(capsys: pytest.CaptureFixture[str]) -> None:
    Path("closed").mkdir(mode=0o500)
    assert refused(capsys, "run.dir=closed/a") == [f"run.dir: {Path('closed').absolute()} cannot be written"]


def test_columns_are_those_that_the_inputs_read() -> None:
    model = {"model_type": "layoutlm"}
    inputs = {
        "page": SequenceInputConfig.model_validate(
            {"column": "words", "is_split_into_words": True, "tensors": {"bbox": {"column": "boxes"}}, "model": model}
        ),
        "pair": SequenceInputConfig.model_validate(
            {"column": "a", "pair_column": "b", "model": {"model_type": "bert"}}
        ),
        "picture": ImageInputConfig.model_validate(
            {"type": "image", "column": "file", "model": {"model_type": "imagegpt"}}
        ),
    }
    outputs = {"y": ClassificationOutputConfig(column="y"), "z": RegressionOutputConfig(column="z")}
    columns = columns_of(DataConfig(id="key", group="writer", train="rows.csv"), inputs, outputs)
    assert columns.of("input", ColumnType.TEXT) == {"a": "inputs.pair.column", "b": "inputs.pair.pair_column"}
    cells = [build_modality(name, config).cells.places for name, config in inputs.items()]
    structured = [kind for kind in ColumnType if kind.is_structured]
    assert columns.of("input", *structured) == {column: place for places in cells for column, place in places.items()}
    assert list(columns.places) == ["key", "writer", "y", "z", "a", "b", "words", "boxes", "file"]
    assert columns.clashes() == []
    assert [f.place for f in columns_of(DataConfig(id="key"), inputs, {"y": outputs["y"].model_copy(
        update={"column": "boxes"})}).clashes()] == ["inputs.page.tensors.bbox.column"]  # fmt: skip
