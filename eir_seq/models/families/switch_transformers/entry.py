"""The catalogue's entry of switch_transformers."""

from eir_seq.models.entry import GROUPED, T5_TASKS, Entry, Export

ENTRIES = {
    "switch_transformers": Entry(
        config="options:SwitchTransformersConfig",
        architecture="architecture:SWITCH_TRANSFORMERS",
        paper="https://arxiv.org/abs/2101.03961",
        summary="T5 with a mixture of experts in some layers; switch routing (one expert per token).",
        tasks=T5_TASKS[:3],
        export=Export(operations=GROUPED),
    ),
}
