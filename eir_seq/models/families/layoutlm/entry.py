"""The catalogue's entry of layoutlm."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "layoutlm": Entry(
        config="options:LayoutLMConfig",
        architecture="architecture:LAYOUTLM",
        paper="https://arxiv.org/abs/1912.13318",
        summary="Bert that also embeds the bounding box of every token on its page (bbox).",
        tasks=("base", "masked-lm", "sequence-classification", "token-classification", "question-answering"),
        pooler=True,
        tensors=("bbox",),
    ),
}
