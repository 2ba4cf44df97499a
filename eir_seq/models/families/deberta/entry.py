"""The catalogue's entry of deberta."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "deberta": Entry(
        config="options:DebertaConfig",
        architecture="architecture:DEBERTA",
        paper="https://arxiv.org/abs/2006.03654",
        summary="Encoder with disentangled attention: scores add content-to-content and content-to-position terms.",
        tasks=("base", "masked-lm", "sequence-classification", "token-classification", "question-answering"),
    ),
}
