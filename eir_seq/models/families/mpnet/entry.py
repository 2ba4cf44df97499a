"""The catalogue's entry of mpnet."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "mpnet": Entry(
        config="options:MPNetConfig",
        architecture="architecture:MPNET",
        paper="https://arxiv.org/abs/2004.09297",
        summary="Roberta without segments, with relative position biases that all layers share.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        pooler=True,
    ),
}
