"""Answers to questions: windows, loss, scores, predictions, and answers that are not in their texts."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.config.outputs import NO_ANSWER
from eir_seq.config.tokenizers import WordTokenizerConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.dataset import BatchKey
from eir_seq.errors import UserError
from eir_seq.inference.predict import predict
from eir_seq.inference.predictor import Predictor
from eir_seq.inference.report import write_report
from eir_seq.modalities.sequence.questions import windows
from eir_seq.outputs import build_output
from eir_seq.outputs.span.answers import best_answers
from eir_seq.outputs.span.config import SpanOutputConfig
from eir_seq.outputs.span.output import END, FROM, START, TO
from eir_seq.outputs.span.scores import exact_match, f1
from eir_seq.tokenizers import train_tokenizer
from eir_seq.training.assemble import assemble
from eir_seq.training.bundle import read_bundle
from eir_seq.training.console import Console
from eir_seq.training.run import train

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {"colour": ["red", "dark blue", "green"], "animal": ["dog", "old cow", "bird"]}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions about what a context says, or does not say."""
    draw, found = random.Random(seed), []
    for number in range(count):
        said = {kind: draw.choice(values) for kind, values in KINDS.items() if draw.random() < 0.8}
        parts = [f"the {kind} is {value}" for kind, value in said.items()]
        parts += draw.choices(["it rains", "so be it"], k=3)
        draw.shuffle(parts)
        context, asked = ". ".join(parts) + ".", draw.choice(list(KINDS))
        answer = said.get(asked)
        texts = [answer] if answer else []
        starts = [context.index(f"{asked} is {text}") + len(f"{asked} is ") for text in texts]
        found.append(
            {
                "id": f"{seed}-{number}",
                "context": context,
                "question": f"What is the {asked}?",
                "answers": {"text": texts, "answer_start": starts},
            }
        )
    return found


def experiment(
    folder: Path, *, output: dict[str, Any] | None = None, source: dict[str, Any] | None = None, **more: Any
) -> Any:
    for seed, (split, count) in enumerate((("train", 120), ("validation", 30), ("test", 30))):
        if not (path := folder / f"{split}.jsonl").exists():
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, seed)))
    given: dict[str, Any] = {
        "data": {"source": "table", "id": "id", "batch_size": 16, "cache_dir": str(folder / "cache")}
        | {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
        "inputs": {
            "context": {"type": "sequence", "column": "context", "max_length": 24}
            | {"model": {"model_type": "bert", "model_init_config": SIZES}}
            | (source or {})
        },
        "outputs": {"answer": {"type": "span", "input": "context", "question": "question", "answers": "answers"}},
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "threads": 1, "monitor": {"metric": "f1"}},
        "run": {"dir": str(folder / "run")},
    }
    given["outputs"]["answer"] |= output or {}
    return given


def test_windows_cover_a_text() -> None:
    for length, question, room, stride in [(10, 2, 6, 3), (30, 9, 8, 4), (31, 1, 8, 1), (5, 3, 9, 2), (7, 0, 3, 3)]:
        kept, begins = windows(length, question, room, stride)
        assert kept + min(question, room // 2) == room
        covered = {place for begin in begins for place in range(begin, min(begin + kept, length))}
        assert covered == set(range(length))
        assert begins == sorted(set(begins))
        assert begins[-1] + kept == max(kept, length)


def test_batches_have_the_question_and_windows_of_the_text(tmp_path: Path) -> None:
    config = validate_experiment(experiment(tmp_path, output={"stride": 5}))
    with Console() as console:
        parts = assemble(config, console)
    split, tokenizer = parts.data.encoded["validation"], parts.inputs["context"].tokenizer
    texts = rows(30, 1)
    batch = split[BatchKey((0, 1, 2, 3))]["inputs"]["context"]
    assert batch["window_rows"].tolist() == sorted(batch["window_rows"].tolist())
    assert len(batch["window_rows"]) > 4
    for number, row in enumerate(batch["window_rows"].tolist()):
        ids, mask, offsets = (batch[name][number] for name in ("input_ids", "attention_mask", "offsets"))
        assert int(mask.sum()) <= 24
        assert offsets[0].tolist() == [NO_ANSWER, NO_ANSWER]
        pair = tokenizer.encode_batch([texts[row]["question"]])[0].ids
        assert ids[1 : 1 + len(pair)].tolist() == list(pair)  # behind the first special token
        text = texts[row]["context"]
        for token, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
            if start >= 0:
                assert list(tokenizer.encode_batch([text[start:end]])[0].ids) == [token]
    trained = split[BatchKey((0, 1, 2, 3), 0)]["inputs"]["context"]
    assert trained["window_rows"].tolist() == [0, 1, 2, 3]  # one window of each row
    drawn = {tuple(split[BatchKey((0,), epoch)]["inputs"]["context"]["offsets"][0, -3].tolist()) for epoch in range(9)}
    assert len(drawn) > 1


def places(*tokens: tuple[float, float, int, int], window: int = 1) -> torch.Tensor:
    return torch.tensor([[*token, window] for token in [(0.0, 0.0, NO_ANSWER, NO_ANSWER), *tokens]])


def fitted(**options: Any) -> Any:
    config = SpanOutputConfig(input="context", **options).with_text("context")
    return build_output("answer", config).fit(table(rows(20)))


def table(given: list[dict[str, Any]]) -> dict[str, list[Any]]:
    columns = {name: [row[name] for row in given] for name in given[0]}
    return {**columns, "answers": [json.dumps(cell) for cell in columns["answers"]]}


def test_loss_is_the_mean_over_windows_of_the_cross_entropy() -> None:
    output = fitted()
    one = places((1.0, 0.5, 0, 3), (2.0, -1.0, 4, 7), (0.5, 3.0, 8, 12))
    two = places((1.0, 1.0, 8, 12), (0.0, 0.0, 13, 15), (0.0, 0.3, 16, 18), window=2)
    raw = torch.stack([torch.cat([one, two]), torch.cat([one, torch.zeros(4, 5)])])
    terms = output.loss_terms(raw, torch.tensor([[4, 12, 0], [-1, -1, 1]])).squeeze(1)

    def entropy(scores: torch.Tensor, place: int) -> float:
        return float(-scores.log_softmax(dim=0)[place])

    first = (entropy(one[:, START], 2) + entropy(one[:, END], 3)) / 2
    second = (entropy(two[:, START], 0) + entropy(two[:, END], 0)) / 2  # it has not the whole answer
    assert terms[0] == pytest.approx((first + second) / 2, rel=1e-6)
    assert terms[1] == pytest.approx((entropy(one[:, START], 0) + entropy(one[:, END], 0)) / 2, rel=1e-6)


def test_loss_is_that_of_the_reference_implementation(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = validate_experiment(experiment(tmp_path, source={"max_length": 64}))
    with Console() as console:
        parts = assemble(config, console)
    ours, output = parts.network.eval(), parts.outputs["answer"]
    sizes = {**SIZES, "vocab_size": parts.inputs["context"].tokenizer.vocab_size, "num_labels": 2}
    theirs = transformers.BertForQuestionAnswering(transformers.BertConfig(**sizes)).eval()
    encoder = ours.encoder("context").backbone
    published = dict(zip(theirs.bert.state_dict(), theirs.bert.state_dict().values(), strict=True))
    from eir_seq.models.checkpoint.matching import match

    encoder.load_state_dict(match(encoder, published).tensors, strict=False)
    head = ours.head("answer")
    head.out.load_state_dict(theirs.qa_outputs.state_dict())
    for row in range(6):  # one by one: the reference implementation's softmax has padding in it
        batch = parts.data.encoded["validation"][BatchKey((row,))]
        given = {name: x for name, x in batch["inputs"]["context"].items() if name not in ("offsets", "window_rows")}
        raw, target = ours(batch["inputs"])["answer"], batch["targets"]["answer"]
        inside = [
            int(((raw[0, :, FROM] <= c) & (c < raw[0, :, TO])).int().argmax())
            for c in target[0, :2] - torch.tensor([0, 1])
        ]
        start, end = inside if target[0, 0] >= 0 else (0, 0)
        wanted = theirs(**given, start_positions=torch.tensor([start]), end_positions=torch.tensor([end]))
        assert torch.allclose(raw[0, :, START], wanted.start_logits[0], atol=1e-5)
        # single precision over 20 tokens
        assert float(output.loss_terms(raw, target).detach()) == pytest.approx(float(wanted.loss.detach()), abs=1e-5)


def test_best_answers() -> None:
    raw = torch.cat(
        [
            places((2.0, 0.0, 0, 3), (0.0, 2.0, 4, 7), (1.0, 1.5, 8, 12)),
            places((3.0, 0.0, 8, 12), (0.0, 1.0, 13, 15), window=2),
        ]
    ).numpy()
    raw = np.concatenate([raw, np.zeros((3, 5), np.float32)])
    raw[2, [FROM, TO]] = -1  # of a question: no answer, whatever its scores are
    raw[2, [START, END]] = 9
    found = best_answers(raw, 3, 30, may_lack=False)
    assert [(answer.start, answer.end) for answer in found] == [(8, 15), (0, 12), (8, 12)]
    assert all(one.probability > other.probability for one, other in pairwise(found))
    assert (8, 15) not in {(answer.start, answer.end) for answer in best_answers(raw, 9, 1, may_lack=False)}
    raw[raw[:, FROM] == NO_ANSWER, START] = [9.0, 1.0]
    assert best_answers(raw, 1, 30, may_lack=True)[0].start == 8  # one window may say that it has none
    raw[raw[:, FROM] == NO_ANSWER, START] = 9.0
    assert best_answers(raw, 1, 30, may_lack=True)[0].start == -1
    assert best_answers(np.zeros((2, 5), np.float32), 1, 30, may_lack=False)[0].start == -1


@pytest.mark.parametrize(
    ("answer", "true", "exact", "words"),
    [
        ("The Hat!", ["hat"], 1, 1),
        ("", [], 1, 1),
        ("hat", [], 0, 0),
        ("", ["hat"], 0, 0),
        ("a big red hat", ["red hat", "hat"], 0, 0.8),
        ("red red", ["red"], 0, 2 / 3),
        ("the", ["a"], 1, 1),
    ],
)
def test_scores_are_those_of_squad(answer: str, true: list[str], exact: float, words: float) -> None:
    assert exact_match(answer, true) == exact
    assert f1(answer, true) == pytest.approx(words)


def test_a_run_reads_windows_and_predicts(tmp_path: Path) -> None:
    given = experiment(tmp_path, output={"stride": 6, "n_best": 3})
    result = train(validate_experiment(given), finish=write_report)
    assert result["test"]["answer"].keys() == {"loss", "exact_match", "f1"}
    predict(tmp_path / "run", test=str(tmp_path / "test.jsonl"), output=tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "run/predictions/test.csv").read_text()
    test = rows(30, 2)
    predicted = Predictor(read_bundle(tmp_path / "run/bundle")).predict(
        [{"context": row["context"], "question": row["question"]} for row in test]
    )
    matches = []
    for row, found in zip(test, predicted, strict=True):
        best = json.loads(found["answer_best"])
        assert len(best) <= 3
        assert best[0]["text"] == found["answer"]
        if found["answer_start"] >= 0:
            assert row["context"][found["answer_start"] : found["answer_end"]] == found["answer"]
        matches.append(f1(found["answer"], row["answers"]["text"]))
    assert np.mean(matches) == pytest.approx(result["test"]["answer"]["f1"])
    assert "without" in (tmp_path / "run/report/index.html").read_text()


@pytest.mark.slow
def test_answers_are_learnt(tmp_path: Path) -> None:
    for seed, (split, count) in enumerate((("train", 1200), ("validation", 150), ("test", 150))):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(count, seed)))
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = {"model_type": "bert", "model_init_config": {**SIZES, "num_hidden_layers": 2, **without}}
    given = experiment(tmp_path, source={"model": model, "max_length": 48})
    given["trainer"] |= {"max_epochs": 12}
    given["optimizer"] = {"type": "adamw", "lr": 0.003}
    assert train(validate_experiment(given))["test"]["answer"]["exact_match"] > 0.95


def test_files_of_squad(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        paragraphs = [
            {
                "context": row["context"],
                "qas": [
                    {
                        "id": row["id"],
                        "question": row["question"],
                        "is_impossible": not row["answers"]["text"],
                        "answers": [
                            {"text": text, "answer_start": start}
                            for text, start in zip(*row["answers"].values(), strict=True)
                        ],
                    }
                ],
            }
            for row in rows(20, seed)
        ]
        articles = [{"title": "a", "paragraphs": paragraphs[:7]}, {"title": "b", "paragraphs": paragraphs[7:]}]
        (tmp_path / f"{split}.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    given = experiment(tmp_path)
    given["data"] |= {split: str(tmp_path / f"{split}.json") for split in ("train", "validation", "test")}
    with Console() as console:
        parts = assemble(validate_experiment(given), console)
    wanted = [row["answers"]["answer_start"] for row in rows(20, 0)]
    target = parts.data.encoded["train"].targets["answer"][:]
    assert target[:, 0].tolist() == [starts[0] if starts else -1 for starts in wanted]
    assert parts.outputs["answer"].describe()["unanswered"] == sum(not starts for starts in wanted)
    assert any("longer than 24 tokens" in warning for warning in parts.data.warnings)


def test_columns_of_answers() -> None:
    given = [row for row in rows(20) if row["answers"]["text"]]
    columns: dict[str, list[Any]] = {
        **table(given),
        "answers": [row["answers"]["text"][0] for row in given],
        "start": [float(row["answers"]["answer_start"][0]) for row in given],
    }
    config = SpanOutputConfig(input="context", answer_start="start", context="context")
    output = build_output("answer", config).fit(columns)
    target = output.targets(columns)
    assert [row["context"][a:b] for row, (a, b, _) in zip(given, target.tolist(), strict=True)] == columns["answers"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"text": ["bat"], "answer_start": [4]}, "has the answer 'bat', which is not in the text"),
        ({"text": ["cat"], "answer_start": [40]}, "has answer_start 40 in a text of 16 characters; 'cat' is at 4"),
        ({"text": ["cat"], "answer_start": [-1]}, "has answer_start -1 in a text of 16 characters; 'cat' is at 4"),
        ({"text": ["cat"], "answer_start": [5]}, "has 'cat' at 5, where the text is 'at '; it is at 4"),
        ({"text": ["cat", "sat"], "answer_start": [4]}, "has 2 texts and 1 values of answer_start"),
        ({"text": ["cat"], "answer_start": ["4"]}, "has an answer_start '4' that is not an integer"),
        ({"text": [""], "answer_start": [4]}, "has an answer '' that is not text"),
        ({"text": ["cat"]}, 'not of the form {"text": [...], "answer_start": [...]}'),
        ([{"text": "cat"}], "a list whose items are no answers (text, answer_start)"),
        ({"text": [], "answer_start": []}, "has no answer in the 1 training rows"),
    ],
)
def test_bad_answers(cell: Any, message: str) -> None:
    given = {"context": ["the cat sat down"], "question": ["who?"], "answers": [json.dumps(cell)], "id": ["row-7"]}
    config = SpanOutputConfig(input="context", context="context")
    with pytest.raises(UserError) as raised:
        build_output("answer", config).fit(given)
    assert f"outputs.answer.answers: column 'answers' {message}" in str(raised.value) or message in str(raised.value)
    assert "row-7" in str(raised.value) or "training rows" in message


@pytest.mark.parametrize(
    ("output", "source", "message"),
    [
        ({}, {"pair_column": "title"}, "inputs.context.pair_column: is 'title'; outputs.answer has its question there"),
        ({"question": "context"}, {}, "outputs.answer.question: column 'context' holds the text of inputs.context"),
        ({"context": "body"}, {}, "outputs.answer.context: is 'body'; inputs.context reads 'context'"),
        ({"answer_start": "answers"}, {}, "outputs.answer.answer_start: column 'answers' holds the answers already"),
        ({}, {"truncation": "tail"}, "inputs.context.truncation: has no effect: outputs.answer reads windows (stride)"),
        ({}, {"is_split_into_words": True}, "inputs.context.is_split_into_words: cannot be used"),
        ({"stride": 90}, {}, "stride 90 is more than the"),
    ],
)
def test_bad_options(tmp_path: Path, output: dict[str, Any], source: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised, Console() as console:
        assemble(validate_experiment(experiment(tmp_path, output=output, source=source)), console)
    assert message in str(raised.value)


def test_windows_need_the_input_for_themselves(tmp_path: Path) -> None:
    given = experiment(tmp_path, output={"stride": 5})
    given["outputs"]["kind"] = {"type": "classification", "column": "question"}
    with pytest.raises(UserError) as raised:
        validate_experiment(given)
    assert "outputs.answer.stride: cannot be used: outputs.kind reads one vector per text" in str(raised.value)


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 200}
XLNET = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32, "vocab_size": 200}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 200} | {
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


def from_checkpoint(folder: Path, model: Any, **more: Any) -> Any:
    """The parts of an experiment whose input reads a saved model."""
    model.save_pretrained(folder / "model")
    train_tokenizer(WordTokenizerConfig(), [row["context"] for row in rows(40)]).save(folder / "model")
    source = {"model": {"model_type": str(folder / "model"), "pretrained_model": True}}
    with Console() as console:
        return assemble(validate_experiment(experiment(folder, source=source | more)), console)


def test_the_head_of_a_checkpoint_for_question_answering_is_loaded(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForQuestionAnswering(transformers.BertConfig(**TINY)).eval()
    parts = from_checkpoint(tmp_path, theirs, max_length=64)
    batch = parts.data.encoded["validation"][BatchKey((0,))]
    given = {name: x for name, x in batch["inputs"]["context"].items() if name not in ("offsets", "window_rows")}
    with torch.no_grad():
        raw, wanted = parts.network.eval()(batch["inputs"])["answer"], theirs(**given)
    assert torch.allclose(raw[0, :, START], wanted.start_logits[0], atol=1e-6)
    assert torch.allclose(raw[0, :, END], wanted.end_logits[0], atol=1e-6)
    assert wanted.start_logits.std() > 0.01, "the scores differ"


@pytest.mark.parametrize(
    ("name", "sizes"), [("XLNetForQuestionAnswering", XLNET), ("BartForQuestionAnswering", BART), ("BertModel", TINY)]
)
def test_other_heads_are_new(tmp_path: Path, capsys: Any, name: str, sizes: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, name)
    from_checkpoint(tmp_path, model(model.config_class(**sizes)))
    said = [line for line in capsys.readouterr().out.splitlines() if "outputs.answer" in line]
    message = "warning: outputs.answer: starts with a new head, as that of"
    reason = f"{message} {name} ({tmp_path / 'model'}) is not one linear layer with two scores per token"
    assert said == ([reason] if "Answering" in name else [])
