"""The catalogue's entry of albert."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "albert": Entry(
        config="options:AlbertConfig",
        architecture="architecture:ALBERT",
        paper="https://arxiv.org/abs/1909.11942",
        summary="Bert with factorized embeddings and one group of layers (or a few) whose weights all layers share.",
        tasks=("base", "masked-lm", "pretraining", *TEXT_TASKS),
        pooler=True,
    ),
}
