"""Every block of the documents that can be run is run, at a tiny size; the others are listed here with the reason."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eir_seq.commands import main, multirun
from eir_seq.commands.bench import parse as parse_bench
from eir_seq.config.sweeps import read_sweep
from eir_seq.config.validation import validate_experiment
from eir_seq.training.run import train
from tests.docs.example_files import named_in, published, tables
from tests.models.tiny import OPTIONS
from tests.readme import DOCUMENTS, FAST, ROOT, Block, blocks, command_lines, commands, run, write_named_files

RUNNABLE = ("bash", "console", "python", "yaml")
SHOWN = ("csv", "text")
"""What is printed or how files look; the tests of the tutorials compare theirs."""
HARDWARE = {
    "device_map={0: range(12), 1": "needs two GPUs",
    "model.parallelize({0": "needs four GPUs",
}
NEEDS_MORE = {
    "data=imdb": "loads data from the Hub",
    "data=multi30k": "loads data from the Hub",
    "data.source=hub": "loads data from the Hub",
    "s3://": "needs a store",
    "run=RUN": "stands for any run folder",
    "run=runs/captions/...": "stands for the folder of a run",
    "tests.benchmarks": "trains the reference implementation, too",
    "eir_seq bench": "measures for minutes",
    "eir_seq sweep": "trains many times",
    "tests.campaign": "takes an hour",
    "tests.recipes": "takes hours",
}
"""Commands that are checked as far as this goes without data, and not run."""
SHORT = {"experiment=long_documents": ("data.limit=16", "data.batch_size=2", "inputs.document.max_length=1300")}
"""Settings with which commands of long texts end in seconds; those that a command has itself stay."""

DOCS = [document for document in DOCUMENTS if document.is_relative_to(ROOT / "docs")]
BASH = [block for document in DOCS for block in blocks(document, "bash", "console")]
YAML = [block for document in DOCUMENTS for block in blocks(document, "yaml")]
PYTHON = [document for document in DOCUMENTS if list(blocks(document, "python"))]


def test_every_block_names_its_language() -> None:
    assert [str(block) for d in DOCUMENTS for block in blocks(d) if block.language not in RUNNABLE + SHOWN] == []


def test_every_reason_has_its_block() -> None:
    shown = "".join(block.text for document in DOCUMENTS for block in blocks(document))
    assert [words for words in (*HARDWARE, *NEEDS_MORE) if words not in shown] == []


MARKDOWN = [*DOCUMENTS, *ROOT.glob("*.md")]


@pytest.mark.parametrize("document", dict.fromkeys(MARKDOWN), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(document: Path) -> None:
    # Pages that only the site has are linked by their tracked stand-ins, see docs/generate.py.
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(<?([^)>#\s]+)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.MULTILINE)
    files = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in files if not (document.parent / link).exists()] == []


# ------------------------------------------------------------------------------------------------------- commands


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the tables that the commands name, and the experiment ``mine`` of the first page."""
    monkeypatch.chdir(tmp_path)
    tables(tmp_path)
    (tmp_path / "conf/experiment").mkdir(parents=True)
    return tmp_path


def write_mine(folder: Path, document: Path) -> None:
    """The experiment ``mine``: that of a document, if it shows one, or else that of the first page."""
    shown = [*blocks(document, "yaml"), *blocks(ROOT / "docs/index.md", "yaml")]
    mine = next(block.text for block in shown if "@package _global_" in block.text)
    (folder / "conf/experiment/mine.yaml").write_text(mine)


@pytest.mark.parametrize("block", BASH, ids=str)
def test_commands_are_accepted(block: Block, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mine(project, block.document)
    for name in named_in(block.text):
        published(name, project)
    for line in command_lines(block):
        words = launched(shlex.split(line, comments=True))
        match words:
            case []:  # a comment, such as an option of sbatch
                continue
            case ["make", target]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            case ["pip", "install", "-c", constraints, "."]:
                assert (ROOT / constraints).is_file()
            case ["python", "-m", "eir_seq", *_] if "s3://" in line and importlib.util.find_spec("s3fs") is None:
                continue
            case ["python", "-m", "eir_seq", *arguments]:
                assert accepted([word for word in arguments if word != ">"], monkeypatch) == 0, line
            case ["python", "-m", module, *_]:
                assert importlib.util.find_spec(module) is not None
            case _:
                pytest.fail(f"{block}: no check for {line!r}")


def launched(words: list[str]) -> list[str]:
    """A command without the variables, srun or torchrun before it."""
    while words and (words[0] == "srun" or re.match(r"[A-Z_]+=", words[0])):
        words = words[1:]
    return ["python", *words[words.index("-m") :]] if words[:1] == ["torchrun"] else words


@pytest.mark.slow
@pytest.mark.parametrize("document", [*dict.fromkeys(block.document for block in BASH)], ids=lambda path: path.stem)
def test_commands_run(document: Path, project: Path) -> None:
    write_mine(project, document)
    for command in commands(document):
        line = " ".join(command.words)
        if any(words in line for words in NEEDS_MORE):
            continue
        for name in named_in(line):
            published(name, project)
        run(command, project, (*FAST, "trainer.max_steps=2", *shorter(command.words)))


def shorter(words: Sequence[str]) -> list[str]:
    """Further settings of a command that shows none of them."""
    settings = [setting for name, settings in SHORT.items() if name in words for setting in settings]
    return [setting for setting in settings if not any(word.split("=")[0] == setting.split("=")[0] for word in words)]


def accepted(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What the command line makes of `arguments` up to the point where data would be read or a network built."""
    monkeypatch.setattr("eir_seq.training.run.train", lambda *_, **__: None)
    monkeypatch.setattr("eir_seq.training.folds.cross_validate", lambda *_, **__: None)
    monkeypatch.setattr("eir_seq.training.check.check", lambda *_: "")
    monkeypatch.setattr("eir_seq.inference.predict.predict", lambda *_, **__: Path())
    monkeypatch.setattr("eir_seq.inference.chat.Dialogue.open", lambda *_, **__: None)
    monkeypatch.setattr("eir_seq.inference.chat.talk", lambda *_, **__: None)
    monkeypatch.setattr("eir_seq.inference.embed.embed", lambda *_, **__: Path())
    monkeypatch.setattr(multirun, "through_hydra", lambda *_: None)
    monkeypatch.setattr("eir_seq.commands.search.run_search", lambda *_: 0)
    monkeypatch.setattr("eir_seq.commands.search.check_building", lambda _: None)
    monkeypatch.setattr("eir_seq.commands.keys.fetched_bundle", lambda *_: Path())
    monkeypatch.setattr("eir_seq.commands.keys.local_file", lambda test, *_: test)
    for word in arguments:
        if word.startswith("run=") and "://" not in word:  # of a run that an earlier command makes
            Path(word.removeprefix("run=")).mkdir(parents=True, exist_ok=True)
    if arguments[0] == "runs":  # of a sweep that an earlier command makes
        folder = Path(arguments[2]) if arguments[1] == "show" else Path(arguments[2], "0")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.yaml", "manifest.json"):
            (folder / name).write_text('{"status": "failed"}')
    if arguments[0] == "schema":
        arguments = ["schema"]
    if arguments[0] == "bench":
        return 0 if parse_bench(arguments[1:]) else 1
    return main(arguments)


# ----------------------------------------------------------------------------------------------------------- YAML

PLAIN = {
    "start_from:": "tests/training/test_warm_start.py trains from another run",
    "type: image": "tests/docs/test_picture_examples.py builds these inputs",
    "type: array": "tests/docs/test_grid_examples.py trains with these",
    "type: omics": "tests/docs/test_grid_examples.py trains with these",
    "type: tabular": "tests/docs/test_table_examples.py trains with these",
    "type: bytes": "tests/docs/test_table_examples.py trains with these",
    'text: "{': "tests/docs/test_table_examples.py trains with these",
    "tracker: [": "tests/training/test_trackers.py logs to these",
    "tensors:": "tests/docs/test_tensor_examples.py builds these inputs, tests/modalities trains with such",
}
"""Examples whose rows are more than texts and labels: they are not trained with here."""
MODELS = {
    "causal_lm": "gpt2",
    "preference": "gpt2",
    "seq2seq_lm": "bart",
    "masked_lm": "bert",
    "replaced_token_detection": "electra",
    "span_corruption": "t5",
    "denoising": "bart",
}
"""An architecture that can do what an output asks for."""
LONGER = {
    "bert": {"max_position_embeddings": 512},
    "electra": {"max_position_embeddings": 512},
    "gpt2": {"n_positions": 512},
    "bart": {"max_position_embeddings": 512},
}
"""As many positions as an input has tokens by default."""


def completed(fragment: dict[str, Any], table: Path) -> dict[str, Any]:
    """An experiment around a part of one; what the part has is kept."""
    sequence = {"type": "sequence", "column": "text"}
    writes = any(words in str(fragment) for words in ("'shared'", "pretrained_parts"))  # as encoder-decoders do
    if writes and "outputs" not in fragment:
        fragment = {"inputs": {"text": fragment}, "outputs": {"summary": {"type": "seq2seq_lm", "column": "summary"}}}
    if fragment.keys() & {"model", "tokenizer"}:
        fragment = {"inputs": {"text": fragment}}
    outputs = fragment.get("outputs", {})
    if monitored := fragment.get("trainer", {}).get("monitor"):
        kind = "seq2seq_lm" if monitored["metric"] == "bleu" else "classification"
        outputs = {monitored["output"]: {"type": kind, "column": "label"}}
    types = [output["type"] for output in outputs.values()]
    talks = any({"prompt", "messages"} & output.keys() for output in outputs.values())
    model_type = MODELS.get(types[0] if types else "", "bert")
    options = {name: value for name, value in OPTIONS[model_type].items() if name != "vocab_size"}
    model = {"model_type": model_type, "model_init_config": {**options, **LONGER.get(model_type, {})}}
    named = next((output["input"] for output in outputs.values() if "input" in output), "text")
    inputs = fragment.get("inputs") or {named: {}}
    inputs = {
        name: declared
        if declared.get("type", "sequence") != "sequence" or declared.keys() & {"text", "share"}
        else {**(sequence if not talks else {"type": "sequence"}), **declared, "model": declared.get("model", model)}
        for name, declared in inputs.items()
    }
    outputs = outputs or {"label": {"type": "classification", "column": "label"}}
    return {"data": {"train": str(table)}, **fragment, "inputs": inputs, "outputs": outputs}


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_is_valid(block: Block, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(block.text)
    if content is None:
        assert block.text.startswith("# yaml-language-server: "), "a comment for editors"
        return
    if block.text.startswith("# conf/sweep/"):
        (project / "conf/sweep").mkdir()
        (project / "conf/sweep/mine.yaml").write_text(block.text)
        assert read_sweep(["sweep=mine"]).space
        return
    for name in named_in(block.text):  # a folder, so that its options are checked, too
        published(name, project)
    if "@package _global_" in block.text:
        (project / "conf/experiment/mine.yaml").write_text(block.text)
        assert accepted(["experiment=mine"], monkeypatch) == 0
        return
    validate_experiment(completed(content, project / "reviews.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_trains(block: Block, project: Path) -> None:
    content = yaml.safe_load(block.text)
    if content is None or any(words in block.text for words in (*PLAIN, "# conf/sweep/")):
        return
    for name in named_in(block.text):
        published(name, project)
    if "@package _global_" in block.text:
        (project / "conf/experiment/mine.yaml").write_text(block.text)
        assert main(["experiment=mine", *FAST]) == 0
        return
    experiment = completed(content, project / "rows.jsonl")
    rows = [row_for(experiment, number) for number in range(40)]
    (project / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trainer = {**experiment.get("trainer", {}), "max_steps": 2, "threads": 1}
    experiment |= {"trainer": trainer, "run": {"dir": "runs/example"}}
    train(validate_experiment(experiment))
    assert json.loads((project / "runs/example/result.json").read_text())["status"] == "finished"


def row_for(experiment: dict[str, Any], number: int) -> dict[str, Any]:
    """A row with the columns that an experiment reads."""
    words = f"the old boat {number} sees a kite . it finds no {number % 7} pier .".split()
    row: dict[str, Any] = {}
    for declared in experiment["inputs"].values():
        if "column" in declared:
            row[declared["column"]] = words if declared.get("is_split_into_words") else " ".join(words)
        row |= {declared["pair_column"]: " ".join(words)} if "pair_column" in declared else {}
    values = {
        "classification": ["negative", "positive"][number % 2],
        "regression": number % 10 + 1,
        "multi_label": [["a"], ["b", "a"]][number % 2],
        "ordinal": number % 3,
        "token_classification": ["O", "B"] * (len(words) // 2),
        "seq2seq_lm": " ".join(words[:5]),
        "similarity": number % 2,
    }
    for declared in experiment["outputs"].values():
        if "column" in declared:
            row[declared["column"]] = declared.get("order", [values[declared["type"]]] * 3)[number % 3]
        for place, column in enumerate(declared.get("columns", ())):
            row[column] = (number + place) % 2
    for declared in experiment["outputs"].values():
        row |= of_columns(declared, number)
    return row


def of_columns(declared: dict[str, Any], number: int) -> Iterator[tuple[str, Any]]:
    """The columns of an output that has no single one."""
    if declared["type"] == "survival":
        times, events = (
            [names] if isinstance(names, str) else names for names in (declared["time"], declared["event"])
        )
        yield from ((name, 1 + (7 * number + place) % 40) for place, name in enumerate(times))
        causes = ["0", *declared.get("causes", ["1"])]
        yield from ((name, causes[(number + place) % len(causes)]) for place, name in enumerate(events))
    elif "prompt" in declared:
        keys = [key for key in ("prompt", "response", "chosen", "rejected") if key in declared]
        yield from ((declared[key], f"{key} {number} kite") for key in keys)
    elif "messages" in declared:
        yield declared["messages"], [{"role": "user", "content": "boat ?"}, {"role": "assistant", "content": "pier"}]
    elif declared["type"] == "span":
        yield declared["question"], "who sees a kite ?"
        yield declared["answers"], {"text": ["boat"], "answer_start": [8]}


# --------------------------------------------------------------------------------------------------------- Python

PRELUDE = """
import torch
from pathlib import Path
from eir_seq.models import create_model, from_pretrained
from eir_seq.tokenizers import load_tokenizer
"""
BEFORE = {
    "model.resize_token_embeddings(": 'model = from_pretrained("gpt2"); tokenizer = load_tokenizer("gpt2")',
    "model.generate(ids, stop_strings": "ids = ids[:, :2]",
    "only_digits": "digits = torch.arange(model.config.vocab_size) % 2 == 0",
    'model = create_model("rwkv"': "ids = torch.arange(11, 17)[None]",
    'model = from_pretrained("facebook/bart-base", task="seq2seq-lm")':
        "ids = target_ids = torch.arange(11, 17)[None]; mask = torch.ones_like(ids)",
    'model = create_model("longformer"': "ids = torch.arange(11, 17)[None]; mask = torch.ones_like(ids)",
    'task="double-heads"':
        "ids = torch.arange(8).view(1, 2, 4); last = torch.tensor([[3, 3]]); right = torch.tensor([0])",
    'tokenizer = load_tokenizer("facebook/m2m100_418M"':
        'model = from_pretrained("facebook/m2m100_418M", task="seq2seq-lm")',
    'tokenizer = load_tokenizer("google/t5gemma':
        'model = from_pretrained("google/t5gemma-2b-2b-ul2-it", task="seq2seq-lm")',
    "predictor = Predictor(":
        "from eir_seq.training.run import train\n"
        "from tests.training.table import table_experiment\n"
        'train(table_experiment(Path("."), run={"dir": "RUN"}))',
    "model.generate(pixel_values=pixels":
        'size = from_pretrained("microsoft/git-base-coco").config.vision_config["image_size"]\n'
        "pixels = torch.rand(1, 3, size, size)",
}  # fmt: skip
"""What a reader has already where a block begins, by words of the block."""


@pytest.mark.parametrize("document", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_named_files(document, tmp_path)
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    exec(PRELUDE, space)
    for block in blocks(document, "python"):
        code = block.text
        before = [lines for words, lines in BEFORE.items() if words in code]
        for name in named_in("".join((code, *before))):
            published(name, tmp_path)
        for lines in before:
            exec(lines, space)
        if "parallelize" in code:  # as a whole
            continue
        kept = [line for line in code.splitlines() if not any(words in line for words in HARDWARE)]
        exec(compile("\n" * block.line + "\n".join(kept), str(document), "exec"), space)
