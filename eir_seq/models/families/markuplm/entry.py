"""The catalogue's entry of markuplm."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "markuplm": Entry(
        config="options:MarkupLMConfig",
        architecture="architecture:MARKUPLM",
        paper="https://arxiv.org/abs/2110.08518",
        summary="Bert that also embeds the XPath of every token's node (xpath_tags_seq, xpath_subs_seq).",
        tasks=("base", "sequence-classification", "token-classification", "question-answering"),
        pooler=True,
        tensors=("xpaths",),
    ),
}
