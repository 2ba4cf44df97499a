"""The catalogue's entry of ctrl."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "ctrl": Entry(
        config="options:CTRLConfig",
        architecture="architecture:CTRL",
        paper="https://arxiv.org/abs/1909.05858",
        summary="Causal decoder with sinusoidal positions; the first token is a control code for the kind of text.",
        tasks=("base", "causal-lm", "sequence-classification"),
    ),
}
