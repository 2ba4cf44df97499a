"""The catalogue's entry of longt5."""

from eir_seq.models.entry import DENSE, T5_TASKS, Entry, Export

ENTRIES = {
    "longt5": Entry(
        config="options:LongT5Config",
        architecture="architecture:LONGT5",
        paper="https://arxiv.org/abs/2112.07916",
        summary="T5 for long texts: local attention in its encoder, optionally with transient global tokens.",
        tasks=T5_TASKS[:3],
        export=Export(
            note=DENSE,
            lengths=(
                "With `encoder_attention_type: transient-global`, texts have at least `global_block_size` tokens."
            ),
        ),
    ),
}
