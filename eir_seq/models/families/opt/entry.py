"""The catalogue's entry of opt."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "opt": Entry(
        config="options:OPTConfig",
        architecture="architecture:OPT",
        paper="https://arxiv.org/abs/2205.01068",
        summary="Causal decoder with learned positions counted over unmasked tokens; embeddings may be narrower.",
        tasks=("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
}
