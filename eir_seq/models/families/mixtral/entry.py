"""The catalogue's entry of mixtral."""

from eir_seq.models.entry import GROUPED, TEXT_TASKS, Entry, Export

ENTRIES = {
    "mixtral": Entry(
        config="options:MixtralConfig",
        architecture="architecture:MIXTRAL",
        paper="https://arxiv.org/abs/2401.04088",
        summary="Llama with a mixture of experts in place of each feed-forward block; top-k routing.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
        export=Export(operations=GROUPED),
    ),
}
