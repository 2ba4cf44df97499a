"""The catalogue's entry of persimmon."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "persimmon": Entry(
        config="options:PersimmonConfig",
        architecture="architecture:PERSIMMON",
        paper="https://www.adept.ai/blog/persimmon-8b",
        summary="Causal decoder that turns half of every head, norms queries and keys, and squares its activations.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
