"""The catalogue's entry of mra."""

from eir_seq.models.entry import TEXT_TASKS, Entry, Export

ENTRIES = {
    "mra": Entry(
        config="options:MraConfig",
        architecture="architecture:MRA",
        paper="https://arxiv.org/abs/2207.10284",
        summary="Bert for long texts: multiresolution attention, coarse between blocks and exact for the best pairs.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
        export=Export(
            lengths=(
                "An example of which all pairs of blocks are computed token by token gives a "
                "program for such texts, a longer one for longer texts."
            )
        ),
    ),
}
