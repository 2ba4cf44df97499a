"""The catalogue's entry of roformer."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "roformer": Entry(
        config="options:RoFormerConfig",
        architecture="architecture:ROFORMER",
        paper="https://arxiv.org/abs/2104.09864",
        summary="Bert with RoPE in place of a position table, on queries, keys and optionally values.",
        tasks=ROBERTA_TASKS,
    ),
}
