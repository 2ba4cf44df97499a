"""The catalogue's entry of led."""

from eir_seq.models.entry import DENSE, PAIR_TASKS, Entry, Export

ENTRIES = {
    "led": Entry(
        config="options:LEDConfig",
        architecture="architecture:LED",
        paper="https://arxiv.org/abs/2004.05150",
        summary="Bart for long texts, with longformer's sliding window and global tokens in its encoder.",
        tasks=(*PAIR_TASKS[:3], "sequence-classification", "question-answering"),
        tensors=("global_attention_mask",),
        export=Export(note=DENSE),
    ),
}
