"""The catalogue's entry of roc_bert."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "roc_bert": Entry(
        config="options:RoCBertConfig",
        architecture="architecture:ROC_BERT",
        paper="https://aclanthology.org/2022.acl-long.65.pdf",
        summary="Chinese bert with glyph and pronunciation embeddings (input_shape_ids, input_pronunciation_ids).",
        tasks=("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
        pooler=True,
        tensors=("input_shape_ids", "input_pronunciation_ids"),
    ),
}
