"""The catalogue's entry of llama."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "llama": Entry(
        config="options:LlamaConfig",
        architecture="architecture:LLAMA",
        paper="https://arxiv.org/abs/2302.13971",
        summary="Causal decoder with RoPE, RMS norms, grouped-query attention and gated feed-forward; also code_llama.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
        synonyms=("code_llama",),
    ),
}
