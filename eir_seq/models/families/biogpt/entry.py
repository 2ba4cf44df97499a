"""The catalogue's entry of biogpt."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "biogpt": Entry(
        config="options:BioGptConfig",
        architecture="architecture:BIOGPT",
        paper="https://arxiv.org/abs/2210.10341",
        summary="Causal decoder with scaled embeddings and learned positions, pretrained on biomedical abstracts.",
        tasks=("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
}
