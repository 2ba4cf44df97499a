"""The catalogue's entry of bert."""

from eir_seq.models.entry import BERT_TASKS, Entry

ENTRIES = {
    "bert": Entry(
        config="options:BertConfig",
        architecture="architecture:BERT",
        paper="https://arxiv.org/abs/1810.04805",
        summary="Bidirectional post-norm encoder with learned positions and segments, and a tanh pooler.",
        tasks=BERT_TASKS,
        pooler=True,
    ),
}
