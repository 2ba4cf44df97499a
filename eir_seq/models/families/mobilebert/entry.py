"""The catalogue's entry of mobilebert."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "mobilebert": Entry(
        config="options:MobileBertConfig",
        architecture="architecture:MOBILEBERT",
        paper="https://arxiv.org/abs/2004.02984",
        summary="Thin bert with trigram embeddings, bottlenecks and several feed-forward blocks per layer.",
        tasks=(
            "base",
            "masked-lm",
            "next-sentence",
            "pretraining",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
        pooler=True,
    ),
}
