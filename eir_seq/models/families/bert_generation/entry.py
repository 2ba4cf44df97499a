"""The catalogue's entry of bert-generation."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "bert-generation": Entry(
        config="options:BertGenerationConfig",
        architecture="architecture:BERT_GENERATION",
        paper="https://arxiv.org/abs/1907.12461",
        summary="Bert without segments and pooler, as the encoder or the decoder of a text generator.",
        tasks=("base", "causal-lm"),
    ),
}
