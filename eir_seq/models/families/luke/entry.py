"""The catalogue's entry of luke."""

from eir_seq.models.entry import Entry

ENTRIES = {
    "luke": Entry(
        config="options:LukeConfig",
        architecture="architecture:LUKE",
        paper="https://arxiv.org/abs/2010.01057",
        summary="Roberta that also reads entities of the text (entity_ids, entity_position_ids ...).",
        tasks=(
            "base",
            "masked-lm",
            "entity-classification",
            "entity-pair-classification",
            "entity-span-classification",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
        pooler=True,
        tensors=("entities",),
    ),
}
