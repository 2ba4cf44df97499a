"""The catalogue's entry of mixtral."""

from eir_seq.models.entry import GROUPED, TEXT_TASKS, Entry, Export

ENTRIES = {
    "mixtral": Entry(
        config="options:MixtralConfig",
        architecture="architecture:MIXTRAL",
        paper="https://arxiv.org/abs/2401.04088",
        summary="Llama whose feed-forward blocks are experts, of which every token goes through a few.",
        tasks=("base", "causal-lm", *TEXT_TASKS[:3]),
        export=Export(operations=GROUPED),
    ),
}
