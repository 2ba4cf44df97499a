"""The catalogue's entry of mega."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "mega": Entry(
        config="options:MegaConfig",
        architecture="architecture:MEGA",
        paper="https://arxiv.org/abs/2209.10655",
        summary=(
            "Gated attention with one head that reads moving averages; linear in the length, if it looks at chunks."
        ),
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
