"""The catalogue's entry of phi."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "phi": Entry(
        config="options:PhiConfig",
        architecture="architecture:PHI",
        paper="https://arxiv.org/abs/2306.11644",
        summary="Causal decoder with parallel attention and feed-forward on one norm, and partial RoPE.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
