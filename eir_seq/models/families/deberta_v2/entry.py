"""The catalogue's entry of deberta-v2."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "deberta-v2": Entry(
        config="options:DebertaV2Config",
        architecture="architecture:DEBERTA_V2",
        paper="https://arxiv.org/abs/2111.09543",
        summary="Deberta with log-bucketed relative positions and an optional convolution; versions 2 and 3.",
        tasks=("base", "masked-lm", *TEXT_TASKS),
    ),
}
