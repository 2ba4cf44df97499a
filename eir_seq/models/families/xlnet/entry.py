"""The catalogue's entry of xlnet."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "xlnet": Entry(
        config="options:XLNetConfig",
        architecture="architecture:XLNET",
        paper="https://arxiv.org/abs/1906.08237",
        summary="Encoder by distances and segments that keeps states between texts and predicts tokens in any order.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3], "answer-search", "multiple-choice"),
    ),
}
