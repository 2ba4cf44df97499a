"""The catalogue's entry of mvp."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "mvp": Entry(
        config="options:MvpConfig",
        architecture="architecture:MVP",
        paper="https://arxiv.org/abs/2206.12131",
        summary="Bart pretrained on labelled data of many tasks, with optional prefix tuning per task.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
}
