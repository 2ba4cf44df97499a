"""The catalogue's entries of mt5, t5."""

from eir_seq.models.entry import T5_TASKS, Entry

ENTRIES = {
    "mt5": Entry(
        config="options:MT5Config",
        architecture="architecture:MT5",
        paper="https://arxiv.org/abs/2010.11934",
        summary="T5 for a hundred languages, with gated feed-forward and an untied head.",
        tasks=T5_TASKS,
    ),
    "t5": Entry(
        config="options:T5Config",
        architecture="architecture:T5",
        paper="https://arxiv.org/abs/1910.10683",
        summary="Pre-norm encoder-decoder with shared relative position biases, RMS norms and no linear biases.",
        tasks=T5_TASKS,
    ),
}
