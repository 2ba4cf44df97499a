"""Nothing that came from elsewhere hangs, fills the memory or is run: one line, exit code 2, in seconds."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import torch

import eir_seq.training.check  # noqa: F401 (what it imports is no part of what is measured)
from eir_seq.commands import main
from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import Use
from eir_seq.config.schema import DataConfig
from eir_seq.data.readers import jsonl, read_table
from eir_seq.data.readers.base import Wanted
from eir_seq.data.readers.folder import read_folder
from eir_seq.data.roles import Roles
from eir_seq.data.rows import check_rows
from eir_seq.errors import UserError
from eir_seq.models.bounds import bounded_by_weights
from eir_seq.tokenizers import chat_process
from eir_seq.tokenizers.chat import render
from eir_seq.tokenizers.chat_process import Renderer
from eir_seq.training.console import Console
from tests.hostile.collection import HOSTILE, ipc, prepare, stream

SECONDS, MEMORY = 10, 2**30
BITS = 60


class Measured:
    """Processor time and, where the system tells it, the memory that was filled meanwhile, in bytes."""

    seconds = memory = 0.0

    def __enter__(self) -> Measured:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
            self._before = resident("VmRSS")
        except OSError:
            self._before = 0
        self._started = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self._started
        if self._before:
            self.memory = resident("VmHWM") - self._before


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_in_seconds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = HOSTILE[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EIR_SEQ_CONF", raising=False)
    prepare(tmp_path)
    arguments = make(tmp_path)
    capsys.readouterr()
    with Measured() as measured:
        code = main(["check", *arguments])
    told = capsys.readouterr().err.splitlines()
    assert code == 2, told
    assert words in told[0]
    alike = {line.partition(": ")[2].partition("; data.on")[0] for line in told if not line.startswith("... and")}
    assert len(alike) <= 1 or len(told) == 1 or "has shape" in told[0], told
    assert measured.seconds < SECONDS
    assert measured.memory < MEMORY
    assert not list(tmp_path.rglob("canary"))


LISTS = (
    "[]",
    " [ ] \n",
    '[1, 2.5e3 ,"a\\"b", {"a": [1, {"b": "x,]"}]}]',
    '[{"a": "' + "long " * 50 + '"}, null,\ntrue]',
)
BROKEN = ("[1,]", "[1", "[1 2]", '[{"a": 1}] x', "[tru]", '["abc', '[{"a" 1}]', "[" * 100_000, "[1,,2]", "[2.5e")


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_lists_are_read_item_by_item(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "BLOCK", block)
    for text in LISTS:
        assert list(jsonl._List(io.StringIO(text), "a.json", "data.train").items()) == json.loads(text)
    for text in BROKEN:
        with pytest.raises(UserError, match=r"^data\.train: a\.json is not valid JSON: .* \(line 1\)$"):
            list(jsonl._List(io.StringIO(text), "a.json", "data.train").items())


def test_a_long_list_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 MB in one line, a row that is too long for one, and objects that span lines without end."""
    path = tmp_path / "a.json"
    row = json.dumps({"t": "x" * 4000, "n": 1})
    path.write_text("[" + ",".join([row] * 16_000) + "]")
    with Measured() as measured:
        table = read_table(str(path), DataConfig(train=str(path)), Wanted({"n": "y"}), "data.train").table
    assert table.num_rows == 16_000
    assert measured.memory < 2**25
    monkeypatch.setattr(jsonl, "MOST_WHOLE", 1000)
    monkeypatch.setattr(jsonl, "BLOCK", 100)
    for text in (f"[{row}]", '{\n"n": "' + "x" * 4000 + '"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="more than 0 MB"):
            read_table(str(path), DataConfig(train=str(path)), Wanted({"n": "y"}), "data.train")


def test_links_out_of_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "0.txt").write_text("some words")
    (tmp_path / "texts" / "1.txt").symlink_to("0.txt")
    assert read_folder(str(tmp_path / "texts"), "data.train") == {"0": "some words", "1": "some words"}
    (tmp_path / "2.txt").write_text("others")
    (tmp_path / "texts" / "2.txt").symlink_to("../2.txt")
    with pytest.raises(UserError, match=r"2\.txt is a link that leads out of the folder of the data"):
        read_folder(str(tmp_path / "texts"), "data.train")


def test_what_steers_a_terminal_is_shown(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.log_to(tmp_path / "log.txt")
    console.say("row \x1b]0;owned\x07 \ud800\u202e\tcafé\nline")
    assert stream.getvalue() == (tmp_path / "log.txt").read_text() == (
        "row \\x1b]0;owned\\x07 \\ud800\\u202e\tcafé\nline\n"
    )  # fmt: skip


def test_a_log_that_is_a_pipe_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        console = Console(io.StringIO())
        console.log_to(tmp_path / name)
        console.say("a line")
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_config_larger_than_the_weights() -> None:
    refused = pytest.raises(UserError, match=r"^x: its config describes weights of more than 4,194,344 numbers")
    with refused, bounded_by_weights(10, "x"):
        torch.nn.Linear(10**4, 10**3)
    with bounded_by_weights(10, "x"):
        torch.nn.Linear(10, 10)


FORMATS: dict[str, Any] = {
    "a.arrow": ipc,
    "stream.arrow": stream,
    "a.feather": pyarrow.feather.write_feather,
    "a.parquet": pyarrow.parquet.write_table,
}


@pytest.mark.parametrize("name", FORMATS)
def test_wrong_bits(name: str, tmp_path: Path) -> None:
    """A table with one wrong bit is read, or refused by name: no other error, and the process goes on."""
    columns = {"id": "data.id", "text": "t", "label": "y", "number": "n", "tags": "g"}
    table = pa.table(
        {
            "id": list("01234567"),
            "text": [f"some words {i}" for i in range(8)],
            "label": pa.array(list("abababab")).dictionary_encode(),
            "number": [float(i) for i in range(8)],
            "tags": [["x", "y"]] * 8,
        }
    )
    path = tmp_path / name
    FORMATS[name](table, path)
    whole = path.read_bytes()
    wanted = Wanted(columns, structured=frozenset({"tags"}), numbers=frozenset({"number"}))
    uses = (
        Use("text", ColumnType.TEXT, "input", "t"),
        Use("tags", ColumnType.LIST, "input", "g"),
        Use("label", ColumnType.CATEGORY, "target", "y"),
        Use("number", ColumnType.NUMBER, "target", "n"),
    )
    roles = Roles("id", uses)
    random, refused = Random(0), 0
    for _ in range(BITS):
        content = bytearray(whole)
        content[random.randrange(len(whole))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        try:
            raw = read_table(str(path), DataConfig(train=str(path)), wanted, "data.train")
            check_rows(raw, roles, skip_bad=False, missing_labels=[""], id_prefix="row", need_targets=True)
        except UserError:
            refused += 1
    assert 0 < refused < BITS


TEMPLATES = {
    "loops": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes longer than"),
    "a large number": ("{{ 9 ** (9 ** 9) }}", "takes longer than"),
    "a long text": ("{{ 'a' * 10 ** 10 }}", "too much memory"),
    "a wide text": ("{{ 'a' | center(99999999999) }}", "too much memory"),
    "doubling": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "too much memory",
    ),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "nesting": ("{{ " + "(" * 100_000 + " }}", "recursion"),
    "many words": ("{% for a in range(99999) %}{{ 'word ' * 99999 }}{% endfor %}", "more than 16,777,216 characters"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The template is refused, this process fills no memory, and the next conversation is rendered."""
    template, words = TEMPLATES[name]
    monkeypatch.setattr(chat_process, "SECONDS", 1.0 if "longer" in words else 5.0)
    messages = [{"role": "user", "content": "Hello"}]
    with Measured() as measured, pytest.raises(UserError, match=words):
        render({"default": template}, None, messages)
    assert measured.memory < MEMORY / 4
    monkeypatch.setattr(chat_process, "SECONDS", 5.0)
    assert render({"default": "{{ messages[0].content }}"}, None, messages) == "Hello"


def test_what_a_template_is_given() -> None:
    """Plain values alone, of whatever subclass, unchanged."""

    class Name(str):
        pass

    given = {"a": [1, (2.5, None)], "b": {Name("x"): Name("y\ud800")}, "c": True}
    renderer = Renderer()
    try:
        assert renderer.render("{{ a }} {{ b.x }} {{ c }}", given) == "[1, (2.5, None)] y\ud800 True"
        with pytest.raises(TypeError, match=r"\(object\) cannot be given to a template"):
            renderer.render("", {"a": object()})
    finally:
        renderer.close()
