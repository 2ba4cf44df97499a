"""The catalogue's entry of gemma."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "gemma": Entry(
        config="options:GemmaConfig",
        architecture="architecture:GEMMA",
        paper="https://arxiv.org/abs/2403.08295",
        summary="Llama with scaled embeddings, a free head size, and RMS norms scaled by one plus a weight.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
