"""Led: targets may be as long as its decoder has positions, sources as its encoder has."""

from __future__ import annotations

import pytest

from eir_seq.config.schema import DataConfig
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality
from eir_seq.modalities.base import Purpose
from eir_seq.modalities.encoders.backbone import build_sequence_encoder
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.seq2seq import FittedSeq2Seq
from eir_seq.outputs.seq2seq_lm.config import Seq2SeqLmOutputConfig
from eir_seq.rows import Rows
from tests.modalities.test_seq2seq import ROWS, SIZES


def test_targets_are_bounded_by_the_positions_of_the_decoder() -> None:
    config = {"max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 12}
    model = {"model_type": "led", "model_init_config": {**SIZES["bart"], "attention_window": 4, **config}}
    source = SequenceInputConfig.model_validate(
        {"column": "from", "max_length": 32, "tokenizer": {"type": "word"}, "model": model}
    )
    for most in (12, 13):
        output = Seq2SeqLmOutputConfig(column="to", input="source", max_length=most)
        fitted = build_modality("source", source, Purpose(written=output)).fit(Rows.of(ROWS), 0)
        assert isinstance(fitted, FittedSeq2Seq)
        if most == 12:
            build_sequence_encoder(fitted, DataConfig(train="rows.csv"), pretrained=True, task="seq2seq-lm")
            continue
        with pytest.raises(UserError, match=r"13 tokens of a target \(max_length\) are more than the 12 positions of"):
            build_sequence_encoder(fitted, DataConfig(train="rows.csv"), pretrained=True, task="seq2seq-lm")
