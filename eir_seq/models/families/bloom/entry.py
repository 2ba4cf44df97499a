"""The catalogue's entry of bloom."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "bloom": Entry(
        config="options:BloomConfig",
        architecture="architecture:BLOOM",
        paper="https://arxiv.org/abs/2211.05100",
        summary="Causal decoder with ALiBi: scores fall linearly with distance, so texts may have any length.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
}
