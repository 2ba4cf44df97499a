"""The catalogue's entry of ibert."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "ibert": Entry(
        config="options:IBertConfig",
        architecture="architecture:IBERT",
        paper="https://arxiv.org/abs/2101.01321",
        summary="Roberta that can compute in integers only (quant_mode), for hardware without floating point.",
        tasks=(
            "base",
            "masked-lm",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
        pooler=True,
    ),
}
