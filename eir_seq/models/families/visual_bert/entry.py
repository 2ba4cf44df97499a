"""The catalogue's entry of visual_bert."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "visual_bert": Entry(
        config="options:VisualBertConfig",
        architecture="architecture:VISUAL_BERT",
        paper="https://arxiv.org/abs/1908.03557",
        summary="Bert over a text followed by regions of an image (visual_embeds ...).",
        tasks=(
            "base",
            "pretraining",
            "visual-question-answering",
            "visual-reasoning",
            "region-to-phrase-alignment",
            "multiple-choice",
        ),
        pooler=True,
        tensors=("visual_embeds",),
    ),
}
