"""The catalogue's entry of splinter."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "splinter": Entry(
        config="options:SplinterConfig",
        architecture="architecture:SPLINTER",
        paper="https://arxiv.org/abs/2101.00438",
        summary="Bert without pooler whose question tokens select the spans that answer them.",
        tasks=("base", "pretraining", "question-answering"),
    ),
}
