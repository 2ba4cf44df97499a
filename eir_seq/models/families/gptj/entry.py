"""The catalogue's entries of codegen, gptj."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "codegen": Entry(
        config="options:CodeGenConfig",
        architecture="architecture:CODEGEN",
        paper="https://arxiv.org/abs/2203.13474",
        summary="Gptj with another order of its projections, trained on source code.",
        tasks=("base", "causal-lm"),
    ),
    "gptj": Entry(
        config="options:GPTJConfig",
        architecture="architecture:GPTJ",
        paper="https://github.com/kingoflolz/mesh-transformer-jax",
        summary="Causal decoder with parallel attention and feed-forward on one norm, and interleaved RoPE.",
        tasks=("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
}
