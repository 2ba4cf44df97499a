"""The catalogue's entry of ernie."""

from eir_seq.models.entry import BERT_TASKS, Entry

ENTRIES = {
    "ernie": Entry(
        config="options:ErnieConfig",
        architecture="architecture:ERNIE",
        paper="https://arxiv.org/abs/1904.09223",
        summary="Bert with optional task type embeddings (task_type_ids).",
        tasks=BERT_TASKS,
        pooler=True,
        tensors=("task_type_ids",),
    ),
}
