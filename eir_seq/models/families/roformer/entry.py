"""The catalogue's entry of roformer."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "roformer": Entry(
        config="options:RoFormerConfig",
        architecture="architecture:ROFORMER",
        paper="https://arxiv.org/abs/2104.09864",
        summary=(
            "Bert without a table of positions: queries and keys (and values, if asked) are rotated by their positions."
        ),
        tasks=ROBERTA_TASKS,
    ),
}
