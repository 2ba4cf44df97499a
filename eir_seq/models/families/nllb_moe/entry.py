"""The catalogue's entry of nllb-moe."""

from eir_seq.models.entry import GROUPED, PAIR_TASKS, Entry, Export

ENTRIES = {
    "nllb-moe": Entry(
        config="options:NllbMoeConfig",
        architecture="architecture:NLLB_MOE",
        paper="https://arxiv.org/abs/2207.04672",
        summary="M2m_100 for two hundred languages with a mixture of experts and top-2 routing.",
        tasks=PAIR_TASKS[:3],
        export=Export(operations=GROUPED),
    ),
}
