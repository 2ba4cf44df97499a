"""The catalogue's entry of xlm-roberta-xl."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "xlm-roberta-xl": Entry(
        config="options:XLMRobertaXLConfig",
        architecture="architecture:XLM_ROBERTA_XL",
        paper="https://arxiv.org/abs/2105.00572",
        summary="Larger pre-norm xlm-roberta with a final norm and no norm on the embeddings.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
