"""The catalogue's entry of xlm-roberta-xl."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "xlm-roberta-xl": Entry(
        config="options:XLMRobertaXLConfig",
        architecture="architecture:XLM_ROBERTA_XL",
        paper="https://arxiv.org/abs/2105.00572",
        summary=(
            "Larger xlm-roberta with norms in front of the sublayers, one behind the last layer, none on the "
            "embeddings."
        ),
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
