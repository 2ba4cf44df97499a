"""The catalogue's entry of mega."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "mega": Entry(
        config="options:MegaConfig",
        architecture="architecture:MEGA",
        paper="https://arxiv.org/abs/2209.10655",
        summary="Single-head gated attention over an exponential moving average; linear in length with chunks.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
