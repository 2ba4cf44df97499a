"""The catalogue's entry of nezha."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "nezha": Entry(
        config="options:NezhaConfig",
        architecture="architecture:NEZHA",
        paper="https://arxiv.org/abs/1909.00204",
        summary="Bert without a table of positions: fixed sinusoids of the distance enter keys and values.",
        tasks=("base", "masked-lm", "next-sentence", "pretraining", *TEXT_TASKS),
        pooler=True,
    ),
}
