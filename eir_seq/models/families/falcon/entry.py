"""The catalogue's entry of falcon."""

from eir_seq.models.entry import TEXT_TASKS, Entry

ENTRIES = {
    "falcon": Entry(
        config="options:FalconConfig",
        architecture="architecture:FALCON",
        paper="https://arxiv.org/abs/2311.16867",
        summary="Causal decoder with multi-query (or grouped-query) attention in parallel with its feed-forward block.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
}
