"""The catalogue's entry of mvp."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "mvp": Entry(
        config="options:MvpConfig",
        architecture="architecture:MVP",
        paper="https://arxiv.org/abs/2206.12131",
        summary="Bart pretrained on labelled data of many tasks, with learned keys and values per task if wanted.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
}
