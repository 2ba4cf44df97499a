"""The catalogue's entry of rembert."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "rembert": Entry(
        config="options:RemBertConfig",
        architecture="architecture:REMBERT",
        paper="https://arxiv.org/abs/2010.12821",
        summary="Bert with narrow input embeddings and a separate, wider output embedding.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
