"""The catalogue's entry of cohere."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "cohere": Entry(
        config="options:CohereConfig",
        architecture="architecture:COHERE",
        paper="https://cohere.com/blog/command-r",
        summary="Causal decoder with parallel attention and feed-forward on one norm, and interleaved RoPE.",
        tasks=("base", "causal-lm"),
    ),
}
