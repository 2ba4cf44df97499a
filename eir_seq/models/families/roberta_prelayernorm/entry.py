"""The catalogue's entry of roberta-prelayernorm."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "roberta-prelayernorm": Entry(
        config="options:RobertaPreLayerNormConfig",
        architecture="architecture:ROBERTA_PRELAYERNORM",
        paper="https://arxiv.org/abs/1904.01038",
        summary="Pre-norm roberta with a final norm.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
