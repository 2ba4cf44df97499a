"""The catalogue's entries of codegen, gptj."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "codegen": Entry(
        config="options:CodeGenConfig",
        architecture="architecture:CODEGEN",
        paper="https://arxiv.org/abs/2203.13474",
        summary="Gptj with another order of its projections, trained on programs.",
        tasks=("base", "causal-lm"),
    ),
    "gptj": Entry(
        config="options:GPTJConfig",
        architecture="architecture:GPTJ",
        paper="https://github.com/kingoflolz/mesh-transformer-jax",
        summary=(
            "Causal decoder whose attention and feed-forward block read one normed state; it turns neighbouring "
            "channels."
        ),
        tasks=("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
}
