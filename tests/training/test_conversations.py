"""Instruction tuning from rows to answers: the loss, packing, what a run leaves, what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from eir_seq.commands.chat import run as chat_command
from eir_seq.errors import UserError
from eir_seq.inference.chat import Dialogue, talk
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.run import train
from eir_seq.training.samples import read_samples
from tests.training.conversations import experiment, questions, raw, talks, with_model, write_json_lines

MESSAGES: dict[str, Any] = {"type": "causal_lm", "messages": "messages", "generate_rows": 0}


pytestmark = pytest.mark.usefixtures("one_thread")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------ losses and packing


def parts_of(folder: Path, **changes: Any) -> Parts:
    write_json_lines(folder / "train.jsonl", talks(24))
    return assemble(experiment(folder, **{"outputs": {"answer": MESSAGES}, **changes}), Console())


def loss_of(parts: Parts, split: str = "train") -> float:
    """The mean over all tokens of a split that are learned, and the gradient of a weight is left behind."""
    output, sums, counts = parts.outputs["answer"], 0.0, 0.0
    for batch in parts.data.train_dataloader() if split == "train" else parts.batches(split):
        raw = parts.network.run(batch)["answer"]
        assert output.loss_counts(batch["inputs"], batch["targets"]["answer"]).tolist() == raw[:, 1:].tolist()
        loss: Any = output.loss_terms(raw, batch["targets"]["answer"]).sum()
        loss.backward()
        sums, counts = sums + loss.item(), counts + raw[:, 1].sum().item()
    return sums / counts


@pytest.mark.parametrize("which", ["answers", "last", "all"])
def test_packed_and_separate_have_the_loss_of_the_reference(tmp_path: Path, which: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    found, gradients = {}, {}
    for layout in ("separate", "packed"):
        outputs = {"answer": {**MESSAGES, "documents": layout, "train_on": which}}
        inputs = {"chat": {**raw(tmp_path)["inputs"]["chat"], "max_length": 96}}
        parts = parts_of(tmp_path, inputs=inputs, outputs=outputs, data={"validation": None})
        backbone: Any = parts.network.encoder("chat").backbone
        found[layout] = loss_of(parts)
        gradients[layout] = backbone.body.embeddings.tokens.weight.grad.clone()
        rows = len(parts.data.encoded["train"])
        assert (rows == 24) == (layout == "separate"), "of 96 tokens a row holds more than one"
    backbone.save_pretrained(tmp_path / "model")
    reference = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer: Any = parts.inputs["chat"].tokenizer  # type: ignore[attr-defined]
    sums, counts = 0.0, 0
    for row in talks(24):
        ids, labels = [], []
        for number, message in enumerate(row["messages"]):
            own = tokenizer.encode_batch([f"{message['content']}<|end|>"])[0].ids
            mark = tokenizer.encode_batch([f"<|{message['role']}|>"])[0].ids
            last = number == len(row["messages"]) - 1
            learned = message["role"] == "assistant" and (which == "answers" or last)
            ids += [*mark, *own]
            labels += [*mark, *own] if which == "all" else [-100, *(own if learned else [-100] * len(own))]
        output = reference(torch.tensor([ids]), labels=torch.tensor([labels]))
        learned_tokens = sum(label >= 0 for label in labels[1:])
        (output.loss * learned_tokens).backward()
        sums, counts = sums + output.loss.item() * learned_tokens, counts + learned_tokens
    expected = reference.get_input_embeddings().weight.grad
    for layout, value in found.items():
        assert value == pytest.approx(sums / counts, rel=1e-6), layout
        torch.testing.assert_close(gradients[layout], expected, atol=1e-3, rtol=1e-3, msg=layout)  # of sums over tokens


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "rwkv", "bloom"])
def test_conversations_of_a_row_do_not_see_each_other(tmp_path: Path, model_type: str) -> None:
    options = {"gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 1, "n_positions": 64}}.get(
        model_type, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    )
    if model_type == "bloom":
        options = {"hidden_size": 16, "n_layer": 1, "n_head": 2}
    if model_type == "rwkv":
        options = {"hidden_size": 16, "num_hidden_layers": 1, "attention_hidden_size": 16, "context_length": 64}
    source = with_model({"model_type": model_type, "model_init_config": options}, tokenizer={"type": "character"})
    parts = parts_of(tmp_path, inputs=source, outputs={"answer": {**MESSAGES, "documents": "packed"}})
    batch = next(iter(parts.data.train_dataloader()))
    parts.network.eval()
    own = dict(batch["inputs"]["chat"])
    rows = own["window_rows"].tolist()
    first, second = next((n, n + 1) for n in range(len(rows) - 1) if rows[n] == rows[n + 1])
    changed = dict(own, input_ids=own["input_ids"].clone())
    changed["input_ids"][first] = own["input_ids"][first].roll(1)
    encoder: Any = parts.network.encoder("chat")
    with torch.no_grad():
        before, after = encoder.read(**own), encoder.read(**changed)
    mask = before.mask[second]
    assert torch.equal(before.states[second][mask], after.states[second][mask])
    assert not torch.equal(before.states[first], after.states[first])
    alone = {name: x[second : second + 1] for name, x in own.items() if name != "window_rows"}
    with torch.no_grad():
        states = encoder.read(**alone).states[0]
    torch.testing.assert_close(before.states[second][mask], states[mask], atol=1e-5, rtol=1e-4)


def test_a_packed_row_holds_as_many_as_fit(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, outputs={"answer": {**MESSAGES, "documents": "packed"}})
    packed, lengths = parts.data.encoded["train"], parts.data.encoded["train"].lengths[:, 0]
    texts = packed.inputs["chat"].texts  # type: ignore[attr-defined]
    assert sorted(text for row in texts for text in row) == list(range(12))
    assert lengths.max() <= 64
    assert sum(sorted(lengths)[:2]) > 64, "no two rows would fit into one"
    assert packed.ids[0] == "packed-1"
    assert len(parts.data.encoded["validation"]) == 12, "rows of an evaluation are conversations"
    assert parts.shown("train", "chat")[0].startswith("<|")
    batch = packed[next(iter(packed.in_order(parts.data.config.data)))]
    raw = parts.network.run(batch)["answer"]
    assert raw.shape == (len(batch["id"]), 2)


# ---------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talker")
    write_json_lines(folder / "train.jsonl", questions(60))
    write_json_lines(folder / "test.jsonl", questions(6, seed=1))
    data = {"test": str(folder / "test.jsonl"), "id": "id"}
    trainer = {"monitor": {"metric": "rougeL"}, "max_epochs": 3}
    train(experiment(folder, data=data, trainer=trainer), finish=lambda path: write_report(path))
    return folder


def test_what_a_run_leaves(finished: Path) -> None:
    result = json.loads((finished / "run" / "result.json").read_text())
    assert result["monitor"]["metric"] == "rougeL"
    rows = read(finished / "run" / "predictions" / "test.csv")
    assert rows[0].keys() == {"id", "answer_true", "answer_prompt", "answer"}
    right = sum(row["answer"] == row["answer_true"] for row in rows) / len(rows)
    assert result["test"]["answer"]["exact_match"] == pytest.approx(right)
    sample = read_samples(finished / "run")[-1]
    assert sample.prompt == f"say {sample.true}"
    page = (finished / "run" / "report" / "index.html").read_text()
    for text in (f"<b>{sample.prompt}</b>", f"= {sample.true}", "Exact match", "6 of 12 rows have a written answer"):
        assert text in page, text


def test_the_bundle_answers_as_the_run_did(finished: Path, tmp_path: Path) -> None:
    path = predict(finished / "run", test=str(finished / "test.jsonl"), output=tmp_path / "found.csv")
    assert path.read_text() == (finished / "run" / "predictions" / "test.csv").read_text()
    metrics = json.loads((tmp_path / "found.metrics.json").read_text())
    assert metrics == json.loads((finished / "run" / "result.json").read_text())["test"]
    same = read(path)
    bare = write_json_lines(
        tmp_path / "bare.jsonl", [{"id": row["id"], "question": row["answer_prompt"]} for row in same]
    )
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{row['answer_prompt']}\n" for row in same))
    for source in (bare, lines):
        rows = read(predict(finished / "run", test=str(source), output=tmp_path / "other.csv"))
        assert [row["answer"] for row in rows] == [row["answer"] for row in same]
        assert "answer_true" not in rows[0]
    [row] = read(predict(finished / "run", prompt=same[0]["answer_prompt"], output=tmp_path / "one.csv"))
    assert row["answer"] == same[0]["answer"]
    [found] = Predictor(read_bundle(finished / "run" / "bundle")).predict([{"question": same[0]["answer_prompt"]}])
    assert found["answer"] == same[0]["answer"]


def test_the_published_model_answers_in_other_libraries(finished: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    folder = finished / "run" / "pretrained" / "chat"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    row = read(finished / "run" / "predictions" / "test.csv")[0]
    talk_ = [{"role": "user", "content": row["answer_prompt"]}]
    prompt = tokenizer.apply_chat_template(talk_, add_generation_prompt=True, return_tensors="pt")
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    written = model.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=end, pad_token_id=end)
    assert tokenizer.decode(written[0, prompt.shape[1] : -1]) == row["answer"]


def test_a_dialogue_keeps_what_was_said(finished: Path) -> None:
    dialogue = Dialogue.open(finished / "run", accelerator="cpu")
    out = io.StringIO()
    talk(dialogue, io.StringIO("say red\n\n/reset\nsay blue\n/rest\nsay red\n/quit\nsay gold\n"), out=out)
    lines = out.getvalue().splitlines()
    assert lines[2] == "/rest is no command: /reset begins a new conversation, /quit ends"
    assert [message["content"] for message in dialogue.messages] == ["say blue", lines[1], "say red", lines[3]]
    assert lines[0] == read_bundle_answer(finished, "say red")


def read_bundle_answer(folder: Path, text: str) -> str:
    [row] = Predictor(read_bundle(folder / "run" / "bundle")).predict([{"question": text}])
    answer: str = row["answer"]
    return answer


def test_the_command_chats(finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("say red\n"))
    assert chat_command([f"bundle={finished / 'run'}", "generation.max_new_tokens=1"]) == 0
    assert len(capsys.readouterr().out.strip()) <= 1
    assert chat_command(["--help"]) == 0
    assert "/reset begins a new one" in capsys.readouterr().out
    for words, message in (
        (["run=nowhere"], "run: no such file or folder: 'nowhere'"),
        (["system=x"], "run: is missing; name a run folder, or the bundle in it"),
        (["run=.", "bundle=."], "run: is the same as bundle"),
        (["run=.", "sytem=x"], "sytem: unknown key; did you mean 'system'?"),
        ([f"run={finished / 'run'}", "generation.max_token=2"], "generation.max_token: not an option of generate"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            chat_command(words)


def test_adapters_checkpointing_and_half_precision_together(finished: Path, tmp_path: Path) -> None:
    write_json_lines(tmp_path / "train.jsonl", talks(24))
    model = {
        "model_type": str(finished / "run" / "pretrained" / "chat"),
        "pretrained_model": True,
        "lora": {"rank": 2},
        "gradient_checkpointing": True,
    }
    outputs = {"answer": {**MESSAGES, "documents": "packed", "prompts": ["say red"]}}
    config = experiment(
        tmp_path, inputs=with_model(model), outputs=outputs, trainer={"precision": "bf16-mixed", "max_epochs": 1}
    )
    train(config)
    samples = read_samples(tmp_path / "run")
    assert [sample.prompt for sample in samples] == ["say red"]
    bundle = read_bundle(tmp_path / "run" / "bundle")
    assert Predictor(bundle).predict([{"messages": talks(1)[0]["messages"]}])[0]["answer"] is not None


# ------------------------------------------------------------------------------------------------------ data


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_messages_of_all_formats_are_the_same(tmp_path: Path, kind: str) -> None:
    rows, path = talks(16), tmp_path / f"train.{kind}"
    if kind == "jsonl":
        write_json_lines(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "messages"])
            writer.writerows([row["id"], json.dumps(row["messages"])] for row in rows)
    data = {"train": str(path), "id": "id", "validation": 4}
    parts = assemble(experiment(tmp_path, outputs={"answer": MESSAGES}, data=data), Console())
    first = parts.data.encoded["train"].inputs["chat"].sequences("ids", [0])[0]
    fitted: Any = parts.inputs["chat"]
    assert fitted.tokenizer.decode(first).startswith("<|system|>repeat<|end|><|user|>say ")


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"messages": "hello"}, "'messages' is 'hello', not a list of messages such as"),
    ({"messages": [{"role": "user", "content": "a"}]}, "'messages' does not end with an answer of the assistant"),
    ({"messages": [{"role": "bot", "content": "a"}]}, "'messages' has the unknown role 'bot' (message 1; system,"),
    ({"messages": []}, "'messages' has no message"),
    ({"messages": None}, "'messages' is missing"),
    ({"messages": "[{"}, "'messages' is not valid JSON"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS, ids=[message[:40] for _, message in BAD_ROWS])
def test_rows_that_are_no_conversations(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    rows = [{"id": own["id"], "messages": json.dumps(own["messages"])} for own in talks(8)]
    value = row["messages"]
    rows.append({"id": "bad", "messages": value if value is None or isinstance(value, str) else json.dumps(value)})
    write_json_lines(tmp_path / "train.jsonl", rows)
    config = experiment(tmp_path, outputs={"answer": MESSAGES}, data={"validation": 2, "id": "id"})
    with pytest.raises(UserError, match=re.escape(f"train.jsonl line 9: {message}")):
        assemble(config, Console())
    data = {"validation": 2, "id": "id", "on_bad_row": "skip"}
    parts = assemble(experiment(tmp_path, outputs={"answer": MESSAGES}, data=data), Console())
    assert [skipped.id for skipped in parts.splits.skipped] == ["bad"]


def test_a_response_that_is_empty(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "train.jsonl", [*questions(8), {"id": "bad", "question": "say", "answer": ""}])
    with pytest.raises(UserError, match=r"train.jsonl line 9: 'answer' is empty"):
        assemble(experiment(tmp_path), Console())


def test_rows_that_the_template_refuses_are_named(tmp_path: Path) -> None:
    turns = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns!') }}{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"  # noqa: E501
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    rows = [{"id": f"r{n}", "messages": [user, answer]} for n in range(8)]
    rows[3]["messages"] = rows[6]["messages"] = [user, user, answer]
    write_json_lines(tmp_path / "train.jsonl", rows)
    outputs = {"answer": {**MESSAGES, "chat_template": turns}}
    config = experiment(tmp_path, outputs=outputs, data={"validation": None, "id": "id"})
    message = "outputs.answer: the template refuses the conversation of train rows 'r3', 'r6': turns!"
    with pytest.raises(UserError, match=re.escape(message)):
        assemble(config, Console())


def test_long_conversations_are_said_and_their_answers_stay(tmp_path: Path) -> None:
    rows = [*questions(6), {"question": "say " + "red " * 40, "answer": "gold"}]
    write_json_lines(tmp_path / "train.jsonl", rows)
    parts = assemble(experiment(tmp_path, data={"validation": None}), Console())
    assert parts.data.warnings == [
        "inputs.chat: 1 of 7 train conversations are longer than 64 tokens; their oldest turns are left out, or the "
        "beginning of the prompt"
    ]
    fitted, source = parts.inputs["chat"], parts.data.encoded["train"].inputs["chat"]
    ids, learned = source.sequences("ids", [6])[0], source.sequences("learned", [6])[0]
    assert len(ids) == 64
    assert fitted.tokenizer.decode(ids[learned > 0]) == "gold<|end|>"  # type: ignore[attr-defined]


OUTPUT = {"type": "causal_lm", "prompt": "question", "response": "answer"}
SOURCE = {"type": "sequence", "max_length": 64, "model": {"model_type": "llama", "model_init_config": {}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"outputs": {"a": {**OUTPUT, "messages": "m"}}},
            "outputs.a.messages: cannot be combined with prompt; keep one",
        ),
        (
            {"outputs": {"a": {**MESSAGES, "response": "r"}}},
            "outputs.a.response: cannot be combined with messages, which",
        ),
        (
            {"outputs": {"a": {"type": "causal_lm", "prompt": "q"}}},
            "outputs.a.response: is missing; name the column of",
        ),
        (
            {"outputs": {"a": {"type": "causal_lm", "response": "r"}}},
            "outputs.a.prompt: is missing; name the column that `response` answers",
        ),
        ({"outputs": {"a": {**OUTPUT, "response": "question"}}}, "outputs.a.response: column 'question' is read as pr"),
        ({"outputs": {"a": {**OUTPUT, "train_on": "last"}}}, "outputs.a.train_on: 'last' has no effect with prompt"),
        ({"outputs": {"a": {**OUTPUT, "train_on": "first"}}}, "outputs.a.train_on: 'first' is not one of "),
        (
            {"outputs": {"a": OUTPUT, "b": {"type": "regression", "column": "n"}}},
            "outputs.a: a causal_lm output cannot be combined with others (b)",
        ),
        (
            {"inputs": {"chat": {**SOURCE, "column": "question"}}},
            "inputs.chat.column: must be left out: outputs.answer names the columns of its conversations",
        ),
        (
            {"inputs": {"chat": {**SOURCE, "truncation": "tail"}}},
            "inputs.chat.truncation: has no effect with conversations, of which the oldest turns are left out",
        ),
        (
            {"inputs": {"chat": {**SOURCE, "model": {"model_type": "t5", "model_init_config": {}}}}},
            "inputs.chat.model.model_type: 't5' has no language-model head (task causal-lm)",
        ),
        ({"outputs": {"a": {"type": "causal_lm"}}}, "inputs.chat.column: is missing"),
        (
            {"inputs": {"chat": {**SOURCE, "column": "t"}}, "outputs": {"a": {"type": "causal_lm", "train_on": "all"}}},
            "outputs.a.train_on: has no effect without prompt or messages",
        ),
        (
            {"outputs": {"a": OUTPUT}, "trainer": {"monitor": {"metric": "bits_per_byte"}}},
            "trainer.monitor.metric: 'bits_per_byte' of outputs.a is not measured in conversations",
        ),
        (
            {"outputs": {"a": {**OUTPUT, "generate_rows": 0}}, "trainer": {"monitor": {"metric": "exact_match"}}},
            "trainer.monitor.metric: 'exact_match' is measured on written answers; outputs.a.generate_rows is 0",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_json_lines(tmp_path / "train.jsonl", questions(4))
    with pytest.raises(UserError, match=f"(?m)^{re.escape(message)}"):
        experiment(tmp_path, **changes)


def test_a_column_that_is_not_there_is_named_by_the_output(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "train.jsonl", questions(6))
    for key in ("prompt", "response"):
        outputs = {"answer": {**OUTPUT, key: "nothing"}}
        with pytest.raises(UserError, match=f"outputs.answer.{key}: .*'nothing'"):
            assemble(experiment(tmp_path, outputs=outputs), Console())


def test_the_config_survives_being_written(tmp_path: Path) -> None:
    from eir_seq.config.validation import validate_experiment
    from eir_seq.training.folder import plain

    write_json_lines(tmp_path / "train.jsonl", questions(4))
    config = experiment(tmp_path)
    assert validate_experiment(plain(config)) == config
    assert "column" not in raw(tmp_path)["inputs"]["chat"]
