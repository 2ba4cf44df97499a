"""The catalogue's entry of nezha."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "nezha": Entry(
        config="options:NezhaConfig",
        architecture="architecture:NEZHA",
        paper="https://arxiv.org/abs/1909.00204",
        summary="Bert with fixed sinusoidal relative positions, added to keys and values, in place of a table.",
        tasks=("base", "masked-lm", "next-sentence", "pretraining", *TEXT_TASKS),
        pooler=True,
    ),
}
