"""Sources with their targets: labels, lengths, special tokens of decoders, what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.schema import DataConfig
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.base import Purpose
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.seq2seq import TARGET_LENGTH, FittedSeq2Seq
from eir_seq.outputs.generation.source import TextSource
from eir_seq.outputs.generation.writing import Writer
from eir_seq.outputs.language.decoder_head import Seq2SeqLmHead
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.randomness import Draw
from eir_seq.rows import Rows
from eir_seq.tokenizers import load_tokenizer

ROWS: dict[str, list[Any]] = {"from": ["a b c", "b", "c a"], "to": ["x y z x y", "z", "y x"]}
SIZES = {
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
    "bart": {
        "d_model": 8,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 8),
    },
}
TINY = {name: SIZES["t5" if name in ("t5", "mt5") else "bart"] for name in ("t5", "mt5", "bart", "mbart", "m2m_100")}
GEMMA = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
}


def fit(model_type: str = "t5", rows: dict[str, list[Any]] = ROWS, most: int = 32, **options: Any) -> FittedSeq2Seq:
    model = {"model_type": model_type, "model_init_config": {**TINY.get(model_type, {}), **options}}
    config = SequenceInputConfig.model_validate(
        {"column": "from", "max_length": 16, "tokenizer": {"type": "word"}, "model": model}
    )
    output = Seq2SeqLmOutputConfig(column="to", input="source", max_length=most)
    fitted = build_modality("source", config, Purpose(written=output)).fit(Rows.of(rows), 0)
    assert isinstance(fitted, FittedSeq2Seq)
    return fitted


def ids(fitted: FittedSeq2Seq, *words: str) -> list[int]:
    return [fitted.tokenizer.token_to_id(word) for word in words]  # type: ignore[misc]


def test_one_tokenizer_reads_both_sides() -> None:
    fitted = fit()
    assert None not in ids(fitted, "a", "b", "c", "x", "y", "z")
    assert fitted.describe()["target"] == {"column": "to", "max_length": 32, "mean": 4.7, "max": 7}


def test_labels_are_framed_cut_before_their_end_and_ignored_behind_it() -> None:
    fitted = fit(most=4)
    encoded = EncodedInMemory(fitted, {**ROWS, "to": ["x y z x y", None, "y"]})
    assert encoded.numbers(TARGET_LENGTH).tolist() == [4, 0, 3]
    labels = fitted.collator(encoded, [2, 0, 1], Draw(0))["labels"].tolist()
    begin, end, x, y = ids(fitted, "[CLS]", "[SEP]", "x", "y")
    assert labels == [[begin, y, end, -100], [begin, x, y, end], [-100] * 4]
    assert fitted.target_statistics["cut"] == 0.6667, "two of three are as long as they may be"


def test_batches_know_the_length_of_what_is_written() -> None:
    from eir_seq.data.dataset import EncodedSplit

    fitted = fit()
    encoded = EncodedInMemory(fitted, ROWS)
    split = EncodedSplit(["1", "2", "3"], {"source": encoded}, {}, {}, 0, {"source": fitted.COSTS})
    assert split.lengths.tolist() == [[5, 7], [3, 3], [4, 4]]


@pytest.mark.parametrize("model_type", TINY)
def test_decoders_begin_and_end_with_tokens_of_this_tokenizer(model_type: str) -> None:
    fitted = fit(model_type)
    encoder: Any = fitted.build_encoder(DataConfig(train="x"), task="seq2seq-lm")
    backbone = encoder.backbone
    pad, end = ids(fitted, "[PAD]", "[SEP]")
    starts = {"t5": pad, "mt5": pad, "bart": end, "mbart": None, "m2m_100": end}
    assert backbone.head.config.decoder_start_id == starts[model_type]
    assert backbone.config.eos_token_id == end
    assert backbone.config.pad_token_id == pad
    assert getattr(backbone.config, "forced_eos_token_id", None) in (None, end)
    encoded = EncodedInMemory(fitted, ROWS)
    tokens = encoder.read(**fitted.collator(encoded, range(3), Draw(0)))
    assert tokens.states.shape == (3, 7, 8)
    assert Seq2SeqLmHead(0.0)(tokens)[:, 1].tolist() == [7, 3, 4]


def test_what_the_config_says_of_tokens_holds() -> None:
    fitted = fit("bart", decoder_start_token_id=4, forced_eos_token_id=None)
    encoder: Any = fitted.build_encoder(DataConfig(train="x"), task="seq2seq-lm")
    assert encoder.backbone.head.config.decoder_start_id == 4
    assert encoder.backbone.config.forced_eos_token_id is None


def test_a_target_leaves_out_the_token_that_its_decoder_begins_with() -> None:
    """Twice, it would have the same state at both places: rotary positions do not tell equal tokens apart."""
    fitted = fit("t5gemma", encoder=GEMMA)
    encoder: Any = fitted.build_encoder(DataConfig(train="x"), task="seq2seq-lm")
    begin, end, x, y = ids(fitted, "[CLS]", "[SEP]", "x", "y")
    assert (encoder.given_tokens, encoder.backbone.head.config.decoder_start_id) == (1, begin)
    batch = fitted.collator(EncodedInMemory(fitted, {**ROWS, "to": ["x y", None, "y"]}), range(3), Draw(0))
    assert batch["labels"].tolist() == [[begin, x, y, end], [-100] * 4, [begin, y, end, -100]]
    tokens = encoder.read(**batch)
    assert tokens.inputs["labels"].tolist() == [[x, y, end], [-100] * 3, [y, end, -100]]
    assert tokens.inputs["decoder_input_ids"][0].tolist() == [begin, x, y]
    nothing = {name: x[1:2] for name, x in batch.items()} | {"labels": batch["labels"][1:2, :1]}
    assert Seq2SeqLmHead(0.0)(encoder.read(**nothing))[0, 1] == 0
    for other in ("t5", "bart", "m2m_100"):
        assert fit(other).build_encoder(DataConfig(train="x"), task="seq2seq-lm").given_tokens == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("model_type", ["t5gemma", "t5"])
def test_what_was_learnt_is_written(model_type: str) -> None:
    """The frame of a target in training is that of what `Writer` generates."""
    torch.manual_seed(0)
    fitted = fit(model_type, **({"encoder": GEMMA} if model_type == "t5gemma" else {"d_model": 16, "dropout_rate": 0}))
    encoder: Any = fitted.build_encoder(DataConfig(train="x"), task="seq2seq-lm")
    batch = fitted.collator(EncodedInMemory(fitted, ROWS), range(3), Draw(0))
    optimizer, head = torch.optim.AdamW(encoder.parameters(), lr=1e-2), Seq2SeqLmHead(0.0)
    for _ in range(60):
        optimizer.zero_grad()
        head(encoder.read(**batch))[:, 0].sum().backward()
        optimizer.step()
    before, behind = fitted.target_frame
    work = Writer(
        name="text",
        generation={},
        source=TextSource(["source"], dict, encoder.eval(), fitted.tokenizer, before, behind, fitted.end, 8),
        sources=ROWS["from"],
        true=ROWS["to"],
        rows=frozenset(range(3)),
        seed=0,
    )
    with torch.inference_mode():
        work.write(range(3), batch)
        scores = head(encoder.read(**batch))
    assert [work.texts[row] for row in range(3)] == ROWS["to"]
    torch.testing.assert_close(torch.tensor([work.scores[row] for row in range(3)]), -scores[:, 0] / scores[:, 1])


def test_a_text_that_spells_its_end_ends_once(tmp_path: Path) -> None:
    fitted = fit()
    fitted.tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "split_special_tokens": False}))
    fitted.tokenizer = load_tokenizer(tmp_path)
    begin, end, x = ids(fitted, "[CLS]", "[SEP]", "x")
    assert [row.tolist() for row in fitted.target_ids(["x", "x [SEP]", "[SEP] x [SEP] [SEP]", "[SEP]"])] == [
        [begin, x, end],
        [begin, x, end],
        [begin, end, x, end],
        [begin, end],
    ]


def test_targets_longer_than_the_positions_are_refused() -> None:
    fitted = fit("bart", max_position_embeddings=16)
    with pytest.raises(UserError, match=r"outputs: 32 tokens of a target \(max_length\) are more than the 16 posit"):
        fitted.build_encoder(DataConfig(train="x"), task="seq2seq-lm")


def test_a_fitted_source_comes_back(tmp_path: Path) -> None:
    fitted = fit()
    fitted.save(tmp_path)
    again = load_modality(tmp_path)
    assert isinstance(again, FittedSeq2Seq)
    assert again.fingerprint() == fitted.fingerprint() != fit(most=4).fingerprint()
    assert again.describe() == fitted.describe()
    assert again.columns == ("from", "to")
