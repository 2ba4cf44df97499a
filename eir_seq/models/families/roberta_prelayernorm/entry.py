"""The catalogue's entry of roberta-prelayernorm."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "roberta-prelayernorm": Entry(
        config="options:RobertaPreLayerNormConfig",
        architecture="architecture:ROBERTA_PRELAYERNORM",
        paper="https://arxiv.org/abs/1904.01038",
        summary="Roberta with norms in front of the sublayers and one behind the last layer.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
