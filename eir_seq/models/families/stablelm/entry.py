"""The catalogue's entry of stablelm."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "stablelm": Entry(
        config="options:StableLmConfig",
        architecture="architecture:STABLELM",
        paper="https://arxiv.org/abs/2402.17834",
        summary="Llama with layer norms and partial RoPE.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
