"""From published parameter names of bert to those used here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eir_seq.models.checkpoint.keymap import Alias, Row, Same, Unused, for_layers
from eir_seq.models.families.bert.options import WithTables

LAYER, NATIVE = "encoder.layer.{i}.", "layers.{i}."

BERT_LAYER_ROWS: tuple[Row, ...] = (
    Same(LAYER + "attention.self.query", NATIVE + "mixer.query"),
    Same(LAYER + "attention.self.key", NATIVE + "mixer.key"),
    Same(LAYER + "attention.self.value", NATIVE + "mixer.value"),
    Same(LAYER + "attention.self.distance_embedding", NATIVE + "mixer.distances.table"),
    Same(LAYER + "attention.output.dense", NATIVE + "mixer.out"),
    Same(LAYER + "attention.output.LayerNorm", NATIVE + "mixer_norm"),
    Same(LAYER + "crossattention.self.query", NATIVE + "cross.query"),
    Same(LAYER + "crossattention.self.key", NATIVE + "cross.key"),
    Same(LAYER + "crossattention.self.value", NATIVE + "cross.value"),
    Same(LAYER + "crossattention.output.dense", NATIVE + "cross.out"),
    Same(LAYER + "crossattention.output.LayerNorm", NATIVE + "cross_norm"),
    Same(LAYER + "intermediate.dense", NATIVE + "mlp.up"),
    Same(LAYER + "output.dense", NATIVE + "mlp.down"),
    Same(LAYER + "output.LayerNorm", NATIVE + "mlp_norm"),
)


def bert_rows(c: WithTables) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings.word_embeddings", "embeddings.tokens")
    if getattr(c, "position_embedding_type", "absolute") == "absolute":
        yield Same("embeddings.position_embeddings", "embeddings.positions")
    else:
        width = getattr(c, "embedding_size", None) or c.hidden_size
        yield Unused("embeddings.position_embeddings.weight", (c.max_position_embeddings, width))
    yield Same("embeddings.token_type_embeddings", "embeddings.segments")
    yield Same("embeddings.LayerNorm", "embeddings.norm")
    yield from for_layers(c.num_hidden_layers, *BERT_LAYER_ROWS)
    yield Same("pooler.dense", "pooler.dense")


BERT_LANGUAGE_MODEL_ROWS: tuple[Same, ...] = (
    Same("cls.predictions.transform.dense", "dense"),
    Same("cls.predictions.transform.LayerNorm", "norm"),
    Same("cls.predictions.decoder.weight", "out.weight"),
    Same("cls.predictions.bias", "bias"),
    Alias("cls.predictions.decoder.bias", "bias"),
)


def pretraining_rows(tokens: tuple[Same, ...]) -> tuple[Same, ...]:
    """The key map of `PreTraining`, from that of its head of hidden tokens."""
    return *(replace(row, native=f"tokens.{row.native}") for row in tokens), Same("cls.seq_relationship", "pairs.out")


BERT_PRETRAINING_ROWS = pretraining_rows(BERT_LANGUAGE_MODEL_ROWS)
