"""The catalogue's entry of xlnet."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "xlnet": Entry(
        config="options:XLNetConfig",
        architecture="architecture:XLNET",
        paper="https://arxiv.org/abs/1906.08237",
        summary="Permutation language model with relative positions and segments, which caches states between texts.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3], "answer-search", "multiple-choice"),
    ),
}
