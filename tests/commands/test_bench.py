"""``bench``: what it measures is there and plausible; how fast anything is, no test says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eir_seq.commands import main
from eir_seq.commands.bench import models, parse
from eir_seq.commands.bench.clock import _native_attention, alternate, flops_of, peak_bytes
from eir_seq.commands.bench.loop import WARM_UP
from eir_seq.commands.bench.models import Setting, compare, inputs_of, pair
from eir_seq.commands.bench.subjects import Size, Texts, options_of
from eir_seq.errors import RunFailed, UserError
from eir_seq.models import list_models
from eir_seq.models.layers import kernels
from eir_seq.models.layers.linear import linear
from eir_seq.models.option_checks import check_options
from eir_seq.native import library

TINY = ["--width=16", "--layers=1", "--heads=2", "--texts=2", "--cap=12", "--rounds=1"]
SMALL = Size(width=16, layers=1, heads=2, length=12)


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rows_of(path: Path, table: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())[table]["rows"]
    return rows


def test_training_and_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = tmp_path / "numbers.json"
    assert main(["bench", "bert", "bart", *TINY, "--json", str(numbers)]) == 0
    rows = rows_of(numbers)
    assert [(row["model"], row["mode"]) for row in rows] == [
        (model, mode) for model in ("bert", "bart") for mode in ("training", "inference")
    ]
    for row in rows:
        assert min(row["tokens"], row["share"], row["megabytes"]) > 0
        assert 0 < row["fill"] <= 1
        assert row["ratio"] is None
    shown = capsys.readouterr().out
    assert "cpu" not in shown.splitlines()[0]
    assert "1 thread" in shown


def test_against_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    numbers = tmp_path / "numbers.json"
    assert main(["bench", "gpt2", "sequence-default", "--against", "transformers", *TINY[:-1], "--rounds=2",
                 "--json", str(numbers)]) == 0  # fmt: skip
    compared, alone = rows_of(numbers)[:2], rows_of(numbers)[2:]
    assert all(row["ratio"] > 0 and row["wall"] > 0 and row["memory"] > 0 for row in compared)
    assert all(row["difference"] < 1e-5 for row in compared)
    assert all(row["ratio"] is None and "not in transformers" in row["why"] for row in alone)
    assert "sequence-default: not in transformers" in capsys.readouterr().out


def test_other_weights_are_no_reference() -> None:
    pytest.importorskip("transformers")
    setting = Setting(SMALL, Texts((12, 7), 2), {}, against=True)
    model, reference = pair("bert", setting)
    assert compare(model, reference, setting) < 1e-5
    with torch.no_grad():
        reference.encoder.layer[0].output.dense.weight.mul_(1.5)
    with pytest.raises(RunFailed, match="bert: outputs differ from those of transformers by"):
        compare(model, reference, setting)


def test_generation(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    assert main(["bench", "gpt2", "t5", "--decode", "--lengths=5", "--new=3", *TINY, "--json", str(numbers)]) == 0
    rows = rows_of(numbers)
    assert [row["mode"] for row in rows] == ["greedy, batch 1", "greedy, batch 8", "4 beams"] * 2
    assert all(row["milliseconds"] > 0 and row["tokens"] > 0 for row in rows)


def test_training_loop(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    words = [f"trainer.max_steps={WARM_UP + 2}", "data.batch_size=4", "trainer.accelerator=cpu"]
    assert main(["bench", "--task", "imdb_longformer", *words, "--json", str(numbers)]) == 0
    (row,) = rows_of(numbers)
    assert row["steps"] == 2
    assert row["forward"] + row["learning"] + row["rest"] == pytest.approx(1)
    assert min(row["samples"], row["forward"], row["learning"]) > 0


def test_tables_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench text -->\nold\n<!-- /bench text -->\nafter\n")
    assert main(["bench", "bert", *TINY, "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- bench text -->\n")
    assert text.endswith("<!-- /bench text -->\nafter\n")
    assert "old" not in text
    assert "| bert | training |" in text
    assert main(["bench", "bert", *TINY, "--write", str(page), "--lengths=5"]) == 2
    assert page.read_text() == text


def test_an_interrupted_call_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = tmp_path / "numbers.json"
    words = ["--json", str(numbers), *TINY]
    assert main(["bench", "bert", *words, "--resume"]) == 0
    content = json.loads(numbers.read_text())
    content[0]["rows"][0]["tokens"] = 12345.0
    numbers.write_text(json.dumps(content))
    assert main(["bench", "bert", "gpt2", *words, "--resume"]) == 0
    rows = rows_of(numbers)
    assert [row["model"] for row in rows] == ["bert", "bert", "gpt2", "gpt2"]
    assert rows[0]["tokens"] == 12345.0
    assert main(["bench", "bert", *words, "--layers=2", "--resume"]) == 0
    assert rows_of(numbers)[0]["tokens"] != 12345.0, "another size is another measurement"
    numbers.write_text("[1]")
    assert main(["bench", "bert", *words, "--resume"]) == 2
    assert "holds no such numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bert", "--resume"], "--resume: needs --json FILE"),
        (["brt"], "brt: not an architecture of the catalogue; did you mean 'bert'?"),
        ([], "NAME: name architectures"),
        (["bert", "--all"], "--all: names no architectures beside it"),
        (["--task", "imdb_longfromer"], "no experiment; did you mean 'imdb_longformer'?"),
        (["--task", "--decode"], "--task: does not go together with --decode"),
        (["bert", "--lengths", "few"], "'few' is not text, equal or a number of tokens"),
        (["bert", "--threads", "0"], "'0' is not a whole number from 1 on"),
        (["bert", "--width", "30", "--heads", "4"], "must be even and divide --width 30"),
        (["bert", "--heads", "3", "--width", "30"], "must be even"),
        (["gpt2", "--decode", "--lengths", "text"], "write the tokens of the prompt"),
    ],
)
def test_what_cannot_be_measured(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(words)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fnet", "--decode"], "'fnet' does not generate text"),
        (["bert", "hiden_size=3"], "hiden_size: not an option of 'bert'"),
        (["gpt2", "--head", "masked-lm"], "'gpt2' has no head for 'masked-lm'; choose from base, causal-lm"),
    ],
)
def test_what_a_model_cannot_do(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words, *TINY]) == 2
    assert message in capsys.readouterr().err


def test_every_architecture_has_a_size() -> None:
    for name in list_models():
        for size in (Size(), Size(width=32, layers=2, length=48)):
            assert not check_options(name, options_of(name, size)), name


def test_transformers_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("eir_seq.commands.bench.reference.is_installed", lambda _: False)
    assert main(["bench", "bert", "--against", "transformers", *TINY]) == 2
    assert "pip install 'eir_seq[transformers]'" in capsys.readouterr().err


def test_kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("EIR_SEQ_ONEDNN", raising=False)
    measured = {(layout, narrow): [2.0] * len(kernels.SIZES) for layout in kernels.LAYOUTS for narrow in (False, True)}
    monkeypatch.setattr(kernels, "measure", lambda: measured)
    monkeypatch.setattr(kernels, "may_gain", lambda: True)
    assert main(["bench", "--kernels"]) == 0
    assert capsys.readouterr().out.count("from 2^18") == 6
    assert kernels.stored().smallest == 18
    assert main(["bench", "--kernels", "--all"]) == 2


def test_operations_of_products() -> None:
    layer, states = nn.Linear(6, 4, bias=False), torch.ones(5, 6)
    assert flops_of(lambda: layer(states)) == 2 * 5 * 6 * 4
    setting = Setting(SMALL, Texts((12,), 1), {})
    model, _ = pair("bert", setting)
    width, length = 16, 12
    attention = 4 * length * length * width
    products = 2 * length * (4 * width * width + 2 * width * 4 * width) + attention
    pooler = 2 * width * width
    with library.without():
        assert models.flops(model, [12, 12], setting) == 2 * (products + pooler)
    if library.available():
        assert models.flops(model, [12, 12], setting) == 2 * (products + pooler)
        rows = torch.ones(40, 6)
        with torch.autocast("cpu", torch.bfloat16):
            assert flops_of(lambda: linear(rows, layer.weight)) == 2 * 40 * 6 * 4


def test_operations_of_native_attention() -> None:
    shapes = [(9, 2, 8), (9, 2, 8), (9, 2, 8)]
    everything = _native_attention(*shapes, (4, 5), (4, 5), [], None, 0, None, -1, 0, 1.0, 0.0, 0)
    assert everything == 4 * 2 * 8 * (16 + 25)
    near = _native_attention(*shapes, (4, 5), (4, 5), [], None, 0, (2, 1), 1, 1, 1.0, 0.0, 0)
    assert near == 4 * 2 * 8 * ((3 * 4 - 2) + 4 + (3 * 5 - 2) + 5)
    assert _native_attention(*shapes[:2], None, (4, 5), (4, 5), [], None, 0, None, -1, 0, 1.0, 0.0, 0) == everything
    causal = _native_attention(*shapes, (4, 5), (4, 5), [], None, 0, None, 1, 0, 1.0, 0.0, 0)
    assert causal == 4 * 2 * 8 * (2 * 4 - 1 + 2 * 5 - 1)


def test_operations_of_experts() -> None:
    """Each token goes through two experts where a dense block is one of the same size, and through a router."""
    setting = Setting(SMALL, Texts((12,), 1), {"num_key_value_heads": 1})
    dense, _ = pair("llama", setting)
    sparse, _ = pair("mixtral", setting)
    width, length, experts = 16, 12, 8
    per_token = 3 * 2 * width * 4 * width
    gate = 2 * width * experts
    assert models.flops(sparse, [12], setting) - models.flops(dense, [12], setting) == length * (per_token + gate)


def test_peak_of_tensors() -> None:
    def call() -> None:
        first = torch.ones(1000)
        second = first + 1
        del first
        third = second * 2
        del second, third

    assert peak_bytes(call, torch.device("cpu")) == pytest.approx(8000, abs=32)  # scalars are tensors, too


def test_sides_alternate() -> None:
    called: list[tuple[str, int]] = []
    sides = {side: lambda given, side=side: called.append((side, given)) for side in "ab"}
    times = alternate(sides, [0, 1, 2])
    assert sorted(called) == [(side, number) for side in "ab" for number in range(3)]
    assert [number for _, number in called] == [0, 0, 1, 1, 2, 2]
    assert len(times["a"].processor) == 2, "the first round warms up"


def test_padding_is_masked() -> None:
    model, _ = pair("t5", Setting(SMALL, Texts((12,), 1), {}))
    inputs = inputs_of(model, [5, 3], Setting(SMALL, Texts((5,), 2), {}))
    assert inputs["attention_mask"].sum(1).tolist() == [5, 3]
    assert torch.equal(inputs["decoder_attention_mask"], inputs["attention_mask"])
    assert (inputs["input_ids"][1, 3:] == model.config.pad_token_id).all()
