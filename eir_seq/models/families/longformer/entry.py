"""The catalogue's entry of longformer."""

from eir_seq.models.entry import DENSE, TEXT_TASKS, Entry, Export

ENTRIES = {
    "longformer": Entry(
        config="options:LongformerConfig",
        architecture="architecture:LONGFORMER",
        paper="https://arxiv.org/abs/2004.05150",
        summary="Roberta with sliding-window attention and global tokens that have their own projections.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        pooler=True,
        tensors=("global_attention_mask",),
        export=Export(note=DENSE),
    ),
}
