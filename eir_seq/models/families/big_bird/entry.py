"""The catalogue's entries of big_bird, bigbird_pegasus."""

from eir_seq.models.entry import PAIR_TASKS, TEXT_TASKS, Entry, Export

LENGTHS = (
    "An example of at most `(5 + 2 * num_random_blocks) * block_size` tokens gives a program for such texts, where all "
    "tokens look at all; a longer one gives a program for longer texts."
)
ENTRIES = {
    "big_bird": Entry(
        config="options:BigBirdConfig",
        architecture="architecture:BIG_BIRD",
        paper="https://arxiv.org/abs/2007.14062",
        summary="Bert for long texts: block-sparse attention with local windows, global tokens and random blocks.",
        tasks=("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
        pooler=True,
        export=Export(lengths=LENGTHS),
    ),
    "bigbird_pegasus": Entry(
        config="options:BigBirdPegasusConfig",
        architecture="architecture:BIGBIRD_PEGASUS",
        paper="https://arxiv.org/abs/2007.14062",
        summary="Pre-norm encoder-decoder for long texts, with big_bird's block-sparse attention in its encoder.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
        export=Export(lengths=LENGTHS),
    ),
}
