"""The catalogue's entry of persimmon."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "persimmon": Entry(
        config="options:PersimmonConfig",
        architecture="architecture:PERSIMMON",
        paper="https://www.adept.ai/blog/persimmon-8b",
        summary="Causal decoder with partial RoPE, norms on queries and keys, and squared ReLU.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
