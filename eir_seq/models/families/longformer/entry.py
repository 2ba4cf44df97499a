"""The catalogue's entry of longformer."""

from eir_seq.models.entry import DENSE, TEXT_TASKS, Entry, Export

ENTRIES = {
    "longformer": Entry(
        config="options:LongformerConfig",
        architecture="architecture:LONGFORMER",
        paper="https://arxiv.org/abs/2004.05150",
        summary="Roberta with attention in a sliding window and global tokens that have projections of their own.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        pooler=True,
        tensors=("global_attention_mask",),
        export=Export(note=DENSE),
    ),
}
