"""The catalogue's entries of mt5, t5."""

from eir_seq.models.entry import T5_TASKS, Entry

ENTRIES = {
    "mt5": Entry(
        config="options:MT5Config",
        architecture="architecture:MT5",
        paper="https://arxiv.org/abs/2010.11934",
        summary="T5 for a hundred languages, with a gate in the feed-forward blocks and a head of its own.",
        tasks=T5_TASKS,
    ),
    "t5": Entry(
        config="options:T5Config",
        architecture="architecture:T5",
        paper="https://arxiv.org/abs/1910.10683",
        summary=(
            "Encoder and decoder with relative position biases shared by all layers, RMS norms in front, no "
            "linear biases."
        ),
        tasks=T5_TASKS,
    ),
}
