"""The catalogue's entry of opt."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "opt": Entry(
        config="options:OPTConfig",
        architecture="architecture:OPT",
        paper="https://arxiv.org/abs/2205.01068",
        summary=(
            "Causal decoder with learned positions of the tokens that are not masked, whose token vectors may be "
            "narrower."
        ),
        tasks=("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
}
