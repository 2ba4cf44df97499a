"""Sequence-to-sequence outputs: what the head sums up, the metrics of texts, what is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eir_seq.modalities.encoders.backbone import Seq2SeqEncoder
from eir_seq.models import create_model
from eir_seq.models.heads.token_nll import token_nll
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.generation.writing import Writer, spread
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.outputs.seq2seq_lm.fitted import FittedSeq2SeqLm
from eir_seq.outputs.seq2seq_lm.text_metrics import text_metrics
from eir_seq.tokenizers import train_tokenizer

TOKENIZER = train_tokenizer("byte", [])
END, PAD = TOKENIZER.sep_id, TOKENIZER.pad_id
OPTIONS = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": TOKENIZER.vocab_size + 3}
SOURCES = torch.tensor([[7, 8, 9, 10, END], [11, 12, END, PAD, PAD], [13, END, PAD, PAD, PAD]])
LABELS = torch.tensor([[20, 21, 22, END], [23, END, -100, -100], [-100] * 4])


def fitted(**options: Any) -> FittedSeq2SeqLm:
    output = build_output("text", Seq2SeqLmOutputConfig(column="to", input="from", **options)).fit({})
    assert isinstance(output, FittedSeq2SeqLm)
    return output


def encoder(model_type: str = "t5", **options: Any) -> Seq2SeqEncoder:
    torch.manual_seed(0)
    tokens = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD, "dropout_rate": 0.0}
    model = create_model(model_type, {**OPTIONS, **tokens, **options}, task="seq2seq-lm")
    return Seq2SeqEncoder(model, hidden_size=8, pool="avg", num_types=0).eval()


def test_the_head_sums_the_loss_of_the_target() -> None:
    reader = encoder()
    tokens = reader.read(SOURCES, SOURCES != PAD, labels=LABELS)
    raw = fitted().build_head(8).eval()(tokens).detach()
    assert raw[:, 1].tolist() == [4, 2, 0]
    expected = reader.backbone(input_ids=SOURCES, attention_mask=SOURCES != PAD, labels=LABELS)
    assert fitted().loss_counts({"from": {"labels": LABELS}}, torch.zeros(3)).tolist() == [[4], [2], [0]]
    torch.testing.assert_close(fitted().loss_terms(raw, torch.zeros(3)).sum() / 6, expected.loss)
    assert fitted().evaluate(raw, torch.zeros(3))["loss"] == pytest.approx(expected.loss.item(), rel=1e-6)
    assert fitted().errors(raw, torch.zeros(3))[2] == 0


def test_labels_are_smoothed_in_training_alone() -> None:
    reader = encoder()
    tokens = reader.read(SOURCES, SOURCES != PAD, labels=LABELS)
    logits = reader.backbone(input_ids=SOURCES, attention_mask=SOURCES != PAD, labels=LABELS).logits
    output = fitted(label_smoothing=0.3)
    head = output.build_head(8)
    for training, smoothing in ((True, 0.3), (False, 0.0)):
        raw = head.train(training)(tokens)
        expected = F.cross_entropy(logits.flatten(0, 1), LABELS.flatten(), label_smoothing=smoothing)
        torch.testing.assert_close(output.loss_terms(raw, torch.zeros(3)).sum() / 6, expected)


def test_chunks_smooth_as_the_whole_does() -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(9, 4, requires_grad=True), torch.randn(11, 4)
    labels = torch.randint(11, (9,))
    whole, parts = (
        token_nll(states, labels, lambda x: x @ weight.T, most=most, label_smoothing=0.2) for most in (1000, 25)
    )
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), states)[0] for x in (whole, parts)))


def test_padding_of_either_side_does_not_matter() -> None:
    reader = encoder()
    alone = reader.read(SOURCES[1:2, :3], torch.ones(1, 3, dtype=torch.bool), labels=LABELS[1:2, :2])
    for pack in (True, False):
        reader.backbone.pack = pack  # type: ignore[assignment]
        together = reader.read(SOURCES, SOURCES != PAD, labels=LABELS)
        torch.testing.assert_close(together.states[1, :2], alone.states[0], atol=1e-6, rtol=1e-5)


def test_metrics_of_texts() -> None:
    same = text_metrics(["the cat sat on the mat", "no"], ["the cat sat on the mat ", "no"])
    assert same == pytest.approx(
        {"bleu": 100, "chrf": 100, "rouge1": 1, "rouge2": 0.5, "rougeL": 1, "rougeLsum": 1, "exact_match": 1}
    ), "a text of one word has no pair of words"
    found = text_metrics(["the cat the mat"], ["the cat sat on the mat"])
    assert found["rouge1"] == pytest.approx(2 * 1 * (4 / 6) / (1 + 4 / 6))
    assert found["rouge2"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert found["rougeL"] == found["rouge1"]
    assert found["exact_match"] == 0
    precisions = 4 / 4 * 2 / 3 * 0.5 / 2 * 0.25 / 1  # where nothing is found: half of the one before (exp)
    assert found["bleu"] == pytest.approx(100 * 2.718281828 ** (1 - 6 / 4) * precisions**0.25, rel=1e-4)


def test_metrics_read_any_script_and_cut_words_as_asked() -> None:
    assert text_metrics(["кошка спит"], ["кошка ест"])["rouge1"] == 0.5
    assert text_metrics([""], ["something"])["rouge1"] == 0
    chinese = {kind: text_metrics(["我爱北京"], ["我爱南京"], bleu_tokenizer=kind)["bleu"] for kind in ("13a", "zh")}
    assert chinese["13a"] == 0 < chinese["zh"]


def writer(reader: Seq2SeqEncoder, rows: frozenset[int], **options: Any) -> Writer:
    return Writer(
        name="text",
        generation=fitted(**options).config.generation,
        measure=fitted(**options).measure_texts,
        source=TextSource(["from"], dict, reader, TOKENIZER, [], [END], END, 6),
        sources=["a", "b", "c"],
        true=["x", None, "z"],
        rows=rows,
        seed=3,
    )


@pytest.mark.parametrize("generation", [{}, {"num_beams": 3}, {"do_sample": True}, {"max_new_tokens": 3}])
def test_texts_are_those_of_generate_and_scores_those_of_their_tokens(generation: dict[str, Any]) -> None:
    reader = encoder()
    work = writer(reader, frozenset({0, 2}), generation=generation)
    with torch.inference_mode():
        work.write([2, 1, 0], {"input_ids": SOURCES, "attention_mask": SOURCES != PAD, "labels": LABELS})
    assert sorted(work.texts) == [0, 2]
    columns = work.columns()
    assert columns["text"][1] == columns["text_score"][1] == ""
    if generation.get("do_sample"):
        again = writer(reader, frozenset({0, 2}), generation=generation)
        again.write([2, 1, 0], {"input_ids": SOURCES, "attention_mask": SOURCES != PAD})
        assert again.texts == work.texts
        return
    chosen = SOURCES[[0]]
    ids = reader.backbone.generate(  # type: ignore[operator]
        chosen, (chosen != PAD).long(), eos_token_id=END, **{"max_new_tokens": 6, **generation}
    )[0, 1:]
    ids = ids[: ids.tolist().index(END) + 1] if END in ids else ids
    assert work.texts[2] == TOKENIZER.decode(
        [token for token in ids.tolist() if token < TOKENIZER.vocab_size], skip_special_tokens=True
    )
    nll = reader.backbone(input_ids=chosen, labels=ids[None]).loss
    assert work.scores[2] == pytest.approx(-nll.item(), rel=1e-5)
    assert work.metrics().keys() == text_metrics(["a"], ["a"]).keys()


def test_texts_begin_as_targets_do() -> None:
    reader = encoder()
    work = writer(reader, frozenset({0}), generation={"max_new_tokens": 2})
    work.source = replace(work.source, before=[TOKENIZER.cls_id, 9])  # type: ignore[list-item]
    labels = work.generated({"input_ids": SOURCES, "attention_mask": SOURCES != PAD}, 0)
    assert labels[:, 0].tolist() == [TOKENIZER.cls_id] * 3


def test_rows_are_evenly_spread() -> None:
    assert sorted(spread(10, 4)) == [0, 2, 5, 7]
    assert spread(3, 5) == spread(3, 3) == {0, 1, 2}
    assert spread(10, 0) == set()
    assert all(len(spread(rows, 7)) == min(rows, 7) for rows in range(1, 40))


def test_a_saved_output_comes_back(tmp_path: Path) -> None:
    output = fitted(label_smoothing=0.1, generation={"num_beams": 2})
    output.save(tmp_path / "text.json")
    again = load_output(tmp_path / "text.json")
    assert isinstance(again, FittedSeq2SeqLm)
    assert again.state == output.state
